"""The command `benchmark` in a process that starts others, which compute: their plan, their end, their one record.

It never loads TensorFlow: the processors and the memory are for those that compute.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import platform
import signal
from collections.abc import Iterator, Sequence

from bench import distribution, flags, record, settings
from bench.config import BenchmarkConfig
from bench.errors import BenchError, UsageError
from bench.machine import container, cores, cpu, environment, memory
from bench.record import Json
from bench.runners import folder as folders
from bench.runners import launch, member, merge, rendezvous, report, servers
from bench.runners.launch import End, Member
from bench.runners.member import Place
from bench.runners.stop import StopRequest
from bench.screen import Screen

_SIGKILL = ', as the kernel does it where memory runs out'


def run(config: BenchmarkConfig, words: Sequence[str]) -> int:
    """Runs the job, writes its record, prints the summary.

    Args:
      words: of the command line, for the record.

    Returns:
      The exit status: 0, or 1 where the run was interrupted or its lines could not be written.

    Raises:
      BenchError: the job failed; what was measured until then is in a record.
      UsageError: what was asked for cannot be, as the processes found out.
    """
    network, dataset = report.chosen(config)
    started = datetime.datetime.now(datetime.timezone.utc)
    with Screen(to_stderr=config.output.json) as screen, StopRequest() as stop:
        places = _places(config.distribution.workers)
        resolved = config.resolved(network, dataset, places[0].threads(cpu.usable_cpus()))
        alone, is_given = None, config.network.batch_size is not None
        if config.distribution.scaling_baseline:
            screen.line('One worker on the same processors')
            single = _single(config, config.resolved(network, dataset, cpu.usable_cpus()), resolved)
            alone = _done(single, _places(1), screen, stop, batch_is_given=is_given)
            if alone['ended']['status'] != 'completed':
                raise BenchError(f'The baseline of one worker: {alone["ended"]["reason"]}')
            screen.line(f'{len(places)} workers')
        written = _done(resolved, places, screen, stop, batch_is_given=is_given)
        resolved = _with_batch(resolved, written)
        applied = settings.told(config, words)
        written |= {'command': ['run_benchmark.py', *words], 'settings': applied}
        written['warnings'] += settings.warnings(applied, resolved)
        if alone and written['throughput'] and alone['throughput']:
            _compare(written, alone)
        stop.finish()
        return report.conclude(written, resolved, started, screen)


def _with_batch(config: BenchmarkConfig, seen: Json) -> BenchmarkConfig:
    """The configuration with the batch that a record tells: workers reduce a default one where memory is limited."""
    batch = seen['config']['network']['batch_size']
    return dataclasses.replace(config, network=dataclasses.replace(config.network, batch_size=batch))


def _compare(written: Json, alone: Json) -> None:
    """Puts into a job's record how well it scales, or why that cannot be told."""
    batches = [each['config']['network']['batch_size'] for each in (written, alone)]
    if batches[0] == batches[1]:
        written['distribution']['scaling'] = merge.scaling(written['throughput'], alone['throughput'])
        return
    text = (
        f'How well the job scales is not told: the limit of memory left each worker a batch of {batches[0]}, and one '
        f'by itself {batches[1]}. Give --batch_size={min(batches)}.'
    )
    written['warnings'].append({'code': 'baseline_of_another_batch', 'text': text})


def _single(typed: BenchmarkConfig, single: BenchmarkConfig, job: BenchmarkConfig) -> BenchmarkConfig:
    """The configuration of one worker, with as many threads as all of the job have together.

    They are no more than the processors, unless more were asked for: workers that share a processor have one each.
    """
    threads = (job.threads.num_intra_threads or 1) * job.distribution.workers
    if typed.threads.num_intra_threads is None:
        threads = min(threads, single.threads.num_intra_threads or 1)
    return dataclasses.replace(
        single,
        threads=dataclasses.replace(single.threads, num_intra_threads=threads),
        distribution=distribution.DistributionOptions(),
    )


def _places(workers: int) -> list[Place]:
    """Where each worker computes, without the folder of the job, which is not made yet."""
    cpus = cores.allowed()
    shares = cores.shares(workers, cpus) if cpus else [()] * workers
    return [Place(None, rank, workers, workers, share, cpus) for rank, share in enumerate(shares)]


def _done(
    config: BenchmarkConfig, places: Sequence[Place], screen: Screen, stop: StopRequest, *, batch_is_given: bool
) -> Json:
    """Runs the processes of a (resolved) configuration and gives their record, without the command that was typed.

    Args:
      batch_is_given: or else it is the network's default, which the processes may reduce, all alike.

    Raises:
      UsageError: what was asked for cannot be, as the processes found out.
      KeyboardInterrupt: the user's wish came before anything was measured.
    """
    screen.progress(f'starting {len(places)} workers')
    started = datetime.datetime.now(datetime.timezone.utc)
    with folders.shared() as folder:
        placed = [dataclasses.replace(place, folder=folder) for place in places]
        with _members(config, placed, batch_is_given=batch_is_given) as members:
            ends = launch.run(members, screen, lambda: stop.requested)
        parts = member.parts(folder, len(places))
    if stop.requested and not parts:
        raise KeyboardInterrupt
    failure = _failure(ends, parts)
    if failure and all(end.status == UsageError.exit_status for end in ends if end.failed):
        first = next(end for end in ends if end.failed)
        raise UsageError([line.removeprefix('error: ') for line in first.last_lines if line.startswith('error: ')])
    if parts:
        found = [parts[rank] for rank in sorted(parts)]
        written = merge.merged(found, workers=len(places), synchronous=config.distribution.is_synchronous)
        config = _with_batch(config, written)
    else:
        written = _empty(config, started)
    gone = [end for end in ends if end.member.place.rank not in (*parts, None)]
    written['workers'] += [dataclasses.asdict(_unknown(end)) | {'throughput': None} for end in gone]
    written['workers'].sort(key=lambda worker: worker['rank'])
    if stop.requested and not failure:
        written['ended'] |= {'status': 'interrupted', 'reason': 'interrupted'}
    elif failure or gone:
        failure = failure or ' '.join(_told(end, None) for end in gone)
        written['ended'] = {'time': _now(), 'status': 'failed', 'reason': failure}
    # Workers see no more of the machine than their share.
    return {**written, 'repeat': report.repeat(config), 'config': dataclasses.asdict(config), **_machine()}


@contextlib.contextmanager
def _members(config: BenchmarkConfig, places: Sequence[Place], *, batch_is_given: bool) -> Iterator[list[Member]]:
    """The processes of a job, and while it is entered what they need of this one."""
    network = config.network if batch_is_given else dataclasses.replace(config.network, batch_size=None)
    theirs = dataclasses.replace(
        settings.written_out(config),
        network=network,
        output=dataclasses.replace(config.output, json=False),
        distribution=dataclasses.replace(config.distribution, scaling_baseline=False),
        # What this process is bound to they are bound to as well.
        machine=dataclasses.replace(config.machine, cpu_affinity=None, numa_node=None),
    )
    words = ['benchmark', *flags.words(theirs)]
    with contextlib.ExitStack() as stack:
        environments: list[dict[str, str]] = [{} for _ in places]
        if config.distribution.kind == distribution.PARAMETER_SERVER:
            yield stack.enter_context(servers.members(config.distribution, places, words))
            return
        if config.distribution.kind == distribution.HOROVOD:
            environments = stack.enter_context(rendezvous.local(len(places)))
        yield [
            Member(str(place.rank), f'worker {place.rank}', place, words, added)
            for place, added in zip(places, environments, strict=True)
        ]


def _failure(ends: Sequence[End], parts: dict[int, Json]) -> str | None:
    """Who failed first, how, and what it printed last; None where nobody did."""
    failed = [end for end in ends if end.failed]
    if not failed:
        return None
    # One that was ended within a step knows nothing of what came of the job.
    parts = {rank: part for rank, part in parts.items() if not part['unfinished']}
    # Others that fail because one is gone are not the reason, nor are those that wait for one that hangs.
    causes = [end for end in failed if not parts.get(_rank(end), {}).get('lost')]
    if not causes:
        # One that others could not reach, but that went on.
        causes = [end for end in ends if end.asked and _rank(end) not in parts] or failed
    for sign in ('is stopped', 'computes'):
        causes = [end for end in causes if sign in end.hang] or causes
    # A server that was not killed may have ended because a worker told it of its own failure, which takes that longer.
    causes.sort(key=lambda end: (not end.hang, end.status > 0, end.member.place.rank is None))
    # Several that fail by themselves fail alike; of several that hang, each may be the one that the others wait for.
    hanging = [end for end in causes if end.hang]
    return '\n'.join(_told(end, parts.get(_rank(end))) for end in hanging or causes[:1])


def _told(end: End, part: Json | None) -> str:
    """What became of a process, and its last lines where it does not say so itself."""
    name = end.member.name[0].upper() + end.member.name[1:]
    # A server does no steps, and prints nothing as long as all is well.
    is_server = end.member.place.rank is None
    after = f'after {end.steps} steps' if end.steps else 'before its first step'
    when = '' if is_server else f', {after}'
    if end.hang:
        text = f'{name} {end.hang}{when}.'
    elif part is not None and part['record']['ended']['status'] == 'failed':
        return f'{name} failed {after}: {part["record"]["ended"]["reason"]}'
    elif end.asked:
        text = f'{name} was not reached by the others any more{when}.'
    elif end.status < 0:
        kind = signal.Signals(-end.status)
        text = f'{name} was killed by {kind.name}{_SIGKILL if kind == signal.SIGKILL else ""}{when}.'
    else:
        text = f'{name} ended with exit status {end.status}{when}.'
    lines = [f'  {line}' for line in end.last_lines if line.strip()]
    if lines:
        return '\n'.join([f'{text} Its last lines:', *lines])
    return text if is_server else f'{text} It printed nothing.'


def _rank(end: End) -> int:
    """Of a worker; -1 for a server."""
    return -1 if end.member.place.rank is None else end.member.place.rank


def _unknown(end: End) -> record.Worker:
    """The part of a worker that left without telling."""
    return record.Worker(_rank(end), platform.node(), end.pid, (), (), (), None, end.member.place.cpus)


def _empty(config: BenchmarkConfig, started: datetime.datetime) -> Json:
    """The record of a job of which nothing was seen; of which build, only those who are gone could tell."""
    return record.assemble(
        started=started,
        ended={'time': _now(), 'status': 'failed', 'reason': ''},
        command=(),
        repeat='',
        config=config,
        machine=_machine()['machine'],
        build=None,
        environment=environment.variables(),
        tuning=[],
        container=container.facts(),
        workers=[],
        images_per_step=config.images_per_step * config.distribution.workers,
        machine_rates=None,
        achieved=None,
        settings=None,
        warnings=[],
    )


def _machine() -> Json:
    """The record's fields of the whole machine."""
    found = {'cpu': cpu.facts(), 'memory': memory.facts(), 'kernel': platform.release()}
    return {'machine': found, 'machine_fingerprint': record.fingerprint(found)}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')
