"""Memory: what the machine has, what this process may use, what it used at most."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.machine import cgroup

# cgroup v1 writes "no limit" as a number near 2**63.
_NO_LIMIT = 1 << 60
# How the environment says how many arenas glibc may have, before and since 2.26; and mallopt's number for it, malloc.h.
ARENAS, ARENAS_TUNABLE = 'MALLOC_ARENA_MAX', 'glibc.malloc.arena_max'
_M_ARENA_MAX = -8


def cgroup_limit(root: Path = Path('/sys/fs/cgroup')) -> int | None:
    """Bytes that the control groups (v2 or v1) allow, or None for no limit."""
    texts = [*cgroup.values('memory.max', root=root), *cgroup.values('memory.limit_in_bytes', 'memory', root)]
    limits = [int(text) for text in texts if text != 'max' and int(text) < _NO_LIMIT]
    return min(limits, default=None)


def peak_bytes() -> int:
    """The largest resident set that this process ever had.

    From /proc, because getrusage's figure on Linux begins with that of the process which started this one.
    """
    try:
        status = Path('/proc/self/status').read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.partition('VmHWM:')[2].split()[0]) * 1024


def limit_arenas(most: int, environ: Mapping[str, str] = os.environ) -> None:
    """Has glibc keep this process's memory in so many heaps at the most, unless the environment says how many.

    By itself it has up to eight a processor, for all threads that ever ran. Encoded and decoded pictures of all sizes,
    which one thread allocates and another frees, leave gaps in each of them, so that the process grows for hours.
    To be called before there are threads.
    """
    if ARENAS in environ or ARENAS_TUNABLE in environ.get('GLIBC_TUNABLES', ''):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:  # it is not in every C library
        mallopt(_M_ARENA_MAX, most)


def usable_bytes() -> int:
    """What this process may use at the most: the machine's memory, or its control group's limit."""
    import psutil

    total = int(psutil.virtual_memory().total)
    return min(total, cgroup_limit() or total)


def huge_pages(kernel: Path = Path('/sys/kernel/mm'), meminfo: Path = Path('/proc/meminfo')) -> dict[str, Any]:
    """Transparent huge pages ('always', 'madvise', 'never') and reserved ones: how many, of how many bytes; or None."""
    try:
        words = (kernel / 'transparent_hugepage/enabled').read_text().split()
        mode = next((word.strip('[]') for word in words if word.startswith('[')), None)
    except OSError:
        mode = None
    try:
        pairs = (line.partition(':') for line in meminfo.read_text().splitlines())
        sizes = {name: int(value.split()[0]) for name, _, value in pairs if name in ('HugePages_Total', 'Hugepagesize')}
    except (OSError, ValueError, IndexError):
        sizes = {}
    return {
        'transparent_huge_pages': mode,
        'reserved_huge_pages': sizes.get('HugePages_Total'),
        'huge_page_bytes': sizes['Hugepagesize'] * 1024 if 'Hugepagesize' in sizes else None,
    }


def facts() -> dict[str, Any]:
    """Memory for the record, in bytes."""
    import psutil

    return {'total_bytes': psutil.virtual_memory().total, 'cgroup_limit_bytes': cgroup_limit()}
