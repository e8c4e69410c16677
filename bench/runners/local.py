"""The command `benchmark` in one process: facts, step, measurement, record, summary."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import flags, record, settings
from bench.config import BenchmarkConfig
from bench.data import datasets
from bench.errors import BenchError
from bench.machine import capabilities, container, cpu, environment, memory, noise, tuning
from bench.models import registry
from bench.runners import summary, timing
from bench.runners.stop import StopRequest
from bench.screen import Screen


def run(config: BenchmarkConfig, words: Sequence[str]) -> int:
    """Measures, writes the record, prints the summary.

    Args:
      words: of the command line, for the record.

    Returns:
      The exit status: 0, or 1 where the run was interrupted or its lines could not be written.

    Raises:
      BenchError: the run failed; what was measured until then is in a record.
    """
    network = registry.get(config.network.model)
    data = config.data
    dataset = None
    if data.data_dir is not None:
        dataset = datasets.load(data.data_name, data.data_subset, Path(data.data_dir), data.labels_offset)
    config = config.resolved(network, dataset, cpu.usable_cpus())
    given = environment.variables()
    applied = settings.told(config, words)
    with Screen(to_stderr=config.output.json) as screen:
        screen.progress('loading TensorFlow')
        # Only here, because it takes seconds: everything that can be refused has been.
        from bench.data import trouble
        from bench.runners import execution, profile

        if dataset is not None and data.skip_bad_records:
            dataset = trouble.without_bad_records(dataset, data.skip_bad_records, screen)
        started = datetime.datetime.now(datetime.timezone.utc)
        # Until the record is written, so that a second thought cannot lose what was measured.
        with StopRequest() as stop:
            seen = execution.execute(config, network, dataset, screen, lambda: stop.requested)
            skipped = trouble.warnings(dataset) if dataset is not None else []
            written = _record(config, words, started, seen, given, applied, skipped)
            summary.show(written, screen)
            failures = [seen.error] if seen.error else []
            if seen.traced and seen.machine_rates:
                try:
                    profile.write(seen.traced, seen.machine_rates, written, _name(config, started), screen)
                except BenchError as error:
                    failures.append(str(error))
            try:
                path = record.write(written, config.output.result_dir, _name(config, started))
                screen.line(f'{"record":<12}{path}')
            except BenchError as error:
                failures.append(str(error))
    if config.output.json:
        print(record.dumps(written), end='')
    if failures:
        raise BenchError(' '.join(failures))
    return 1 if written['ended']['status'] == 'interrupted' or screen.lost_lines else 0


def _record(
    config: BenchmarkConfig,
    words: Sequence[str],
    started: datetime.datetime,
    seen: Any,
    given: dict[str, str],
    applied: record.Json | None,
    skipped: list[record.Json],
) -> record.Json:
    from bench.machine import tensorflow_build

    measured: timing.Measurement | None = seen.measurement
    worker = record.Worker(
        rank=0,
        host=platform.node(),
        pid=os.getpid(),
        warmup_seconds=measured.warmup_seconds if measured else (),
        step_seconds=measured.step_seconds if measured else (),
        losses=measured.losses if measured else (),
        peak_memory_bytes=seen.peak_memory_bytes,
        noise=seen.noise,
    )
    rate = record.throughput(worker.step_seconds, config.images_per_step)
    limits = seen.machine_rates.get(config.network.precision)
    achieved = (
        record.work(seen.multiply_adds, not config.step.forward_only, rate['images_per_second'], limits.peak)
        if rate and limits
        else None
    )
    return record.assemble(
        started=started,
        ended=_ended(measured, seen.error),
        command=words,
        repeat=shlex.join(['run_benchmark.py', *flags.words(settings.written_out(config))]),
        config=config,
        machine={'cpu': cpu.facts(), 'memory': memory.facts(), 'kernel': platform.release()},
        build=tensorflow_build.facts(),
        environment=given,
        tuning=[dataclasses.asdict(each) for each in tuning.settings(config.machine, config.threads)],
        container=container.facts(),
        workers=[worker],
        images_per_step=config.images_per_step,
        machine_rates=limits.as_json() if limits else None,
        achieved=achieved,
        settings=applied,
        warnings=[
            *_machine_warnings(config),
            *settings.warnings(applied, config),
            *skipped,
            *(timing.warnings(measured) if measured else []),
            *noise.warnings(seen.noise),
        ],
    )


def _machine_warnings(config: BenchmarkConfig) -> list[record.Json]:
    """What the user should know of the machine before believing the number."""
    found = capabilities.detect(given=config.machine.variables())
    if found.onednn:
        return []
    return [
        {
            'code': 'onednn_off',
            'text': f'oneDNN is off: {found.onednn_reason}',
        }
    ]


def _ended(measured: timing.Measurement | None, error: str | None) -> record.Json:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')
    if error:
        return {'time': now, 'status': 'failed', 'reason': error}
    assert measured is not None, 'without an error there is a measurement'
    status = 'interrupted' if measured.end == 'interrupted' else 'completed'
    return {'time': now, 'status': status, 'reason': measured.end}


def _name(config: BenchmarkConfig, started: datetime.datetime) -> str:
    network, job = config.network, 'train'
    if config.data.input_only:
        job = 'input'
    elif config.step.forward_only:
        job = 'infer'
    model = re.sub(r'[^\w.]+|\.py:', '_', network.model)[-80:].strip('._')  # keras/VGG16, ../own.py:net
    parts = (started.strftime('%Y%m%dT%H%M%SZ'), model, job, network.data_format, network.precision)
    return '_'.join((*(part.lower() for part in parts[1:]), f'b{network.batch_size}', parts[0]))
