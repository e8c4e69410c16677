#!/usr/bin/env python3
"""Does the benchmark notice a disturbed machine, and is it silent on a quiet one? Runs it many times and counts.

  tools/noise_check.py --runs=20                       nothing else should run: a warning of noise is a false alarm
  tools/noise_check.py --runs=10 --burn                beside a process that burns a processor: each run must tell of it
  tools/noise_check.py --runs=10 -- --model=lenet      flags of the benchmark behind --

Exit status: 0 as it should be, 1 not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.machine import noise  # noqa: E402

# Steps so short that the warm-up becomes steady within its time, on two cores too.
DEFAULT = ['--model=resnet_v1_50', '--batch_size=4', '--max_seconds=12']


@contextlib.contextmanager
def burning() -> Iterator[None]:
    """A process that keeps one processor busy."""
    process = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def benchmark(words: list[str], *, burn: bool) -> dict[str, Any]:
    """The record of a run.

    Raises:
      SystemExit: it failed; with all that it said.
    """
    with tempfile.TemporaryDirectory() as folder, burning() if burn else contextlib.nullcontext():
        command = [sys.executable, str(ROOT / 'run_benchmark.py'), *words, '--json', f'--result_dir={folder}']
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def line(number: int, record: dict[str, Any]) -> str:
    """What is seen of a run."""
    seen = record['workers'][0]['noise']
    switches = seen['preemptions'] / seen['seconds'] / seen['processors']
    codes = ' '.join(warning['code'] for warning in record['warnings']) or '-'
    return (
        f'{number:4d} {record["throughput"]["images_per_second"]:10.2f} {seen["seconds"]:8.1f} '
        f'{seen["other_processors"]:8.3f} {seen["other_processors_most"]:8.3f} {seen["stolen_seconds"]:7.2f} '
        f'{switches:10.1f} {seen["major_faults"]:7d}  {codes}'
    )


def as_it_should_be(record: dict[str, Any], *, burn: bool) -> bool:
    """Whether the burning process was noticed; or, without one, whether no disturbance was told of.

    Warnings of other things, of a warm-up that did not become steady say, are printed and no alarms.
    """
    alarms = {warning['code'] for warning in record['warnings']} & noise.CODES
    return 'other_load' in alarms if burn else not alarms


def main() -> int:
    """Runs, prints a line for each, and tells how many were as they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--burn', action='store_true')
    parser.add_argument('words', nargs='*', default=DEFAULT)
    options = parser.parse_args()
    print(f'{"run":>4} images/sec  seconds   others    worst  stolen preempt./s  faults  warnings', flush=True)
    good = 0
    for number in range(1, options.runs + 1):
        record = benchmark(options.words, burn=options.burn)
        print(line(number, record), flush=True)
        good += as_it_should_be(record, burn=options.burn)
    print(f'{"noticed" if options.burn else "silent"} in {good} of {options.runs} runs')
    return 0 if good == options.runs else 1


if __name__ == '__main__':
    sys.exit(main())
