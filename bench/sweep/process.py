"""One run of `benchmark` in a fresh process, which ends when this one does."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from bench import files
from bench.sweep import folder as folders

_SCRIPT = Path(__file__).resolve().parents[2] / 'run_benchmark.py'
_SECONDS_BETWEEN_LOOKS = 0.2
# Has itself ended (PR_SET_PDEATHSIG, SIGTERM) when its parent ends, however that is killed, and becomes the command. A
# process of its own and no preexec_fn of Popen, which is unsafe beside threads.
_ENDS_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
# Of what a run printed, where it ended without saying why.
_LAST_LINES = 3


@dataclasses.dataclass(frozen=True)
class Limits:
    """What ends a run before it ends by itself.

    Attributes:
      stop_requested: it is asked to end with what it measured.
      seconds: after which it is killed; None for never.
    """

    stop_requested: Callable[[], bool]
    seconds: float | None = None


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    limits: Limits,
    lock: IO[str] | None,
    progress: Callable[[], None],
) -> folders.Done | None:
    """Runs a command that benchmarks; its record, or failure.json, and output.txt are then in `folder`.

    Args:
      command: this program, or another that takes its flags, with the words of the run.
      folder: of this run alone; what is in it is deleted.
      lock: a file that the run holds open, or None.
      progress: called now and then while it runs.

    Returns:
      What came of it; None where it was asked to stop.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [*command, f'--result_dir={folder.absolute()}']
    start = time.monotonic()
    with (folder / 'output.txt').open('w') as output:
        with subprocess.Popen(
            [sys.executable, '-S', '-E', '-c', _ENDS_WITH_PARENT, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=[lock.fileno()] if lock else (),
        ) as process:
            stopped, late = _wait(process, limits, start, progress)
    if stopped:
        return None
    done = folders.look(folder)
    if done is None:
        reason = f'it took more than {limits.seconds:.0f} s' if late else _reason(folder, process.returncode)
        failure = {'reason': reason, 'exit_status': process.returncode, 'command': shlex.join(command)}
        files.write(folder / 'failure.json', json.dumps(failure, indent=1) + '\n')
        done = folders.Done(None, reason)
    return done


def program() -> list[str]:
    """What starts this program once more."""
    return [sys.executable, *([str(_SCRIPT)] if _SCRIPT.exists() else ['-m', 'bench'])]


def _wait(
    process: subprocess.Popen[bytes], limits: Limits, start: float, progress: Callable[[], None]
) -> tuple[bool, bool]:
    """Whether it was asked to stop, and whether it took too long."""
    stopped = late = False
    while True:
        try:
            process.wait(_SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            progress()
            if limits.stop_requested() and not stopped:
                # At once: a terminal has sent the run its own Ctrl-C, and it takes a second one for the same that soon.
                stopped = True
                process.send_signal(signal.SIGTERM)
            if limits.seconds is not None and time.monotonic() - start > limits.seconds and not late:
                late = True
                process.kill()
        else:
            return stopped or limits.stop_requested(), late


def _reason(folder: Path, status: int) -> str:
    """Why a run has no answer, from its record, from what it printed, or from how it ended."""
    found = folders.finished(folder)
    if found and found['ended']['status'] == 'failed':
        return str(found['ended']['reason'])
    lines = (folder / 'output.txt').read_text(errors='replace').splitlines()
    told = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
    if told:
        return ' '.join(told)
    if status == -signal.SIGKILL:
        return 'It was killed (SIGKILL), which the system does where memory runs out. Use a smaller --batch_size.'
    if status < 0:
        return f'It was ended by {signal.Signals(-status).name}.'
    last = ' | '.join([line for line in lines if line.strip()][-_LAST_LINES:])
    return f'It ended with status {status}. The last that it printed: {last or "nothing"}'
