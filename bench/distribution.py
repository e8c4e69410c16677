"""Several processes for one run: the options, what they mean together, what is refused. Knows nothing of TensorFlow.

The words are those of tf_cnn_benchmarks (--variable_update, --ps_hosts, --worker_hosts, --job_name, --task_index) and
of slim (--sync_replicas, --replicas_to_aggregate); --num_workers, which starts the processes by itself, is new.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping

from bench.errors import UsageError, number
from bench.options import DataOptions, StepOptions, option
from bench.runners import cluster

LOCAL, REPLICATED, PARAMETER_SERVER, HOROVOD, INDEPENDENT = KINDS = (
    'local',
    'replicated',
    'parameter_server',
    'horovod',
    'independent',
)
OF_SEVERAL_PROCESSES = (PARAMETER_SERVER, HOROVOD, INDEPENDENT)
# What has a meaning with one kind alone.
_OF_ONE_KIND = {
    HOROVOD: ('compression', 'fusion_threshold_mb', 'cycle_time_ms', 'batch_norm_statistics'),
    PARAMETER_SERVER: (
        'num_ps',
        'sync_replicas',
        'replicas_to_aggregate',
        'ps_placement',
        'job_name',
        'task_index',
        'ps_hosts',
        'worker_hosts',
        'wait_seconds',
    ),
}
# How launchers tell a process its number and how many there are, in all and on its machine: horovodrun, Open MPI's
# mpirun, MPICH's and Intel's.
_LAUNCHERS = (
    ('HOROVOD_RANK', 'HOROVOD_SIZE', 'HOROVOD_LOCAL_RANK', 'HOROVOD_LOCAL_SIZE'),
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE'),
    ('PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS'),
)
# A process that this program started itself has this in its environment (bench/runners/member.py).
JOB = 'TF_BENCH_JOB'
# Horovod's own defaults, 1 ms and 128 MiB, suit GPUs. A thread that wakes up every millisecond disturbs computing on
# the same processors, and pieces of 16 MiB were measured to be exchanged sooner (results/baselines/README.md).
_CYCLE_TIME_MS = 20.0
_FUSION_THRESHOLD_MB = 16.0
_NO_BASELINE = '--scaling_baseline is for processes that this program starts itself; leave it out.'
# More workers, or copies in one, would hardly be meant, and would bring a machine down or be built for minutes.
_MOST_FOR_A_CPU = 8


@dataclasses.dataclass(frozen=True)
class DistributionOptions:
    """Several processes"""

    variable_update: str | None = option(
        None,
        'How processes share variables: local, one process alone; horovod, copies whose gradients are averaged; '
        'parameter_server; replicated, copies within one process; independent, copies that share nothing. Where not '
        'given parameter_server with --job_name or a TF_CONFIG of several processes, or else local for one worker and '
        'horovod for several.',
        choices=KINDS,
    )
    num_workers: int | None = option(
        None,
        'Processes that compute, each with a batch of its own; started on this machine, each on its share of the '
        'processors. 1 where not given.',
        minimum=1,
    )
    num_ps: int | None = option(
        None, 'Parameter servers that are started on this machine; 1 where not given.', minimum=1, maximum=64
    )
    sync_replicas: bool = option(
        True,
        'Parameter servers average the gradients of all workers before an update; --nosync_replicas updates with each '
        'as it comes.',
        aliases=('cross_replica_sync',),
    )
    replicas_to_aggregate: int | None = option(
        None,
        'Gradients that parameter servers average before an update; as many as workers where not given.',
        minimum=1,
    )
    ps_placement: str = option(
        'round_robin', 'How variables are shared among parameter servers.', choices=('round_robin', 'size')
    )
    job_name: str | None = option(
        None,
        'What this process is, in a job on several machines: ps or worker; as TF_CONFIG in the environment says where '
        'not given.',
        choices=(cluster.SERVER, cluster.WORKER),
    )
    task_index: int = option(0, 'Which of its job this process is.', minimum=0)
    ps_hosts: str | None = option(None, 'Comma-separated HOST:PORT of all parameter servers.', commas=True)
    worker_hosts: str | None = option(None, 'Comma-separated HOST:PORT of all workers.', commas=True)
    wait_seconds: float = option(
        120.0, 'How long processes with parameter servers wait for those that are missing.', above=0, maximum=86_400
    )
    compression: str = option(
        'none', 'What Horovod exchanges: gradients as they are, or in 16 bits.', choices=('none', 'fp16')
    )
    fusion_threshold_mb: float | None = option(
        None,
        f'Gradients that Horovod exchanges as one, MiB; {_FUSION_THRESHOLD_MB:g} where not given, 0 never.',
        minimum=0,
        maximum=4096,
    )
    cycle_time_ms: float | None = option(
        None,
        f'How often Horovod looks for gradients to exchange, ms; {_CYCLE_TIME_MS:g} where not given.',
        minimum=0,
        maximum=10_000,
    )
    batch_norm_statistics: str = option(
        'local',
        "Batch norm's moving averages with Horovod: each worker's own, or averaged in every step.",
        choices=('local', 'averaged'),
    )
    scaling_baseline: bool = option(
        False, 'Time one worker on the same processors before, to tell how well several scale.'
    )

    @property
    def kind(self) -> str:
        """What variable_update is or stands for."""
        if self.variable_update is None and self.job_name is not None:
            return PARAMETER_SERVER
        return self.variable_update or (HOROVOD if (self.num_workers or 1) > 1 else LOCAL)

    @property
    def workers(self) -> int:
        """How many processes compute, or copies where they are in one process."""
        return self.num_workers or 1

    @property
    def replicas(self) -> int:
        """Copies of the network in one process."""
        return self.workers if self.kind == REPLICATED else 1

    @property
    def is_synchronous(self) -> bool:
        """Whether all workers do each step together."""
        if self.kind == PARAMETER_SERVER:
            return self.sync_replicas and self.replicas_to_aggregate in (None, self.workers)
        return self.kind != INDEPENDENT

    def meant(self, environ: Mapping[str, str]) -> DistributionOptions:
        """The same with what the environment says of the kind, where flags say nothing of it.

        Each of several processes of horovodrun's or mpirun's would look like one by itself otherwise, and so would one
        that TF_CONFIG gives a place among others.
        """
        if JOB in environ or self.job_name is not None or self.variable_update not in (None, HOROVOD):
            return self
        place = launched(environ)
        if place is not None and place.size > 1:
            return dataclasses.replace(self, num_workers=place.size)
        if self.variable_update is None and cluster.processes(environ) > 1:
            return dataclasses.replace(self, variable_update=PARAMETER_SERVER)
        return self

    def resolved(self, environ: Mapping[str, str]) -> DistributionOptions:
        """The same with every default filled in, as this process and all others of the run have it."""
        place, meant = launched(environ), self.meant(environ)
        own = dataclasses.replace(meant, num_workers=place.size if place else meant.workers)
        if own.kind == LOCAL:
            return self
        own = dataclasses.replace(own, variable_update=own.kind)
        if own.kind == PARAMETER_SERVER:
            place_among = cluster.of(own, environ)
            if place_among is None:
                return dataclasses.replace(own, num_ps=own.num_ps or 1)
            return dataclasses.replace(
                own,
                job_name=place_among.job,
                task_index=place_among.task,
                ps_hosts=','.join(place_among.servers),
                worker_hosts=','.join(place_among.workers),
                num_ps=len(place_among.servers),
                num_workers=len(place_among.workers),
            )
        if own.kind != HOROVOD:
            return own
        cycle, threshold = environ.get('HOROVOD_CYCLE_TIME'), environ.get('HOROVOD_FUSION_THRESHOLD')
        if own.cycle_time_ms is None:
            own = dataclasses.replace(own, cycle_time_ms=float(cycle) if cycle else _CYCLE_TIME_MS)
        if own.fusion_threshold_mb is None:
            megabytes = int(threshold) / 2**20 if threshold else _FUSION_THRESHOLD_MB
            own = dataclasses.replace(own, fusion_threshold_mb=megabytes)
        return own


@dataclasses.dataclass(frozen=True)
class Launched:
    """A process that horovodrun or mpirun started: its number and how many there are, in all and on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def launched(environ: Mapping[str, str]) -> Launched | None:
    """What horovodrun or mpirun tell this process, or None where they did not start it."""
    if JOB in environ:
        return None
    for names in _LAUNCHERS:
        texts = [environ.get(name, '') for name in names]
        if texts[0].isdecimal() and texts[1].isdecimal():
            numbers = [
                int(text) if text.isdecimal() else default for text, default in zip(texts, (0, 1, 0, 1), strict=True)
            ]
            return Launched(*numbers)
    return None


def starts_processes(options: DistributionOptions, environ: Mapping[str, str]) -> bool:
    """Whether this process starts those that compute, and does not compute itself."""
    meant = options.meant(environ)
    if JOB in environ or launched(environ) or cluster.of(meant, environ):
        return False
    return meant.kind in OF_SEVERAL_PROCESSES


def problems(
    options: DistributionOptions, step: StepOptions, data: DataOptions, environ: Mapping[str, str], usable_cpus: int
) -> list[str]:
    """What cannot be among these options, with the others and in this environment, each as a sentence."""
    typed, options = options, options.meant(environ)
    found = _without_effect(options) + _launcher_problems(typed, environ)
    kind = options.kind
    if kind == LOCAL and options.workers > 1:
        found.append(
            f'--num_workers={options.num_workers} with --variable_update=local: that is one process. Use horovod, '
            'parameter_server, replicated or independent.'
        )
    found += _many_problems(options, step, environ, usable_cpus)
    if kind not in (LOCAL, INDEPENDENT):
        count = max(2, options.workers)
        how = f'--variable_update=independent runs it on {count} workers at the same time.'
        if launched(environ):
            how = f'without horovodrun or mpirun, --num_workers={count} {how}'
        for name in ('forward_only', 'input_only'):
            if getattr(step, name, False) or getattr(data, name, False):
                found.append(f'--{name} learns nothing that workers could share; {how}')
    if kind == HOROVOD:
        found += _horovod_problems(options, environ)
    if kind == PARAMETER_SERVER:
        found += _server_problems(options, environ)
    if kind == REPLICATED and step.num_clones > 1:
        found.append(
            f'--num_clones={step.num_clones}: with --variable_update=replicated --num_workers is the number of copies.'
        )
    return found


def _many_problems(
    options: DistributionOptions, step: StepOptions, environ: Mapping[str, str], usable_cpus: int
) -> list[str]:
    """Workers, copies or clones that are too many for this machine."""
    copies, most = options.kind == REPLICATED, _MOST_FOR_A_CPU * usable_cpus
    usable, found = f'{number(usable_cpus, "processor is", "processors are")} usable here', []
    # Who is one of several processes did not start them, and may have but a part of the machine.
    if options.workers > most and (copies or not (JOB in environ or launched(environ))):
        what = 'copies' if copies else 'workers'
        found.append(f'--num_workers={options.num_workers}: {usable}. Use at most {most} {what}.')
    if step.num_clones > most and JOB not in environ:
        found.append(f'--num_clones={step.num_clones}: {usable}. Use at most {most} clones.')
    return found


def _launcher_problems(options: DistributionOptions, environ: Mapping[str, str]) -> list[str]:
    """What does not fit being one of several processes that horovodrun or mpirun started."""
    place = launched(environ)
    if place is None or _has_a_cluster(options, environ):
        return []
    size, started = place.size, f'horovodrun or mpirun started {number(place.size, "process", "processes")}'
    found = []
    if options.num_workers not in (None, size):
        found.append(f'--num_workers={options.num_workers}: {started}. Leave the flag out.')
    kind = dataclasses.replace(options, num_workers=size).kind
    if size > 1 and kind != HOROVOD:
        found.append(f'--variable_update={kind}: {started}, which share variables as --variable_update=horovod.')
    elif kind in (PARAMETER_SERVER, INDEPENDENT):
        found.append(f'--variable_update={kind}: {started}, and the program starts those by itself. Run it by itself.')
    if options.scaling_baseline and size > 1:
        found.append(_NO_BASELINE)
    return found


def _has_a_cluster(options: DistributionOptions, environ: Mapping[str, str]) -> bool:
    """Whether flags or TF_CONFIG tell this process's place, rightly or not; the launcher's does not count then."""
    try:
        return cluster.of(options.meant(environ), environ) is not None
    except UsageError:
        return True


def _server_problems(options: DistributionOptions, environ: Mapping[str, str]) -> list[str]:
    """What does not fit a job with parameter servers, or this process's place in one."""
    try:
        place = cluster.of(options, environ)
    except UsageError as error:
        return list(error.problems)
    found = []
    if options.replicas_to_aggregate is not None and not options.sync_replicas:
        found.append('--replicas_to_aggregate has no effect with --nosync_replicas; leave it out.')
    if options.job_name is None:
        instead = ' TF_CONFIG in the environment tells all of that; leave the flag out.' if place else ''
        found += [
            f'--{name} has no effect without --job_name, which tells what this process is among those hosts.{instead}'
            for name in ('task_index', 'ps_hosts', 'worker_hosts')
            if getattr(options, name)
        ]
    if place is None:
        return found
    for name, hosts in (('num_ps', place.servers), ('num_workers', place.workers)):
        if getattr(options, name) not in (None, len(hosts)):
            found.append(
                f'--{name}={getattr(options, name)}, and {len(hosts)} are named: it is for processes that are started '
                'on this machine. Leave it out.'
            )
    if options.scaling_baseline:
        found.append(_NO_BASELINE)
    return found


def _horovod_problems(options: DistributionOptions, environ: Mapping[str, str]) -> list[str]:
    found = []
    if importlib.util.find_spec('horovod') is None:
        found.append('--variable_update=horovod needs Horovod, which is not installed here: make setup')
    for name, variable, factor in (
        ('cycle_time_ms', 'HOROVOD_CYCLE_TIME', 1.0),
        ('fusion_threshold_mb', 'HOROVOD_FUSION_THRESHOLD', 2**20),
    ):
        given, text = getattr(options, name), environ.get(variable)
        if text is None:
            continue
        try:
            value = float(text) if name == 'cycle_time_ms' else int(text)
        except ValueError:
            found.append(f'{variable}={text} in the environment is no number. Unset it.')
            continue
        if given is not None and given * factor != value:
            found.append(f'--{name}={given:g} and {variable}={text} in the environment differ. Give one of them.')
    return found


def _without_effect(options: DistributionOptions) -> list[str]:
    """Flags that nothing would read."""
    given = {field.name for field in dataclasses.fields(options) if getattr(options, field.name) != field.default}
    found = [
        f'--{name} has no effect with --variable_update={options.kind}: it is for {kind}. Leave it out.'
        for kind, names in _OF_ONE_KIND.items()
        if kind != options.kind
        for name in names
        if name in given
    ]
    if options.scaling_baseline and options.kind == REPLICATED:
        found.append('--scaling_baseline is for several processes, and replicas are in one; leave it out.')
    elif options.scaling_baseline and options.workers == 1:
        found.append('--scaling_baseline has no effect with one worker; leave it out or give --num_workers.')
    return found
