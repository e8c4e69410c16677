#!/usr/bin/env python3
"""Do jobs of several processes always end, and leave nothing behind? Runs each kind many times, and kills their parts.

  tools/job_check.py --runs=20                    each kind 20 times: status 0, one completed record, no process left
  tools/job_check.py --kills=5                    kill -9 of each process of each kind, at 5 moments from its start on:
                                                  the job ends within 30 s, names who was killed, leaves a failed record
  tools/job_check.py --runs=3 --kinds=horovod -- --model=cifarnet      flags of the benchmark behind --

What a job leaves is found by a mark in the environment, which every process that it starts inherits.
Exit status: 0 as it should be, 1 not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

PROGRAM = [sys.executable, str(Path(__file__).parents[1] / 'run_benchmark.py')]
DEFAULT = ['--model=lenet', '--batch_size=8', '--num_warmup_batches=2']
KINDS: dict[str, list[str]] = {
    'horovod': ['--variable_update=horovod'],
    'synchronous servers': ['--variable_update=parameter_server'],
    'asynchronous servers': ['--variable_update=parameter_server', '--nosync_replicas'],
    'replicated': ['--variable_update=replicated'],
    'independent': ['--variable_update=independent'],
}
# Who is killed in each kind. `replicated` is one process, whose end is the job's.
_WORKERS = ['worker 0', 'worker 1', 'launcher']
ROLES = {
    'horovod': _WORKERS,
    'synchronous servers': ['server 0', *_WORKERS],
    'asynchronous servers': ['server 0', *_WORKERS],
    'independent': _WORKERS,
}
# Seconds after a job's start: while it loads TensorFlow, builds, meets and steps.
MOMENTS = (2.0, 5.0, 9.0, 14.0, 20.0)
LONGEST_RUN, LONGEST_END = 300.0, 30.0
_MARK = 'TF_BENCH_JOB_CHECK'


class Job:
    """A job, found again by its mark."""

    def __init__(self, words: Sequence[str], folder: str) -> None:
        self._mark, self._folder = uuid.uuid4().hex, Path(folder)
        self.popen = subprocess.Popen(
            [*PROGRAM, *words, '--num_workers=2', f'--result_dir={folder}'],
            env={**os.environ, _MARK: self._mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self) -> list[psutil.Process]:
        """All that are there."""
        return [each for each in psutil.process_iter() if _environment(each).get(_MARK) == self._mark]

    def find(self, role: str) -> psutil.Process | None:
        """The process of a role, or None where it is not there yet."""
        if role == 'launcher':
            return psutil.Process(self.popen.pid)
        kind, number = role.split()
        rank = number if kind == 'worker' else ''
        return next((each for each in self.processes() if _environment(each).get('TF_BENCH_RANK') == rank), None)

    def left(self) -> list[int]:
        """The processes that are there some seconds after it has ended, which are killed."""
        _, left = psutil.wait_procs(self.processes(), timeout=5)
        for each in left:
            each.kill()
        return [each.pid for each in left]

    def records(self) -> list[dict[str, Any]]:
        """That it wrote."""
        return [json.loads(path.read_text()) for path in self._folder.glob('*.json')]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def run_once(words: Sequence[str]) -> str:
    """Runs a job to its end and tells what is wrong with it, or ''."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job([*words, '--num_batches=20'], folder)
        try:
            _, told = job.popen.communicate(timeout=LONGEST_RUN)
        except subprocess.TimeoutExpired:
            return f'hangs; processes {job.left()}'
        ends = [record['ended']['status'] for record in job.records()]
        left = job.left()
    if job.popen.returncode or ends != ['completed'] or left:
        return f'status {job.popen.returncode}, records {ends}, left {left}: {told.strip()}'
    return ''


def kill_once(words: Sequence[str], role: str, moment: float) -> tuple[float, str]:
    """Kills a process of a job; the seconds until the job had ended, and what is wrong with that, or ''."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job([*words, '--num_batches=1000000'], folder)
        time.sleep(moment)
        while (victim := job.find(role)) is None and job.popen.poll() is None:
            time.sleep(0.05)
        if victim is None:
            return 0.0, f'ended by itself with status {job.popen.returncode}'
        start = time.monotonic()
        victim.kill()
        try:
            _, told = job.popen.communicate(timeout=2 * LONGEST_END)
        except subprocess.TimeoutExpired:
            return 2 * LONGEST_END, f'hangs; processes {job.left()}'
        seconds = time.monotonic() - start
        ends = [record['ended']['status'] for record in job.records()]
        left = job.left()
    if role == 'launcher':
        # It can say nothing any more.
        return seconds, f'left {left}' if left else ''
    named = f'{role.capitalize()} was killed by SIGKILL' in told
    if not named or job.popen.returncode != 1 or ends != ['failed'] or left or seconds > LONGEST_END:
        return seconds, f'status {job.popen.returncode}, records {ends}, left {left}: {told.strip()}'
    return seconds, ''


def main() -> int:
    """Runs, prints a line for each kind or role, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=0)
    parser.add_argument('--kills', type=int, default=0, choices=range(len(MOMENTS) + 1))
    parser.add_argument('--kinds', default=','.join(KINDS))
    parser.add_argument('words', nargs='*', default=DEFAULT)
    options = parser.parse_args()
    kinds = options.kinds.split(',')
    wrong = 0
    for kind in kinds if options.runs else ():
        found = [run_once([*options.words, *KINDS[kind]]) for _ in range(options.runs)]
        good = found.count('')
        print(f'{kind:<22}{good} of {options.runs} runs ended well, with one record and no process left', flush=True)
        wrong += _print_wrong(found)
    for kind in kinds if options.kills else ():
        for role in ROLES.get(kind, ()):
            ends = [kill_once([*options.words, *KINDS[kind]], role, moment) for moment in MOMENTS[: options.kills]]
            times = ', '.join(f'{seconds:.1f}' for seconds, _ in ends)
            good = [text for _, text in ends].count('')
            print(f'{kind:<22}{role:<10}killed: {good} of {options.kills} ended as they should; s: {times}', flush=True)
            wrong += _print_wrong([text for _, text in ends])
    return 1 if wrong else 0


def _print_wrong(found: Sequence[str]) -> int:
    wrong = [text for text in found if text]
    for text in wrong:
        print(f'  {text}', flush=True)
    return len(wrong)


if __name__ == '__main__':
    sys.exit(main())
