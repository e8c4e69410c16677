"""The command `autotune`: looks for the settings with which a network runs fastest here, and proves the gain.

Every setting is run in fresh processes; which, and how often, search.py decides. What was found is compared with the
default in fresh pairs, and only what is faster beyond chance goes into the file that --settings= takes.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from bench import __version__, files, record, settings
from bench.autotune import search
from bench.autotune.changes import DEFAULT, Change, can_be_run, candidates
from bench.autotune.options import AutotuneConfig
from bench.autotune.report import lines
from bench.config import BenchmarkConfig
from bench.errors import BenchError
from bench.machine import capabilities, cpu, environment
from bench.models import registry
from bench.runners.stop import StopRequest
from bench.screen import Screen
from bench.sweep import process

# A sample measures for this part of the whole time, within limits: some dozens of them fit into it; and for so many
# steps of the default at the least, because the first ones after a start are slower than the rest.
_SAMPLE_PART, _LEAST_SECONDS, _MOST_SECONDS, _LEAST_STEPS = 1 / 150, 2.0, 20.0, 3.5
# What a run's record warns of that says nothing against a comparison: oneDNN is what is tried, and samples are short.
_EXPECTED = ('onednn_off', 'not_warm')


def run(config: AutotuneConfig, words: Sequence[str]) -> int:
    """Searches, compares, prints, and writes the settings file.

    Args:
      words: of the command line, for the file.

    Returns:
      The exit status: 0, or 1 where it was interrupted.

    Raises:
      BenchError: the run fails as it was typed, or the file cannot be written.
    """
    base, _ = config.benchmark_config()
    resolved = base.resolved(registry.get(base.network.model), None, cpu.usable_cpus())
    changes = candidates(config, capabilities.detect)
    start = time.monotonic()
    with Screen() as screen, StopRequest() as stop:
        tries = _Tries(config, resolved, screen, stop)
        screen.line(f'autotune    {len(changes)} changes, {config.autotune_seconds:.0f} s; runs in {tries.folder}')
        found = search.Search(
            tries.measure,
            time.monotonic,
            config.autotune_seconds,
            lambda change: can_be_run(config, change, capabilities.detect),
            config.order_seed,
        ).run(changes)
        if found.samples and all(sample.speed is None for sample in found.samples):
            raise BenchError(f'The run fails as it was typed: {tries.failure}')
        for line in lines(found, resolved):
            screen.line(line)
        if found.interrupted:
            screen.line('interrupted: no settings were written.')
            return 1
        path = _path(config, base, resolved)
        files.write(
            path, json.dumps(contents(config, resolved, found, words, time.monotonic() - start), indent=1) + '\n'
        )
        screen.line(f'{"settings":<12}{path}')
        if found.proven:
            words_of_use = shlex.join(['run_benchmark.py', *config.benchmark, f'--settings={path}'])
            screen.line(f'{"use":<12}{words_of_use}')
    return 0


class _Tries:
    """Runs settings in fresh processes.

    Attributes:
      folder: of the records.
      failure: why the last run that failed did.
    """

    def __init__(self, config: AutotuneConfig, resolved: BenchmarkConfig, screen: Screen, stop: StopRequest) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).strftime('%Y%m%dT%H%M%SZ')
        self.folder = Path(resolved.output.result_dir) / f'autotune_{_label(resolved)}_{now}'
        self.failure = ''
        self._words = list(config.benchmark)
        self._seconds: float | None = None
        if not config.typed() & {'num_batches', 'max_seconds'}:
            self._seconds = min(_MOST_SECONDS, max(_LEAST_SECONDS, config.autotune_seconds * _SAMPLE_PART))
        self._screen, self._stop = screen, stop
        self._end = time.monotonic() + config.autotune_seconds
        self._count = 0

    def measure(self, change: Change, longest: float | None) -> search.Sample:
        """Runs a setting once.

        Raises:
          search.Stopped: the user asked for the end.
        """
        self._count += 1
        name = re.sub(r'[^\w.]+', '_', change.name).strip('_')[:60]
        start = time.monotonic()

        def progress() -> None:
            now = time.monotonic()
            left = f'{max(0, self._end - now):.0f} s of the budget left'
            self._screen.progress(f'run {self._count}: {change.name}, {now - start:.0f} s; {left}')

        done = process.run(
            [*process.program(), *self._words, *self._length(), *change.words],
            self.folder / f'{self._count:03}_{name}',
            environment.user(),
            process.Limits(lambda: self._stop.requested, longest),
            None,
            progress,
        )
        if done is None:
            raise search.Stopped
        seconds = time.monotonic() - start
        if done.record is None:
            self.failure = done.failure or ''
            self._screen.line(f'[{self._count:>3}] {change.name}  failed: {done.failure}')
            return search.Sample(change, None, seconds)
        speed = done.record['throughput']['images_per_second']
        # Those that the default has are no news.
        codes = tuple(each['code'] for each in done.record['warnings'] if each['code'] not in _EXPECTED)
        told = f'  warnings: {", ".join(codes)}' if codes else ''
        self._screen.line(f'[{self._count:>3}] {change.name}  {speed:,.2f} images/sec  ({seconds:.0f} s){told}')
        if self._seconds is not None and self._count == 1:
            self._seconds = max(self._seconds, _LEAST_STEPS * done.record['step_seconds']['median'])
        return search.Sample(change, speed, seconds, codes)

    def _length(self) -> list[str]:
        return [] if self._seconds is None else [f'--max_seconds={self._seconds:.1f}']


def contents(
    config: AutotuneConfig, resolved: BenchmarkConfig, found: search.Found, words: Sequence[str], seconds: float
) -> record.Json:
    """The settings file; see bench/settings.py."""
    machine = settings.machine_facts()
    gain = found.gain
    best = found.best if found.proven and found.best else DEFAULT
    return {
        'schema_version': settings.SCHEMA_VERSION,
        'program': {'name': 'tf-bench', 'version': __version__},
        'written': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'command': ['run_benchmark.py', *words],
        'flags': dict(best.flags),
        'for': {
            name: value
            for name, value in settings.purpose(resolved).items()
            if name not in dict(best.flags) and (name != 'onednn' or 'mkl' not in dict(best.flags))
        },
        'machine': machine,
        'machine_fingerprint': settings.fingerprint(machine),
        'measured': {
            'seconds': seconds,
            'budget_seconds': config.autotune_seconds,
            'compared': found.best.name if found.best else None,
            'times_default': gain and {'estimate': gain.estimate, 'low': gain.low, 'high': gain.high},
            'pairs': [{'default': default, 'found': other} for default, other in found.pairs],
            'not_tried': [change.name for change in found.not_tried],
            'runs': [
                {
                    'settings': sample.change.name,
                    'images_per_second': sample.speed,
                    'seconds': sample.seconds,
                    'warnings': list(sample.warnings),
                }
                for sample in found.samples
            ],
        },
    }


def _path(config: AutotuneConfig, base: BenchmarkConfig, resolved: BenchmarkConfig) -> Path:
    if config.settings_file is not None:
        return Path(config.settings_file)
    return Path(base.output.result_dir) / f'settings_{_label(resolved)}.json'


def _label(resolved: BenchmarkConfig) -> str:
    purpose = settings.purpose(resolved)
    return re.sub(r'[^\w.]+', '_', f'{purpose["model"]}_{purpose["job"]}')[-80:].strip('._')
