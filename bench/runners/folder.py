"""The folder that the processes of a job on this machine share, and the end of those that killed jobs left behind.

A job holds a lock on its folder, of which the system lets go however the job ends: a folder that nobody holds is one
that a job could not remove any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = 'tf-bench-job-'
# What jobs write (bench/runners/member.py). A folder with anything else is somebody's own.
_FILES = re.compile(r'\.?[a-z]+-\d[\w.-]*')
# A folder is made before it is locked.
_LEAST_SECONDS = 60.0


@contextlib.contextmanager
def shared() -> Iterator[Path]:
    """A new folder for the processes of a job, removed behind it; those of killed jobs are removed before."""
    for path in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
        # Another job may be about to do the same, and other users' are theirs.
        with contextlib.suppress(OSError):
            _remove_if_left(path)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _held(Path(name)):
        yield Path(name)


def _remove_if_left(path: Path) -> None:
    facts = path.lstat()
    if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < _LEAST_SECONDS:
        return
    files = list(path.iterdir())
    if not all(_FILES.fullmatch(file.name) and file.is_file() for file in files):
        return
    with _held(path) as is_mine:
        if is_mine:
            for file in files:
                file.unlink()
            path.rmdir()


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Holds a folder, and tells whether it is held by nobody else; some file systems cannot."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
