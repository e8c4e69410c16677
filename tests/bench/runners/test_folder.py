"""The folder of a job: gone behind it, and what killed jobs left is gone with the next one, but nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bench.runners import folder, member

ROOT = Path(__file__).parents[3]
_HOLD = (
    'import sys, time; from bench.runners import folder\n'
    'with folder.shared() as path:\n'
    '    (path / "mark-0").touch(); print(path, flush=True); time.sleep(100)'
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    return tmp_path


def aged(path: Path) -> Path:
    """The same, as if it had been made long ago."""
    os.utime(path, times=(time.time() - 3600,) * 2)
    return path


def test_the_folder_of_a_killed_job_goes_and_that_of_a_running_one_stays(temporary: Path) -> None:
    environment = {**os.environ, 'TMPDIR': str(temporary), 'PYTHONPATH': str(ROOT)}
    with subprocess.Popen([sys.executable, '-c', _HOLD], stdout=subprocess.PIPE, text=True, env=environment) as job:
        assert job.stdout is not None
        path = Path(job.stdout.readline().strip())
        try:
            aged(path)
            with folder.shared() as mine:
                assert mine != path
                assert path.exists(), 'it is in use'
            assert not mine.exists()
        finally:
            job.send_signal(signal.SIGKILL)
            job.wait()
    assert path.exists(), 'nobody could remove it'
    with folder.shared():
        assert not path.exists()


def test_what_is_not_a_jobs_or_may_just_begin_stays(temporary: Path) -> None:
    own, young, left = (temporary / f'tf-bench-job-{name}' for name in ('mine', 'young', 'left'))
    for path in (own, young, left):
        path.mkdir()
    (own / 'mark-0').touch()
    (own / 'notes.txt').touch()
    member.put(left / 'part-0.json', '{}')
    (left / '.part-1.json-4242').touch()
    aged(own)
    aged(left)
    (temporary / 'tf-bench-job-file').touch()
    aged(temporary / 'tf-bench-job-file')
    with folder.shared():
        pass
    assert sorted(path.name for path in temporary.iterdir()) == [
        'tf-bench-job-file',
        'tf-bench-job-mine',
        'tf-bench-job-young',
    ]
