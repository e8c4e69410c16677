"""`.unfinished`, the folder within --dataset_dir where a conversion works until all of it is done.

Each finished shard is there under its name, the one being written under a temporary name, so that a conversion that
was stopped, by whatever, continues after the last finished shard. Only at the end do the shards go to --dataset_dir
itself, where no program takes half a dataset for a whole one. Knows nothing of TensorFlow.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import errors
from bench.data.convert import report
from bench.data.datasets import LABELS_FILE, read_labels

_FOLDER = '.unfinished'
_PLAN = 'plan.json'
_PLACING = 'placing'
_PART = '.part'
_LEFT_OUT = '.left_out'


def was_placing(out: Path) -> bool:
    """Whether a conversion was stopped while its shards went to their place, so that shards in the folder are its."""
    return bool(_plan(out).get(_PLACING))


def damaged(out: Path) -> list[str]:
    """The shards of the finished conversion in a folder that are missing or not as long as they were written, and
    labels.txt where it does not name the classes (their names may have been changed since).
    """
    found = report.read(out)
    if found is None:
        return []
    sizes = found.get('bytes', {})
    shards = [(name, out / name) for name in report.shards(found)]
    names = [name for name, path in shards if not path.is_file() or path.stat().st_size != sizes.get(name)]
    try:
        classes = len(read_labels(out / LABELS_FILE))
    except errors.DataError:
        classes = 0
    return names if classes == found.get('classes') else [*names, LABELS_FILE]


def sweep(out: Path) -> None:
    """Removes what a conversion left that was stopped after its last shard was in its place."""
    shutil.rmtree(out / _FOLDER, ignore_errors=True)


class Workplace:
    """The folder, held against other conversions; used as a context manager.

    Attributes:
      unpacked: where a dataset may unpack its source.
      downloads: where to download to.

    Raises:
      errors.DataError: the folder cannot be made or written, or another conversion works in it.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._folder = out / _FOLDER
        self._missing = [path for path in (out, *out.parents) if not path.exists()]
        self._plan: dict[str, Any] = {}
        self.unpacked = self._folder / 'source.tar'
        self.downloads = self._folder / 'downloads'

    def __enter__(self) -> Workplace:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder, os.O_RDONLY)
        except OSError as error:
            self._remove_made()
            raise errors.DataError(f'--dataset_dir={self._out} cannot be written: {error.strerror}.') from error
        # Some network file systems have no locks: without one, it is up to the user not to convert twice at once.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                raise errors.DataError(
                    f'--dataset_dir={self._out}: another conversion is writing to it. Wait for it, or name another '
                    'folder.'
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder.is_dir():
            self.unpacked.unlink(missing_ok=True)
            self._plan = _plan(self._out)
            downloaded = self.downloads.is_dir() and any(self.downloads.iterdir())
            if not downloaded and not any(self.is_done(name) for name in self._plan.get('shards', ())):
                shutil.rmtree(self._folder)
                self._remove_made()
        os.close(self._lock)

    def _remove_made(self) -> None:
        """Takes the folders away again that were made for nothing."""
        for path in self._missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def begin(self, shards: Sequence[str], fingerprint: str) -> bool:
        """Starts a conversion, or takes up the one that was stopped or of which something was damaged later.

        Returns:
          Whether shards of another were dropped.
        """
        earlier = _plan(self._out) or self._reopened()
        self._plan = {'fingerprint': fingerprint, 'shards': list(shards), _PLACING: bool(earlier.get(_PLACING))}
        dropped = False
        if earlier and earlier != self._plan:
            folders = [self._folder, self._out] if earlier.get(_PLACING) else [self._folder]
            names = [*earlier['shards'], *(f'{name}{_LEFT_OUT}' for name in earlier['shards']), LABELS_FILE]
            for path in (folder / name for folder in folders for name in names):
                dropped |= path.exists()
                path.unlink(missing_ok=True)
            self._plan[_PLACING] = False
        for path in self._folder.glob(f'*{_PART}'):
            path.unlink()
        self._write(_PLAN, json.dumps(self._plan))
        return dropped

    def _reopened(self) -> dict[str, Any]:
        """The finished conversion in the folder as one that was stopped while its shards went to their place, without
        those that are damaged; empty where there is none.
        """
        found = report.read(self._out)
        if found is None:
            return {}
        for name in damaged(self._out):
            (self._out / name).unlink(missing_ok=True)
        for shard, texts in found.get('left_out', {}).items():
            self._write(f'{shard}{_LEFT_OUT}', json.dumps(texts))
        return {'fingerprint': found.get('fingerprint'), 'shards': report.shards(found), _PLACING: True}

    def is_done(self, shard: str) -> bool:
        """Whether a shard is finished."""
        placed = self._plan.get(_PLACING) and (self._out / shard).is_file()
        return bool(placed) or (self._folder / shard).is_file()

    def part(self, shard: str) -> Path:
        """Where to write a shard."""
        return self._folder / f'{shard}{_PART}'

    def keep(self, shard: str, left_out: Sequence[str]) -> None:
        """Gives a shard that was written its name, and notes the pictures that are not in it."""
        if left_out:
            self._write(f'{shard}{_LEFT_OUT}', json.dumps(list(left_out)))
        else:  # there may be the note of a try that was killed before the next line, and a picture mended since
            (self._folder / f'{shard}{_LEFT_OUT}').unlink(missing_ok=True)
        self.part(shard).replace(self._folder / shard)

    def left_out(self, shard: str) -> list[str]:
        """The pictures that were noted as not being in a finished shard."""
        path = self._folder / f'{shard}{_LEFT_OUT}'
        return json.loads(path.read_text(encoding='utf-8')) if self.is_done(shard) and path.is_file() else []

    def finish(self, shards: Sequence[str], labels: Sequence[str], content: dict[str, Any]) -> None:
        """Puts shards, labels.txt and, last of all, the report in their place."""
        self._write(_PLAN, json.dumps({**self._plan, _PLACING: True}))
        for shard in shards:
            if (self._folder / shard).is_file():
                (self._folder / shard).replace(self._out / shard)
        self._write(LABELS_FILE, ''.join(f'{label}:{name}\n' for label, name in enumerate(labels)))
        (self._folder / LABELS_FILE).replace(self._out / LABELS_FILE)
        made = {
            'fingerprint': self._plan['fingerprint'],
            'classes': len(labels),
            'bytes': {shard: (self._out / shard).stat().st_size for shard in shards},
        }
        report.write(self._out, {**content, **made})
        shutil.rmtree(self._folder)

    def _write(self, name: str, text: str) -> None:
        path = self._folder / f'{name}{_PART}'
        path.write_text(text, encoding='utf-8')
        path.replace(self._folder / name)


def _plan(out: Path) -> dict[str, Any]:
    """What the conversion in a folder is known by; empty where there is none."""
    try:
        return json.loads((out / _FOLDER / _PLAN).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
