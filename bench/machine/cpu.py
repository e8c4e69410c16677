"""The processor: what it is, its instruction sets, and how much of it this process may use."""

from __future__ import annotations

import functools
import math
import platform
from pathlib import Path
from typing import Any

from bench.machine import cgroup, instruction_sets, numa, proc_cpuinfo

_CPU = Path('/sys/devices/system/cpu')


@functools.cache
def processor() -> proc_cpuinfo.Processor:
    """The processor, as Linux's own list has it, or py-cpuinfo, which takes a second, where there is none."""
    path = Path('/proc/cpuinfo')
    if path.exists():
        return proc_cpuinfo.parse(path.read_text(errors='replace'))
    import cpuinfo

    info = cpuinfo.get_cpu_info()
    return proc_cpuinfo.Processor(
        name=info.get('brand_raw'),
        vendor=info.get('vendor_id_raw'),
        family=info.get('family'),
        model=info.get('model'),
        stepping=info.get('stepping'),
        flags=frozenset(info.get('flags', ())),
        megahertz=(),
    )


def flags() -> frozenset[str]:
    """The processor's feature flags, in the spelling of Linux's /proc/cpuinfo."""
    return processor().flags


def usable_cpus(cpus: frozenset[int] | None = None) -> int:
    """How many processors this process may keep busy: its affinity mask and its cgroup's quota, at least 1.

    Args:
      cpus: an affinity mask to count with instead.
    """
    allowed = len(numa.allowed() if cpus is None else cpus)
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

    found = processor()
    sizes = {cache['level']: cache['bytes'] for cache in caches() if cache['kind'] != 'Instruction'}
    return {
        'name': found.name or platform.processor() or 'unknown',
        'vendor': found.vendor or 'unknown',
        'architecture': platform.machine(),
        'family': found.family,
        'model': found.model,
        'stepping': found.stepping,
        'cores': psutil.cpu_count(logical=False),
        'threads': psutil.cpu_count(logical=True),
        'usable_cpus': usable_cpus(),
        'cgroup_quota': cgroup_quota(),
        'l2_cache_bytes': sizes.get(2),
        'l3_cache_bytes': sizes.get(3),
        'instruction_sets': [
            each.name for each in (*instruction_sets.X86, *instruction_sets.ARM) if each.name in found.flags
        ],
    }


def caches(root: Path = _CPU) -> list[dict[str, Any]]:
    """The caches that the first processor uses: level, kind (Data, Instruction, Unified), bytes, who shares them."""
    found = []
    for folder in sorted(root.glob('cpu0/cache/index[0-9]*')):
        try:
            size = (folder / 'size').read_text().strip()
            found.append(
                {
                    'level': int((folder / 'level').read_text()),
                    'kind': (folder / 'type').read_text().strip(),
                    'bytes': int(size.removesuffix('K')) * 1024,
                    'shared_by': (folder / 'shared_cpu_list').read_text().strip(),
                }
            )
        except (OSError, ValueError):
            continue
    return found


def frequency(root: Path = _CPU) -> dict[str, Any]:
    """Megahertz (now, least, most) and the governor that decides it; None for what the system does not tell.

    Of several processors: the mean of now, all the governors.
    """
    policies = sorted(root.glob('cpu[0-9]*/cpufreq'))
    now = _kilohertz(policies, 'scaling_cur_freq') or list(processor().megahertz)
    governors = {text for policy in policies if (text := _text(policy / 'scaling_governor'))}
    return {
        'megahertz': round(sum(now) / len(now), 1) if now else None,
        'least_megahertz': min(_kilohertz(policies, 'cpuinfo_min_freq'), default=None),
        'most_megahertz': max(_kilohertz(policies, 'cpuinfo_max_freq'), default=None),
        'governor': ', '.join(sorted(governors)) or None,
    }


def _kilohertz(policies: list[Path], name: str) -> list[float]:
    """Megahertz, which the kernel writes in kilohertz."""
    return [int(text) / 1000 for policy in policies if (text := _text(policy / name)) and text.isdecimal()]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ''
