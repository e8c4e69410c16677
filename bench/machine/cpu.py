"""The processor: what it is, its instruction sets, and how much of it this process may use."""

from __future__ import annotations

import functools
import math
import os
import platform
from pathlib import Path
from typing import Any

from bench.machine import cgroup

# The instruction sets that decide how fast a convolution is, in the spelling of Linux's /proc/cpuinfo.
INSTRUCTION_SETS = (
    'sse4_1', 'sse4_2', 'avx', 'avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'avx_vnni',
    'amx_tile', 'amx_int8', 'amx_bf16', 'asimd', 'asimddp', 'bf16', 'sve',
)  # fmt: skip


@functools.cache
def flags() -> frozenset[str]:
    """The processor's feature flags.

    Linux's own list is read where there is one, because it takes a millisecond; py-cpuinfo, which asks the processor
    itself, takes a second.
    """
    proc = Path('/proc/cpuinfo')
    if proc.exists():
        for line in proc.read_text(errors='replace').splitlines():
            name, _, value = line.partition(':')
            if name.strip() in ('flags', 'Features'):
                return frozenset(value.split())
    return frozenset(_cpuinfo().get('flags', ()))


def instruction_sets() -> list[str]:
    """Those of INSTRUCTION_SETS that the processor has."""
    return [name for name in INSTRUCTION_SETS if name in flags()]


def usable_cpus() -> int:
    """How many processors this process may keep busy: its affinity mask and its cgroup's quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(allowed, math.ceil(quota) if quota else allowed))


def cgroup_quota(root: Path = Path('/sys/fs/cgroup')) -> float | None:
    """Processors' worth of time that the control groups (v2 or v1) allow, or None for no limit."""
    quotas = []
    for text in cgroup.values('cpu.max', root=root):
        quota, period = text.split()
        quotas += [] if quota == 'max' else [int(quota) / int(period)]
    limits = cgroup.values('cpu.cfs_quota_us', 'cpu', root)
    for quota, period in zip(limits, cgroup.values('cpu.cfs_period_us', 'cpu', root), strict=False):
        quotas += [int(quota) / int(period)] if int(quota) > 0 else []
    return min(quotas, default=None)


def facts() -> dict[str, Any]:
    """The processor for the record."""
    import psutil

    info = _cpuinfo()
    return {
        'name': info.get('brand_raw') or platform.processor() or 'unknown',
        'vendor': info.get('vendor_id_raw', 'unknown'),
        'architecture': platform.machine(),
        'family': info.get('family'),
        'model': info.get('model'),
        'stepping': info.get('stepping'),
        'cores': psutil.cpu_count(logical=False),
        'threads': psutil.cpu_count(logical=True),
        'usable_cpus': usable_cpus(),
        'cgroup_quota': cgroup_quota(),
        'l2_cache_bytes': info.get('l2_cache_size'),
        'l3_cache_bytes': _l3_bytes(),
        'instruction_sets': instruction_sets(),
    }


@functools.cache
def _cpuinfo() -> dict[str, Any]:
    import cpuinfo

    return cpuinfo.get_cpu_info()


def _l3_bytes() -> int | None:
    """From Linux's cache description: py-cpuinfo's figure is that of one slice on some processors."""
    try:
        text = Path('/sys/devices/system/cpu/cpu0/cache/index3/size').read_text().strip()
        return int(text.removesuffix('K')) * 1024
    except (OSError, ValueError):
        return None
