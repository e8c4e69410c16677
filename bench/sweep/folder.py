"""The folder of a sweep, from which one that was stopped goes on:

    sweep.json                          what is swept
    lock                                held by the sweep that runs, and by its present run
    runs/CELL/ROUND/                    the record of a run, what it printed (output.txt); or failure.json
    table.json, table.txt, plot.png     what came of it

A run is done when its record is there and says `completed`: nothing else is kept of what was done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from bench import files, options, record
from bench.errors import BenchError
from bench.sweep.matrix import Matrix

_SCHEMA_VERSION = 1
# For how long the last run of a sweep that was killed may go on: to the end of its step.
_SECONDS_FOR_THE_LAST_RUN = 60


@dataclasses.dataclass(frozen=True)
class Done:
    """A run that is over: its record, or why there is none."""

    record: record.Json | None
    failure: str | None


class Folder:
    """The folder.

    Attributes:
      path: of it.
      lock: an open file, for a run to inherit, so that the lock is held until that has ended, too; None where nothing
        may be run.
    """

    def __init__(self, matrix: Matrix, sweep_dir: str | None) -> None:
        self.path = _path(matrix, sweep_dir)
        self.lock: IO[str] | None = None
        self._matrix = matrix

    @contextlib.contextmanager
    def locked(self, progress: Callable[[str], None]) -> Iterator[None]:
        """Makes the folder where it is missing, and keeps other sweeps out of it.

        Raises:
          BenchError: another sweep runs in it, or it cannot be written.
        """
        manifest = self.path / 'sweep.json'
        if not manifest.exists():
            files.write(manifest, json.dumps(_manifest(self._matrix), indent=1) + '\n')
        with (self.path / 'lock').open('w') as lock:
            _take(lock, self.path, progress)
            self.lock = lock
            try:
                yield
            finally:
                self.lock = None

    def run_folder(self, cell: int, round_: int) -> Path:
        """Where a run leaves its record."""
        name = re.sub(r'[^\w.]+', '_', self._matrix.cells[cell].name).strip('_')[:60]
        return self.path / 'runs' / f'{cell + 1:02}_{name}' / f'{round_ + 1:02}'

    def done(self, cell: int, round_: int) -> Done | None:
        """What came of a run; None where it has to be run."""
        return look(self.run_folder(cell, round_))

    def forget_failures(self) -> None:
        """Has what failed run again."""
        for failure in self.path.glob('runs/*/*/failure.json'):
            shutil.rmtree(failure.parent)


def _take(lock: IO[str], path: Path, progress: Callable[[str], None]) -> None:
    end = time.monotonic() + _SECONDS_FOR_THE_LAST_RUN
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise BenchError(
                    f'Another sweep is at work in {path}. Wait for its end, or name another --sweep_dir=.'
                ) from None
            progress(f'another sweep, or its last run, is at work in {path}: waiting for its end')
            time.sleep(0.5)
        else:
            return


def look(folder: Path) -> Done | None:
    """What came of a run in a folder of its own; None where it was stopped or never began."""
    found = finished(folder)
    if found and found['ended']['status'] == 'completed' and found['throughput']:
        return Done(found, None)
    failure = folder / 'failure.json'
    return Done(None, json.loads(failure.read_text())['reason']) if failure.exists() else None


def finished(folder: Path) -> record.Json | None:
    """The record that is in the folder, however the run ended."""
    for path in sorted(folder.glob('*.json')):
        with contextlib.suppress(BenchError):
            found = record.read(path)
            if 'ended' in found:
                return found
    return None


def problems(matrix: Matrix, sweep_dir: str | None) -> list[str]:
    """Whether the folder cannot be written, or holds another sweep."""
    path = _path(matrix, sweep_dir)
    found = [text.replace('--result_dir', '--sweep_dir') for text in options.result_dir_problems(str(path))]
    manifest = path / 'sweep.json'
    if found or not manifest.exists():
        return found
    try:
        other = json.loads(manifest.read_text())
        cells, version = other['cells'], other['schema_version']
    except (OSError, ValueError, KeyError, TypeError):
        return [f'{manifest} is no description of a sweep. Name another folder with --sweep_dir=.']
    if version != _SCHEMA_VERSION or cells != _manifest(matrix)['cells']:
        first = shlex.join(['run_benchmark.py', *cells[0]]) if cells else 'nothing'
        return [
            f'--sweep_dir={path} holds another sweep, of {len(cells)} cells that begin with {first}: name another '
            'folder, or type the command of that sweep to go on with it.'
        ]
    return []


def _manifest(matrix: Matrix) -> record.Json:
    return {'schema_version': _SCHEMA_VERSION, 'cells': [[*cell.program, *cell.words] for cell in matrix.cells]}


def _path(matrix: Matrix, sweep_dir: str | None) -> Path:
    if sweep_dir is not None:
        return Path(sweep_dir)
    digest = hashlib.sha256(json.dumps(_manifest(matrix)).encode()).hexdigest()[:8]
    models = [word.partition('=')[2] for word in matrix.cells[0].words if word.startswith('--model=')]
    return Path('results') / '_'.join(['sweep', *(re.sub(r'[^\w.]+', '_', model)[-40:] for model in models), digest])
