"""Shares of the processors for several processes, so that each computes on processors of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

_SYSTEM = Path('/sys/devices/system/cpu')


class Share(Protocol):
    """A process's part of the processors, such as bench.runners.member.Place."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """Those that it is bound to; none where it has none of its own."""

    def threads(self, usable_cpus: int) -> int:
        """How many threads shall compute here, where so many processors may be kept busy by all of them."""


def shares(count: int, cpus: Sequence[int], root: Path = _SYSTEM) -> list[tuple[int, ...]]:
    """Divides processors among `count` processes: as even as can be, and no two on the threads of one core.

    Threads of a core are neighbours in the order by which the processors are divided, cores of a package too. Where
    there are more processes than processors, several have the same one.

    Args:
      cpus: numbers of the processors.
      root: where Linux tells which threads belong to a core.
    """
    ordered = sorted(cpus, key=lambda cpu: (*_place(cpu, root), cpu))
    if count > len(ordered):
        return [(ordered[index * len(ordered) // count],) for index in range(count)]
    limits = [index * len(ordered) // count for index in range(count + 1)]
    return [tuple(ordered[first:last]) for first, last in itertools.pairwise(limits)]


def allowed(process: int = 0) -> tuple[int, ...]:
    """The processors that a process, this one for 0, may run on; none where the system does not tell."""
    try:
        return tuple(sorted(os.sched_getaffinity(process)))
    except (AttributeError, OSError):
        return ()


@contextlib.contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Threads that are started within it stay on these processors; this one goes back to where it was before."""
    before = allowed()
    if not cpus or not before:
        yield
        return
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _place(cpu: int, root: Path) -> tuple[int, int]:
    """Package and core of a processor; (0, its number) where the system does not tell."""
    folder = root / f'cpu{cpu}' / 'topology'
    try:
        return int((folder / 'physical_package_id').read_text()), int((folder / 'core_id').read_text())
    except (OSError, ValueError):
        return 0, cpu
