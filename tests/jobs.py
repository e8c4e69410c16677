"""Jobs of several processes that tests start one by one, as on several machines."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from program import command

from bench.runners import cluster

ROOT = Path(__file__).parents[1]
LENET = ('--model=lenet', '--batch_size=8')
PS = ('--variable_update=parameter_server',)


@contextlib.contextmanager
def started(commands: Sequence[Sequence[str]], cwd: Path | None = None) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes with no network but this machine's, none of which outlives the test."""
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
        'TF_GRPC_REUSE_PORT': '1',
        'TF_CPP_MIN_LOG_LEVEL': '2',
    }
    with contextlib.ExitStack() as stack:
        processes = []
        for each in commands:
            process = subprocess.Popen(
                each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=cwd
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def places(folder: Path, servers: int, workers: int, addresses: Sequence[str], *words: str) -> list[list[str]]:
    """The command lines of a job on several machines, which here are one."""
    ps, worker = addresses[:servers], addresses[servers:]
    jobs = [('ps', task) for task in range(servers)] + [('worker', task) for task in range(workers)]
    return [
        command(*LENET, *PS, *words, f'--result_dir={folder}', *cluster.words(ps, worker, job, task))
        for job, task in jobs
    ]


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    """Reads what a process prints until a line begins so, such as that of its tenth step."""
    assert process.stdout is not None
    while not process.stdout.readline().startswith(beginning):
        assert process.poll() is None


def process_of(job: subprocess.Popen[str], rank: str) -> psutil.Process:
    """A worker, or with an empty rank the server, of a job that started its processes itself."""
    children = psutil.Process(job.pid).children()
    (found,) = [process for process in children if process.environ()['TF_BENCH_RANK'] == rank]
    return found
