"""What Linux counts that tells of a disturbed measurement, read at one moment. Texts in, numbers out.

Every counter only grows, so what happened in between is the difference of two readings. A counter that this system does
not have is None. Descriptions: proc(5), the kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.stat,
memory.pressure), scheduler/sched-bwc.rst (version 1), accounting/psi.rst.
"""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from bench.machine import cgroup

_PROC = Path('/proc')
_CPUS = Path('/sys/devices/system/cpu')
# Reading a frequency can interrupt the processor that it is of; a few tell as much as all of them.
_FREQUENCIES = 8


@dataclasses.dataclass(frozen=True)
class Load:
    """What is read several times during a measurement, because it is read quickly.

    Attributes:
      seconds: the monotonic clock.
      busy, stolen: processor seconds of the usable processors: at work for anyone, and taken by the hypervisor.
      own: processor seconds of the run's own processes.
      megahertz: of the fastest of some usable processors, so that those that idle do not count.
    """

    seconds: float
    busy: float | None
    stolen: float | None
    own: float
    megahertz: float | None


@dataclasses.dataclass(frozen=True)
class Events:
    """What is read before and after a measurement alone.

    Attributes:
      quota_periods, quota_seconds: in which the control groups' quota stopped this process's group, and for how long.
      thermal: how often usable processors were slowed down because of heat.
      major_faults: pages that this process waited for a disk to bring.
      swapped_pages: of the whole machine, in and out.
      preemptions: how often a thread of this process was ready and had to make way.
      memory_stall_seconds: in which something waited for memory, in this process's group or on the machine.
    """

    quota_periods: int | None
    quota_seconds: float | None
    thermal: int | None
    major_faults: int
    swapped_pages: int | None
    preemptions: int
    memory_stall_seconds: float | None


@dataclasses.dataclass(frozen=True)
class Process:
    """A process, as /proc/PID/stat has it.

    Attributes:
      seconds: of processors, its own.
      reaped_seconds: of its children that ended and were waited for.
      started: ticks after the machine's start, which tell it from another of the same number.
    """

    name: str
    parent: int
    seconds: float
    reaped_seconds: float
    started: int


def load(own: Iterable[int], cpus: Collection[int]) -> Load:
    """Reads what is read often.

    Args:
      own: the run's processes.
      cpus: the usable processors.
    """
    texts = (_text(_PROC / str(pid) / 'stat') for pid in own)
    used = sum(process.seconds + process.reaped_seconds for process in map(parse_process, texts) if process)
    busy, stolen = processor_seconds(_text(_PROC / 'stat'), cpus)
    return Load(time.monotonic(), busy, stolen, used, _megahertz(cpus))


def events(cpus: Collection[int]) -> Events:
    """Reads what is read before and after."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    quota_periods, quota_seconds = quota([*cgroup.values('cpu.stat'), *cgroup.values('cpu.stat', 'cpu')])
    pressure = next(cgroup.values('memory.pressure'), '') or _text(_PROC / 'pressure' / 'memory')
    return Events(
        quota_periods=quota_periods,
        quota_seconds=quota_seconds,
        thermal=thermal_throttles(cpus),
        major_faults=usage.ru_majflt,
        swapped_pages=swapped_pages(_text(_PROC / 'vmstat')),
        preemptions=usage.ru_nivcsw,
        memory_stall_seconds=stalled_seconds(pressure),
    )


def processes() -> dict[int, Process]:
    """Every process that can be seen."""
    found = {int(path.name): parse_process(_text(path / 'stat')) for path in _PROC.iterdir() if path.name.isdigit()}
    return {pid: process for pid, process in found.items() if process}


def family(root: int, known: Mapping[int, Process]) -> set[int]:
    """A process and all that descend from it."""
    members, fresh = {root}, {root}
    while fresh:
        fresh = {pid for pid, process in known.items() if process.parent in fresh} - members
        members |= fresh
    return members


def thermal_throttles(cpus: Collection[int], root: Path = _CPUS) -> int | None:
    """How often processors were slowed down because of heat since the machine started.

    None where none of them has a counter: Linux has them of Intel's processors, and virtual machines have none.
    """
    counts = [_thermal(root / f'cpu{cpu}' / 'thermal_throttle') for cpu in cpus]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


# Texts


def processor_seconds(stat: str, cpus: Collection[int], ticks: int | None = None) -> tuple[float | None, float | None]:
    """Seconds at work and seconds stolen of some processors, from /proc/stat; None where it does not tell.

    Waiting for a disk is not work. Guests' time is in that of users already.
    """
    ticks = ticks or os.sysconf('SC_CLK_TCK')
    busy = stolen = 0
    seen = False
    for number, counts in re.findall(r'^cpu(\d+) (.*)$', stat, re.MULTILINE):
        if int(number) in cpus:
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, steal = map(int, counts.split()[:8])
            busy += user + nice + system + interrupts + soft_interrupts
            stolen += steal
            seen = True
    return (busy / ticks, stolen / ticks) if seen else (None, None)


def parse_process(stat: str, ticks: int | None = None) -> Process | None:
    """From /proc/PID/stat, whose second field is a name that may hold blanks and brackets; None if it has vanished."""
    if not stat:
        return None
    ticks = ticks or os.sysconf('SC_CLK_TCK')
    head, _, tail = stat.rpartition(')')
    fields = tail.split()
    user, system, reaped_user, reaped_system = map(int, fields[11:15])
    name = head.partition('(')[2]
    reaped = (reaped_user + reaped_system) / ticks
    return Process(name, int(fields[1]), (user + system) / ticks, reaped, int(fields[19]))


def quota(stats: Iterable[str]) -> tuple[int | None, float | None]:
    """Periods and seconds in which quotas stopped processes, from the cpu.stat of a group and its ancestors.

    Version 2 counts microseconds (throttled_usec), version 1 nanoseconds (throttled_time).
    """
    periods: int | None = None
    seconds = 0.0
    for text in stats:
        values = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        if 'nr_throttled' in values:
            periods = (periods or 0) + int(values['nr_throttled'])
            seconds += int(values.get('throttled_usec', 0)) / 1e6 + int(values.get('throttled_time', 0)) / 1e9
    return periods, None if periods is None else seconds


def swapped_pages(vmstat: str) -> int | None:
    """Pages swapped in and out since the machine started, from /proc/vmstat."""
    counts = re.findall(r'^pswp(?:in|out) (\d+)$', vmstat, re.MULTILINE)
    return sum(map(int, counts)) if counts else None


def stalled_seconds(pressure: str) -> float | None:
    """Seconds in which at least one task waited, from a file of pressure stall information."""
    found = re.search(r'^some .*total=(\d+)$', pressure, re.MULTILINE)
    return int(found[1]) / 1e6 if found else None


# Files


def _text(path: Path) -> str:
    try:
        return path.read_text(errors='replace')
    except OSError:
        return ''


def _thermal(folder: Path) -> int | None:
    counts = [_text(folder / f'{part}_throttle_count').strip() for part in ('core', 'package')]
    return sum(map(int, filter(None, counts))) if any(counts) else None


def _megahertz(cpus: Collection[int]) -> float | None:
    paths = (_CPUS / f'cpu{cpu}' / 'cpufreq' / 'scaling_cur_freq' for cpu in sorted(cpus)[:_FREQUENCIES])
    kilohertz = [int(text) for text in map(_text, paths) if text.strip().isdigit()]
    return max(kilohertz) / 1e3 if kilohertz else None
