"""The command `benchmark` in the process that computes: facts, step, measurement, record, summary."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from bench import distribution, record, settings
from bench.config import BenchmarkConfig
from bench.errors import BenchError
from bench.machine import capabilities, container, cores, cpu, environment, memory, noise, tuning
from bench.models import registry
from bench.runners import agreement, cluster, job, member, merge, report, timing
from bench.runners.stop import StopRequest
from bench.runners.unfinished import Unfinished
from bench.screen import Screen

# Of the peak: more than the two vary by.
_HIGHEST_FRACTION = 1.05
# For which a server goes on when it is stopped: docker/compose.yaml waits longer before it kills.
_SECONDS_FOR_WORKERS = 60.0
_WITHIN_A_STEP = 'It was ended within a step.'


def run(config: BenchmarkConfig, words: Sequence[str]) -> int:
    """Measures, writes the record, prints the summary; in one of several processes, its part of these.

    Args:
      words: of the command line, for the record.

    Returns:
      The exit status: 0, or 1 where the run was interrupted or its lines could not be written.

    Raises:
      BenchError: the run failed; what was measured until then is in a record.
      NotMetError: the processes of a job did not find each other; there is no record.
    """
    if distribution.starts_processes(config.distribution, os.environ):
        return job.run(config, words)
    place = _place(config.distribution)
    if place is not None and place.folder is not None:
        member.end_with_parent(os.environ)
    if place is not None and place.rank is None:
        return _serve(config, place)
    network, dataset = report.chosen(config)
    usable = cpu.usable_cpus()
    usable = place.threads(usable) if place else usable
    limit = _limit_of_a_default_batch(config, place)
    config = config.resolved(network, dataset, usable)
    memory.limit_arenas(usable)
    given, applied = environment.variables(), settings.told(config, words)
    # What synchronous workers have to say is the same.
    silent = place is not None and place.rank != 0 and config.distribution.is_synchronous
    with Screen(to_stderr=config.output.json, silent=silent) as screen:
        screen.progress('loading TensorFlow')
        # Only here, because it takes seconds: everything that can be refused has been.
        from bench.data import trouble
        from bench.runners import execution, footprint

        with cores.pinned(place.cpus if place else ()):  # where threads are made, there they stay
            execution.begin(config)
        config, reduced = footprint.fitted(config, network, limit)
        for warning in reduced:
            if warning['code'] == footprint.MAY_BE_KILLED:
                screen.line(f'warning: {warning["text"]}')
        if dataset is not None and config.data.skip_bad_records:
            dataset = trouble.without_bad_records(dataset, config.data.skip_bad_records, screen)
        started = datetime.datetime.now(datetime.timezone.utc)
        return _done(_Run(config, words, started, given, applied, reduced, dataset, place), network, screen, silent)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a record says of a run besides what was seen.

    Attributes:
      config: resolved.
      words: of the command line.
      given: variables in the environment, as the user set them.
      applied: what a settings file brought.
      reduced: warnings of a batch that memory did not allow.
      place: of this process among several; None where it is the only one.
    """

    config: BenchmarkConfig
    words: Sequence[str]
    started: datetime.datetime
    given: dict[str, str]
    applied: record.Json | None
    reduced: list[record.Json]
    dataset: Any
    place: member.Place | None


def _done(run: _Run, network: registry.Network, screen: Screen, silent: bool) -> int:
    """Measures and leaves what was seen; gives the exit status."""
    from bench.runners import execution, strategy

    config, place = run.config, run.place
    is_collected = place is not None and place.folder is not None
    # Processes that were started one by one have a terminal each, or somebody who reads their status. horovodrun and
    # mpirun pass signals on to all, and end all when one has failed, as the first worker may be writing the record.
    is_by_itself = config.distribution.kind == distribution.PARAMETER_SERVER and not is_collected
    progress, unfinished = member.Progress(place), Unfinished()
    # Who started this process insists where its step does not end, because another one is stopped, say.
    leave = functools.partial(unfinished.end, '') if is_collected else None
    # Until the record is written, so that a second thought cannot lose what was measured.
    with StopRequest(answering=is_by_itself or not (silent or is_collected), leave=leave) as stop:
        # Those that this program started have its flags.
        terms = agreement.terms(dataclasses.asdict(config)) if place and not is_collected else None
        shared = strategy.of(
            config.distribution, place, screen, progress, lambda: stop.requested, unfinished.end, terms=terms
        )
        unfinished.begin(lambda lost: _leave(run, unfinished, shared, screen, stop, lost))
        with cores.pinned(place.cpus if place else ()):
            seen = execution.execute(
                config, network, run.dataset, screen, lambda: stop.requested, shared, progress, unfinished
            )
        unfinished.seen = lambda: seen
        part = _part(run, seen, shared)
        if place is not None and is_collected:
            stop.finish()
            unfinished.finish()
            member.report(place, part)
            return 1 if seen.error else 0
        written = part['record']
        if place is not None and config.distribution.kind != distribution.LOCAL:
            merged = _merged(part, seen.error, shared)
            if merged is None:
                return 1 if is_by_itself and written['ended']['status'] == 'interrupted' else 0
            written = merged
        unfinished.finish()
        failures = _write_profile(seen, written, report.name(config, run.started), screen)
        stop.finish()
        return report.conclude(written, config, run.started, screen, failures)


def _part(run: _Run, seen: Any, shared: Any) -> record.Json:
    """What a process saw, for whoever makes the record of several."""
    return {'record': _record(run, seen), 'exchange': shared.exchange(), 'lost': seen.lost, 'unfinished': False}


def _leave(run: _Run, unfinished: Unfinished, shared: Any, screen: Screen, stop: StopRequest, lost: str) -> None:
    """Leaves what was seen where the main thread waits for ever, as it would itself if it noticed that.

    Args:
      lost: who is gone, in a sentence; '' where that is not known.
    """
    stop.finish()
    is_collected = run.place is not None and run.place.folder is not None
    if unfinished.seen is not None and (is_collected or shared.rank == 0):
        seen = dataclasses.replace(unfinished.seen(), error=lost or _WITHIN_A_STEP, lost=bool(lost))
        part = {**_part(run, seen, shared), 'unfinished': not lost}
        if run.place is not None and is_collected:
            member.report(run.place, part)
            return
        written = merge.merged([part], workers=shared.size, synchronous=shared.is_synchronous)
        try:
            report.conclude(written, run.config, run.started, screen)
        except BenchError as error:
            lost = str(error)
    screen.close()
    if lost:
        print(f'error: {lost}', file=sys.stderr)


def _merged(part: dict[str, Any], error: str | None, shared: Any) -> record.Json | None:
    """The record of all processes; None in one whose part another process takes into it."""
    parts = [part]
    try:
        parts = parts if error else shared.gather(part)
    except BenchError as gone:
        # What this one saw is kept.
        error = str(gone)
        part['record']['ended'] = _ended(None, error)
    if error and shared.rank > 0:
        raise BenchError(error)
    if shared.rank > 0:
        return None
    return merge.merged(parts, workers=shared.size, synchronous=shared.is_synchronous)


def _write_profile(seen: Any, written: record.Json, name: str, screen: Screen) -> list[str]:
    """Writes the profile, if one was asked for, and tells what kept it from being written."""
    from bench.runners import profile

    if not written['config']['profile']['profile'] or written['ended']['status'] != 'completed':
        return []
    if not seen.traced or not seen.machine_rates:
        return ['The run was stopped before its profile was made.']
    try:
        profile.write(seen.traced, seen.machine_rates, written, name, screen)
    except BenchError as error:
        return [str(error)]
    return []


def _place(options: distribution.DistributionOptions) -> member.Place | None:
    """This process's place among others, by what started it or by flags or TF_CONFIG; None where it is the only one."""
    started = member.place(os.environ)
    found = None if distribution.JOB in os.environ else cluster.of(options.meant(os.environ), os.environ)
    if found is None:
        return started
    place = started or member.Place(None, None, 1, 1, ())
    return dataclasses.replace(place, rank=found.task if found.job == cluster.WORKER else None, size=len(found.workers))


def _serve(config: BenchmarkConfig, place: member.Place) -> int:
    """Is a parameter server until the workers are done."""
    threads = config.threads
    with Screen(to_stderr=config.output.json) as screen:
        screen.progress('loading TensorFlow')
        from bench.runners import server
        from bench.runners import session as sessions

        settings = sessions.config(
            intra_threads=threads.num_intra_threads or cpu.usable_cpus(),
            inter_threads=threads.num_inter_threads or cpu.usable_cpus(),
            precision='fp32',
            xla=False,
        )
        # One that a job of this machine started is stopped by that, when no worker needs it.
        patience = _SECONDS_FOR_WORKERS if place.folder is None else 0.0
        server.serve(config.distribution.resolved(os.environ), settings, screen, patience)
    return 0


def _limit_of_a_default_batch(config: BenchmarkConfig, place: member.Place | None) -> int | None:
    """Bytes that a control group leaves each process of this machine; None for no limit, or a batch that was given.

    Where horovodrun or mpirun started the processes, others may have other limits, and all have the same batch.
    """
    limit = memory.cgroup_limit()
    if limit is None or config.network.batch_size is not None or (place is not None and place.folder is None):
        return None
    return limit // (place.neighbours if place else 1)


def _record(run: _Run, seen: Any) -> record.Json:
    """The record of a process, as if it had been alone."""
    from bench.data import trouble
    from bench.machine import tensorflow_build

    config, place = run.config, run.place
    measured: timing.Measurement | None = seen.measurement
    # Those that this program started are bound to their share of the processors already.
    share = place if place and place.folder is None else None
    worker = record.Worker(
        rank=place.rank or 0 if place else 0,
        host=platform.node(),
        pid=os.getpid(),
        warmup_seconds=measured.warmup_seconds if measured else (),
        step_seconds=measured.step_seconds if measured else (),
        losses=measured.losses if measured else (),
        peak_memory_bytes=seen.peak_memory_bytes,
        cpus=place.cpus if place else (),
        alone_seconds=seen.alone_seconds,
        noise=seen.noise,
    )
    rate = record.throughput(worker.step_seconds, config.images_per_step)
    limits = seen.machine_rates.get(config.network.precision)
    # Where a part of the weights is trained, gradients are computed of a part of the network, which is not counted.
    counted = config.step.trainable_scopes is None
    achieved = (
        record.work(seen.multiply_adds, not config.step.forward_only, rate['images_per_second'], limits.peak)
        if rate and limits and counted
        else None
    )
    return record.assemble(
        started=run.started,
        ended=_ended(measured, seen.error),
        command=run.words,
        repeat=report.repeat(config),
        config=config,
        machine={'cpu': cpu.facts(), 'memory': memory.facts(), 'kernel': platform.release()},
        build=tensorflow_build.facts(),
        environment=run.given,
        tuning=[dataclasses.asdict(each) for each in tuning.settings(config.machine, config.threads, share)],
        container=container.facts(),
        workers=[worker],
        images_per_step=config.images_per_step,
        machine_rates=limits.as_json() if limits else None,
        achieved=achieved,
        settings=run.applied,
        warnings=[
            *_machine_warnings(config),
            *settings.warnings(run.applied, config),
            *run.reduced,
            *(trouble.warnings(run.dataset) if run.dataset is not None else []),
            *(timing.warnings(measured) if measured else []),
            *noise.warnings(seen.noise, _threads(config)),
            *_above_the_peak(achieved),
        ],
    )


def _above_the_peak(achieved: record.Json | None) -> list[record.Json]:
    """That the large products were slower than the network's own, which are no larger."""
    if achieved is None or achieved['fraction'] <= _HIGHEST_FRACTION:
        return []
    text = (
        f'The steps reached {100 * achieved["fraction"]:.0f} % of what large products reached after them: something '
        'slowed these down, so the fraction is too high. Stop other programs, and run again.'
    )
    return [{'code': 'above_peak', 'text': text}]


def _threads(config: BenchmarkConfig) -> int:
    """That compute at the same time: each operation that runs has one at least, and they share the others."""
    return (config.threads.num_intra_threads or 0) + (config.threads.num_inter_threads or 0) - 1


def _machine_warnings(config: BenchmarkConfig) -> list[record.Json]:
    """What the user should know of the machine before believing the number."""
    found, told = capabilities.detect(given=config.machine.variables()), []
    # Who typed --mkl=off knows.
    if not found.onednn and config.machine.mkl != 'off':
        told.append({'code': 'onednn_off', 'text': f'oneDNN is off: {found.onednn_reason}'})
    threads, usable = config.threads.num_intra_threads or 0, cpu.usable_cpus()
    if threads > usable:
        text = f'{threads} threads compute an operation on {usable} usable processors, and wait for each other there.'
        told.append({'code': 'many_threads', 'text': f'{text} Use --num_intra_threads={usable}.'})
    return told


def _ended(measured: timing.Measurement | None, error: str | None) -> record.Json:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')
    if error:
        return {'time': now, 'status': 'failed', 'reason': error}
    assert measured is not None, 'without an error there is a measurement'
    status = 'interrupted' if measured.end == 'interrupted' else 'completed'
    return {'time': now, 'status': status, 'reason': measured.end}
