"""The record of a run: what was asked, on what machine, every step's duration, the answer. One JSON file a run.

The fields, their units and meanings are in record.schema.json beside this file, against which tests validate records.
A change that a reader of old records would notice raises SCHEMA_VERSION.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import __version__, files
from bench.errors import BenchError

SCHEMA_VERSION = 1

Json = dict[str, Any]

# How file systems without hard links (FAT, some network shares) answer to one.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclasses.dataclass(frozen=True)
class Worker:
    """One process's part of a run; a run on one machine without workers has exactly one.

    Attributes:
      rank: from 0.
      host, pid: where it ran.
      warmup_seconds, step_seconds: each step's duration.
      losses: each measured step's loss, where there is one and it is finite.
      peak_memory_bytes: the process's largest resident set; None where it left without telling.
      cpus: that it was pinned to; none where it could use all.
      alone_seconds: durations of steps without the exchange with other workers, measured after the others.
      noise: what disturbed its measured steps (bench/machine/noise.py); None where none was measured.
    """

    rank: int
    host: str
    pid: int
    warmup_seconds: Sequence[float]
    step_seconds: Sequence[float]
    losses: Sequence[float | None]
    peak_memory_bytes: int | None
    cpus: Sequence[int] = ()
    alone_seconds: Sequence[float] = ()
    noise: Json | None = None


def fingerprint(facts: Mapping[str, Any]) -> str:
    """The same 16 letters for the same facts, so that records of equal machines or builds are found."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def throughput(step_seconds: Sequence[float], images_per_step: int) -> Json | None:
    """Images/sec with its interval, or None where no step was measured; low and high are None for too few steps."""
    if not step_seconds:
        return None
    # It loads numpy, for which nobody waits who only reads or names records, or is refused.
    from analysis import statistics

    interval = statistics.throughput_interval(step_seconds, images_per_step)
    return {
        'images_per_second': interval.estimate,
        'low': interval.low,
        'high': interval.high,
        'confidence': interval.confidence,
    }


def step_times(step_seconds: Sequence[float]) -> Json | None:
    """Median, 95th and 99th percentile of the steps' durations in seconds, or None where no step was measured."""
    if not step_seconds:
        return None
    from analysis import statistics

    return {name: statistics.quantile(step_seconds, q) for name, q in (('median', 0.5), ('p95', 0.95), ('p99', 0.99))}


def work(multiply_adds: int, training: bool, images_per_second: float, peak: float) -> Json:
    """What fraction of the machine's peak the network's arithmetic reached.

    A multiply-add is 2 operations forward; training also has the products for the gradients of weights and inputs,
    which makes 6.

    Args:
      multiply_adds: of one image's forward pass.
      peak: operations per second of the fastest product on the same threads in the same precision.
    """
    operations = 6 if training else 2
    rate = multiply_adds * operations * images_per_second
    return {
        'multiply_adds_per_image': multiply_adds,
        'operations_per_multiply_add': operations,
        'gflops': rate / 1e9,
        'peak_gflops': peak / 1e9,
        'fraction': rate / peak,
    }


def assemble(
    *,
    started: datetime.datetime,
    ended: Json,
    command: Sequence[str],
    repeat: str,
    config: Any,
    machine: Json,
    build: Json | None,
    environment: Mapping[str, str],
    tuning: Sequence[Json],
    container: Json | None,
    workers: Sequence[Worker],
    images_per_step: int,
    machine_rates: Json | None,
    achieved: Json | None,
    settings: Json | None,
    warnings: Sequence[Json],
) -> Json:
    """The record as it is written; see record.schema.json for the fields."""
    step_seconds = workers[0].step_seconds if workers else ()
    return {
        'schema_version': SCHEMA_VERSION,
        'program': {'name': 'tf-bench', 'version': __version__},
        'started': started.isoformat(timespec='milliseconds'),
        'ended': ended,
        'command': ['run_benchmark.py', *command],
        'repeat': repeat,
        'config': dataclasses.asdict(config),
        'machine': machine,
        'machine_fingerprint': fingerprint(machine),
        'build': build,
        'build_fingerprint': fingerprint(build) if build else None,
        'environment': dict(environment),
        'tuning': list(tuning),
        'container': container,
        'images_per_step': images_per_step,
        'workers': [
            {**dataclasses.asdict(worker), 'throughput': throughput(worker.step_seconds, images_per_step)}
            for worker in workers
        ],
        'distribution': None,
        'throughput': throughput(step_seconds, images_per_step),
        'step_seconds': step_times(step_seconds),
        'machine_rates': machine_rates,
        'work': achieved,
        'settings': settings,
        # Named when it is written.
        'profile': None,
        'warnings': list(warnings),
    }


def dumps(record: Json) -> str:
    """The record as text.

    Raises:
      ValueError: a number is infinite or NaN, which JSON does not know.
    """
    return json.dumps(record, indent=1, allow_nan=False) + '\n'


def write(record: Json, result_dir: str, name: str, what: str = 'record') -> Path:
    """Writes `<name>.json`, or `<name>-2.json` and so on where there is one already, and gives its path.

    The file appears whole or not at all, and never takes another's place.

    Args:
      what: to call it where it cannot be written.

    Raises:
      BenchError: it cannot be written; nothing is left behind.
    """
    folder = Path(result_dir)
    text = dumps(record)
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile('w', dir=folder, prefix='.record-', delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        files.give_usual_permissions(temporary)
        return _take_free_name(temporary, folder, name)
    except OSError as error:
        raise BenchError(
            f'The {what} could not be written to {folder}: {error.strerror}. '
            'Make room or name another folder with --result_dir=, and run again.'
        ) from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink()


def read(path: Path) -> Json:
    """A record from its file.

    Raises:
      BenchError: it is no record, or one of a later schema.
    """
    try:
        record = json.loads(path.read_text())
        version = record['schema_version']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f'{path} is no record of a run: {error}.') from None
    if version > SCHEMA_VERSION:
        raise BenchError(f'{path} has schema version {version}; this program reads up to {SCHEMA_VERSION}. Update it.')
    return record


def _take_free_name(temporary: Path, folder: Path, name: str) -> Path:
    number = 1
    while True:
        path = folder / (f'{name}.json' if number == 1 else f'{name}-{number}.json')
        try:
            _take_name(temporary, path)
        except FileExistsError:
            number += 1
        else:
            return path


def _take_name(temporary: Path, path: Path) -> None:
    """Gives a file that name, or raises FileExistsError where it is taken, as a rename does not."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.touch(exist_ok=False)
        temporary.replace(path)
