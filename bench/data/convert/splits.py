"""Order and division of pictures: by a seed, the same on every machine, and with no picture on both sides.

The order is numpy's RandomState, whose numbers are guaranteed to stay the same (NEP 19). TF-Slim shuffles the order in
which the file system happens to list flowers, so its division cannot be had again; here it depends on the names, the
seed and nothing else.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from bench.data.convert.pictures import Encoded

Array = Any

_TAIL = 4096


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
    groups = np.arange(len(pictures.sizes))
    _, kind, counts = np.unique(pictures.sizes, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[kind] > 1)
    for ends_alike in _alike(pictures, suspects, _TAIL):
        for alike in _alike(pictures, ends_alike, None):
            groups[alike] = alike[0]
    return groups


def _alike(pictures: Encoded, indices: Any, last: int | None) -> list[list[int]]:
    """Lists of two or more pictures of equal size and equal last bytes; all bytes where None."""
    found: dict[tuple[int, bytes], list[int]] = {}
    for index in map(int, indices):
        size = int(pictures.sizes[index])
        data = pictures.read(index, max(0, size - last) if last else 0)
        found.setdefault((size, hashlib.sha256(data).digest()), []).append(index)
    return [alike for alike in found.values() if len(alike) > 1]
