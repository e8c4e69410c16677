"""Processors by number: lists of them, the nodes of memory that they are near to, the cores that they share.

Nodes and cores are read from Linux's /sys. A process's memory is bound to a node by the kernel's set_mempolicy, which
is what `numactl --membind` calls (Linux, Documentation/admin-guide/mm/numa_memory_policy.rst): the policy is kept by
execve and inherited by threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

# Numbers of the system calls (set, get), which no library that is always there wraps.
_CALLS = {'x86_64': (238, 239), 'aarch64': (237, 236)}
_BIND = 2
_MOST_NODES = 1024


def parse(text: str) -> frozenset[int]:
    """The processors of a list such as '0-3,8', which is how Linux and taskset write it.

    Raises:
      ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.split(','):
        first, dash, last = part.strip().partition('-')
        if not (first.isdecimal() and (not dash or last.isdecimal())):
            raise ValueError(text)
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[-1] > 1 << 16:
            raise ValueError(text)
        found.update(numbers)
    return frozenset(found)


def format_list(cpus: Iterable[int]) -> str:
    """'0-3,8' for {0, 1, 2, 3, 8}."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ','.join(str(first) if first == last else f'{first}-{last}' for first, last in runs)


def allowed() -> frozenset[int]:
    """The processors that this process may run on; all where the system has no affinity."""
    if hasattr(os, 'sched_getaffinity'):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def nodes(root: Path = Path('/sys/devices/system/node')) -> dict[int, frozenset[int]]:
    """Each node's processors; empty where the system tells of none."""
    found = {}
    for folder in root.glob('node[0-9]*'):
        try:
            text = (folder / 'cpulist').read_text().strip()
            found[int(folder.name.removeprefix('node'))] = parse(text) if text else frozenset()
        except (OSError, ValueError):
            continue
    return dict(sorted(found.items()))


def cores(root: Path = Path('/sys/devices/system/cpu')) -> dict[int, frozenset[int]]:
    """For each processor those of its core, itself among them: several where cores run several threads."""
    found = {}
    for path in root.glob('cpu[0-9]*/topology/thread_siblings_list'):
        try:
            found[int(path.parts[-3].removeprefix('cpu'))] = parse(path.read_text().strip())
        except (OSError, ValueError):
            continue
    return found


def bind_memory(node: int) -> None:
    """Lets this process take memory of one node alone.

    Raises:
      OSError: the kernel does not allow it, as in most containers, or knows no such policy.
    """
    calls = _calls()
    if calls is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    mask = _mask()
    mask[node // 64] = 1 << (node % 64)
    _call(calls[0], _BIND, mask, _MOST_NODES + 1)


def memory_nodes() -> frozenset[int] | None:
    """The nodes that this process's memory is bound to; None where it is bound to none or that cannot be asked."""
    calls = _calls()
    if calls is None:
        return None
    mode, mask = ctypes.c_int(), _mask()
    try:
        _call(calls[1], ctypes.byref(mode), mask, _MOST_NODES + 1, None, 0)
    except OSError:
        return None
    if mode.value != _BIND:
        return None
    return frozenset(64 * index + bit for index, word in enumerate(mask) for bit in range(64) if word >> bit & 1)


def _calls() -> tuple[int, int] | None:
    return _CALLS.get(platform.machine()) if sys.platform == 'linux' else None


def _mask() -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * (_MOST_NODES // 64 + 1))()


def _call(number: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # System calls take words: a Python int would be passed as 32 bits.
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    if libc.syscall(ctypes.c_long(number), *words) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
