"""A process's place in a job, and what it tells the others of it.

The processes of a job that this program started (bench/runners/launch.py) share a folder that is theirs alone. What a
process saw is a file there, whole or absent; how many steps it has done is a file of a few bytes in memory that it
writes and whoever watches reads, which costs less than a microsecond; and, where nothing else is exchanged, files tell
the others that it has come to a meeting.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil

from bench.distribution import JOB, Launched, launched
from bench.errors import BenchError
from bench.machine import cores

_RANK, _SIZE, _PARENT = 'TF_BENCH_RANK', 'TF_BENCH_SIZE', 'TF_BENCH_PARENT'
_CPUS, _ALL_CPUS = 'TF_BENCH_CPUS', 'TF_BENCH_ALL_CPUS'
# Steps done, and whether it is doing steps now.
_MARK = struct.Struct('<q?')
_PR_SET_PDEATHSIG = 1
_SECONDS_BETWEEN_LOOKS = 0.01
# What starts processes on a machine: horovodrun, and Open MPI's and MPICH's.
_LAUNCHERS = ('horovodrun', 'mpirun', 'mpiexec', 'orterun', 'orted', 'prterun', 'prted', 'hydra')

_Result = TypeVar('_Result')


@dataclasses.dataclass(frozen=True)
class Place:
    """Which process of a job this is.

    Attributes:
      folder: the job's; None where horovodrun or mpirun started it, and not this program.
      rank, size: of those that compute; rank is None for a server.
      neighbours: how many of them share processors among them, itself included.
      cpus: its own share of these; empty for all of them.
      all_cpus: those that are shared; empty for all that it may use.
    """

    folder: Path | None
    rank: int | None
    size: int
    neighbours: int
    cpus: tuple[int, ...]
    all_cpus: tuple[int, ...] = ()

    def environment(self) -> dict[str, str]:
        """What tells a process that this program starts its place."""
        return {
            JOB: str(self.folder),
            _RANK: '' if self.rank is None else str(self.rank),
            _SIZE: str(self.size),
            _CPUS: _listed(self.cpus),
            _ALL_CPUS: _listed(self.all_cpus),
            _PARENT: str(os.getpid()),
        }

    def threads(self, usable_cpus: int) -> int:
        """How many threads shall compute here, where so many processors may be kept busy by all neighbours."""
        share = max(1, usable_cpus // self.neighbours)
        return min(share, len(self.cpus)) if self.cpus else share


def place(environ: Mapping[str, str]) -> Place | None:
    """This process's place, or None where it is the only one."""
    started = launched(environ)
    if started is not None:
        return _launched_place(started)
    if JOB not in environ:
        return None
    rank, size = environ[_RANK], int(environ[_SIZE])
    return Place(
        folder=Path(environ[JOB]),
        rank=int(rank) if rank else None,
        size=size,
        neighbours=size,
        cpus=_numbers(environ[_CPUS]),
        all_cpus=_numbers(environ[_ALL_CPUS]),
    )


def _listed(cpus: tuple[int, ...]) -> str:
    return ','.join(map(str, cpus))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(cpu) for cpu in text.split(',') if cpu)


def _launched_place(started: Launched) -> Place:
    """The place of a process that horovodrun or mpirun started, which may have bound it to some processors or not."""
    mine, above = cores.allowed(), cores.allowed(os.getppid())
    if mine == above:
        cpus = cores.shares(started.local_size, mine)[started.local_rank] if mine else ()
        return Place(None, started.rank, started.size, started.local_size, cpus)
    neighbours = max(1, round(started.local_size * len(mine) / max(1, len(above))))
    return Place(None, started.rank, started.size, neighbours, ())


def end_with_parent(environ: Mapping[str, str]) -> None:
    """From now on Linux kills this process when the one that started the job is gone, however that came."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'prctl'):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(environ[_PARENT]):
        raise BenchError('The process that started this one is gone.')


class Marks:
    """How far a process of a job is: written by itself, read by whoever watches."""

    def __init__(self, folder: Path, rank: int, *, new: bool = False) -> None:
        path = folder / f'mark-{rank}'
        if new:
            path.write_bytes(bytes(_MARK.size))
        with path.open('r+b') as file:
            self._memory = mmap.mmap(file.fileno(), _MARK.size)

    def write(self, steps: int, *, stepping: bool) -> None:
        """Tells that so many steps are done, and whether more are being done."""
        _MARK.pack_into(self._memory, 0, steps, stepping)

    def read(self) -> tuple[int, bool]:
        """Steps done, and whether it is doing steps."""
        steps, stepping = _MARK.unpack_from(self._memory, 0)
        return steps, stepping


class Progress:
    """Tells whoever watches this process how far it is; nobody where it is the only one.

    Attributes:
      root: the process that started all of the job's; None for this one.
    """

    def __init__(self, place: Place | None) -> None:
        self._marks: Marks | None = None
        self.root = None if place is None else _starter(place)
        if place is not None and place.folder is not None and place.rank is not None:
            self._marks = Marks(place.folder, place.rank)
        self._steps = 0

    def counting(self, step: Callable[[], _Result]) -> Callable[[], _Result]:
        """The same step, told of when it is done."""
        marks = self._marks
        if marks is None:
            return step

        def counted() -> _Result:
            result = step()
            self._steps += 1
            marks.write(self._steps, stepping=True)
            return result

        return counted

    def rest(self) -> None:
        """Tells that no step follows for now; to be called before waiting for others who still do theirs."""
        if self._marks is not None:
            self._marks.write(self._steps, stepping=False)


def _starter(place: Place) -> int | None:
    """The process on this machine that started all of a job's here, or None where it is not found."""
    if place.folder is not None:
        return os.getppid()
    launchers = [each for each in psutil.Process().parents() if each.name().startswith(_LAUNCHERS)]
    return launchers[-1].pid if launchers else None


def report(place: Place, part: Mapping[str, Any]) -> None:
    """Leaves what a process saw for the process that started it."""
    assert place.folder is not None, 'only who started it collects what a process saw'
    put(place.folder / f'part-{place.rank}.json', json.dumps(part))


def parts(folder: Path, size: int) -> dict[int, dict[str, Any]]:
    """What the processes of a job saw, by rank; those that left nothing are missing."""
    paths = {rank: folder / f'part-{rank}.json' for rank in range(size)}
    return {rank: json.loads(path.read_text()) for rank, path in paths.items() if path.exists()}


def put(path: Path, text: str) -> None:
    """A file that appears whole."""
    temporary = path.with_name(f'.{path.name}-{os.getpid()}')
    temporary.write_text(text)
    temporary.replace(path)


def meet(folder: Path, number: int, rank: int, size: int) -> None:
    """Returns when all `size` processes have come to this meeting, or have left.

    Args:
      number: of the meeting, from 0.
    """
    put(_meeting(folder, number, rank), '')
    while not all(
        _meeting(folder, number, other).exists() or (folder / f'left-{other}').exists() for other in range(size)
    ):
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def leave(folder: Path, rank: int) -> None:
    """Tells the others that this process comes to no further meeting."""
    put(folder / f'left-{rank}', '')


def _meeting(folder: Path, number: int, rank: int) -> Path:
    return folder / f'met-{number}-{rank}'
