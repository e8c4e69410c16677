"""One run in a process of its own: why it has no record is told, and it never outlives the sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import program
import pytest

from bench.sweep import folder, process

RECORD = {'schema_version': 1, 'ended': {'status': 'completed', 'reason': 'num_batches'}, 'throughput': {'low': 1}}


def run(
    code: str, path: Path, *, seconds: float | None = None, stop: Callable[[], bool] = lambda: False
) -> folder.Done | None:
    """What comes of a process of Python that stands for the program."""
    command = [sys.executable, '-c', f'import json, os, sys, time\nfolder = sys.argv[1].partition("=")[2]\n{code}']
    return process.run(command, path, os.environ, process.Limits(stop, seconds), None, lambda: None)


def writes(record: object) -> str:
    return f'open(folder + "/net_train.json", "w").write({json.dumps(record)!r})'


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        ('print("error: there is no such thing."); sys.exit(2)', 'there is no such thing.'),
        ('os.kill(os.getpid(), 9)', 'It was killed (SIGKILL)'),
        ('os.kill(os.getpid(), 11)', 'SIGSEGV'),
        ('print("first"); print("last words"); sys.exit(3)', 'status 3. The last that it printed: first | last words'),
        ('pass', 'status 0. The last that it printed: nothing'),
        (writes({**RECORD, 'ended': {'status': 'failed', 'reason': 'no memory'}}), 'no memory'),
        (writes({**RECORD, 'throughput': None}), 'status 0'),
        ('open(folder + "/net_train.json", "w").write("{\\"schema_ver")', 'status 0'),
    ],
)
def test_a_run_without_an_answer_has_another_reason(tmp_path: Path, code: str, reason: str) -> None:
    done = run(code, tmp_path / 'run')
    assert done is not None
    assert done.record is None
    assert reason in str(done.failure)
    # It is remembered.
    assert folder.look(tmp_path / 'run') == done


def test_the_record_of_an_older_try_or_a_profile_is_taken(tmp_path: Path) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'older.json').write_text(json.dumps(RECORD))
    done = run('sys.exit(1)', tmp_path / 'run')
    assert done is not None and done.record is None
    profile = 'open(folder + "/a.profile.json", "w").write(json.dumps({"schema_version": 1}))'
    done = run(f'{profile}\n{writes(RECORD)}', tmp_path / 'run')
    assert done is not None and done.record == RECORD


def test_a_run_that_takes_too_long_goes_on(tmp_path: Path) -> None:
    done = run('time.sleep(600)', tmp_path / 'run', seconds=0.5)
    assert done is not None
    assert 'more than 0 s' in str(done.failure) or 'more than 1 s' in str(done.failure)


def test_a_run_is_not_asked_to_stop_or_its_half_answer_is_kept(tmp_path: Path) -> None:
    interrupted = {**RECORD, 'ended': {'status': 'interrupted', 'reason': 'interrupted'}}
    code = (
        f'import signal\nsignal.signal(15, lambda *_: ({writes(interrupted)}, sys.exit(1)))\n'
        'open(folder + "/up", "w")\ntime.sleep(600)'
    )
    done = run(code, tmp_path / 'run', stop=(tmp_path / 'run' / 'up').exists)
    assert done is None
    assert (tmp_path / 'run' / 'net_train.json').exists()
    assert folder.look(tmp_path / 'run') is None


def test_a_run_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    parent = (
        'import os, sys; from pathlib import Path; from bench.sweep import process\n'
        "command = [sys.executable, '-c', 'import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)']\n"
        'limits = process.Limits(lambda: False)\n'
        'process.run(command, Path(sys.argv[1]), os.environ, limits, None, lambda: None)\n'
    )
    with subprocess.Popen([sys.executable, '-c', parent, str(tmp_path / 'run')], cwd=program.ROOT) as started:
        output = tmp_path / 'run' / 'output.txt'
        pid = int(_waited(lambda: output.exists() and output.read_text().strip()))
        started.send_signal(signal.SIGKILL)
    _waited(lambda: not Path(f'/proc/{pid}').exists() or Path(f'/proc/{pid}/stat').read_text().split()[2] == 'Z')


def _waited(condition: Callable[[], object]) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := condition():
            return str(found)
        time.sleep(0.05)
    raise AssertionError('it did not happen')
