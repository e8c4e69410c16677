"""Order and division of pictures: by a seed, the same on every machine, and with no picture on both sides.

The order is numpy's RandomState, whose numbers are guaranteed to stay the same (NEP 19). TF-Slim shuffles the order in
which the file system happens to list flowers, so its division cannot be had again; here it depends on the names, the
seed and nothing else.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.data.convert.pictures import Encoded
from bench.data.progress import Progress

Array = Any

_TAIL = 4096
# Threads that read, which on most storage is waiting; and pictures of one piece of their work.
_READERS = 8
_CHUNK = 256
# So many are read in a moment, which needs no line of progress.
_QUICK = 2048


def shuffled(count: int, seed: int) -> Array:
    """The numbers 0 to count - 1 in the seed's order, int64 [count]."""
    return np.random.RandomState(seed).permutation(count)


def divide(groups: Array, held_out: int, seed: int) -> tuple[Array, Array]:
    """Divides pictures into those for training and those held out, each in the seed's order.

    Args:
      groups: for each picture the number of its group, int64 [N]; a group stays together.
      held_out: how many to hold out. Fewer are where what remains are larger groups.

    Returns:
      The numbers of the pictures for training and of those held out.
    """
    order = shuffled(len(groups), seed)
    sizes = np.bincount(groups, minlength=len(groups))
    chosen: set[int] = set()
    room = held_out
    for group in map(int, groups[order]):
        if room == 0:
            break
        if group not in chosen and sizes[group] <= room:
            chosen.add(group)
            room -= int(sizes[group])
    is_held_out = np.isin(groups[order], list(chosen))
    return order[~is_held_out], order[is_held_out]


def twins(pictures: Encoded) -> Array:
    """For each picture the number of the first that is byte-identical to it, its own where there is none, int64 [N].

    Read are the ends of those that are of equal length, and whole those whose ends are equal too.
    """
    _, kind, counts = np.unique(pictures.sizes, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[kind] > 1).tolist()
    alike: list[list[int]] = []
    for what, last in (("comparing pictures' ends", _TAIL), ('comparing pictures', None)):
        alike = _alike(pictures, suspects, what, last)
        suspects = [index for group in alike for index in group]
    groups = np.arange(len(pictures.sizes))
    for group in alike:
        groups[group] = group[0]
    return groups


def _alike(pictures: Encoded, indices: Sequence[int], what: str, last: int | None) -> list[list[int]]:
    """Lists of two or more pictures of equal size and equal last bytes; all bytes where None."""

    def digests(chunk: Sequence[int]) -> list[bytes]:
        starts = (max(0, int(pictures.sizes[index]) - last) if last else 0 for index in chunk)
        return [
            hashlib.sha256(pictures.read(index, start)).digest() for index, start in zip(chunk, starts, strict=True)
        ]

    found: dict[tuple[int, bytes], list[int]] = {}
    chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(_READERS))
        stack.callback(pool.shutdown, cancel_futures=True)
        progress = None
        if len(indices) > _QUICK:
            progress = stack.enter_context(Progress(what, 'pictures'))
            progress.start(0, len(indices))
        for chunk, seen in zip(chunks, pool.map(digests, chunks), strict=True):
            for index, digest in zip(chunk, seen, strict=True):
                found.setdefault((int(pictures.sizes[index]), digest), []).append(index)
            if progress:
                progress.advance(len(chunk))
    return [group for group in found.values() if len(group) > 1]
