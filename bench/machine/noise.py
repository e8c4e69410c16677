"""What disturbed a measurement: other programs, the hypervisor, heat, quotas, memory; how much, and what to do.

While the steps run a thread reads the load, twice a second at the most; everything else is read before and after.
Nothing is done between the steps.

The limits beyond which a warning is given are measured by the 1 % that a measurement aims at (the interval within which
it stops): what takes more than that share of the time changes the result by more than the result claims to be sure of.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from analysis import statistics
from bench.machine import container, counters
from bench.machine.counters import Events, Load, Process

Json = dict[str, Any]

# Between readings, and how many times longer than a reading itself, so that reading takes a thousandth of one processor
# wherever it is slow, as on machines with hundreds of processors.
_SECONDS_BETWEEN = 0.5
_LEAST_RATIO = 1000
# Over which the load of others is averaged to find when it was greatest: processor time is counted in hundredths.
_WORST_SECONDS = 1.0
_BUSIEST = 3
_QUANTILES = (('low', 0.1), ('median', 0.5), ('high', 0.9))

# Of the warnings.
CODES = frozenset(
    {
        'other_load', 'stolen', 'preempted', 'quota', 'thermal', 'frequency', 'page_faults', 'swapping',
        'memory_pressure',
    }
)  # fmt: skip

# What takes this share of the time changes the result by more than the interval that a measurement aims at.
_SHARE = 0.01
# Of a processor. Operations wait for their slowest thread, so that others' tenth of one processor is a tenth for all at
# the worst; the system's own work between the steps of a quiet machine stays below it. That work grows with the number
# of processors, up to half of one here: a program that keeps one busy is told of on every machine.
_OTHERS, _MOST_OTHERS = 0.1, 0.5
# Processor seconds that others must have used: ten times the unit in which they are counted.
_OTHERS_SECONDS = 0.1
# Processor seconds that must have been stolen, or stopped: five times that unit.
_LEAST_SECONDS = 0.05
# Speed follows the frequency; a twentieth is beyond what the reading itself varies by under steady load.
_FREQUENCY = 0.05
# A second: a page from a disk takes about a millisecond, so this is a hundredth of the time.
_PAGES = 10.0
# A second and processor: twice what ResNet-50 has on a quiet machine with as many threads as processors (300 to 1,100,
# because threads wake each other after each operation). Told of where there are more threads than processors.
_PREEMPTIONS = 2000.0


class Watch:
    """Watches from `start()` to `stop()`; afterwards `noise()` tells what was seen.

    The run's own processes are not noise: `root` and all that descend from it.
    """

    def __init__(self, root: int | None = None) -> None:
        """
        Args:
          root: the process that started all of the run's processes; this one where not given.
        """
        self._root = os.getpid() if root is None else root
        # The root's: where its processes are bound to a part each, the time of all of them is used on all of these.
        self._cpus = frozenset(_affinity(self._root))
        self._own: set[int] = set()
        self._loads: list[Load] = []
        self._events: list[Events] = []
        self._processes: list[dict[int, Process]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name='noise', daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._read()
        self._thread.start()

    def stop(self) -> None:
        """Ends it, if it began."""
        if self._loads:
            self._end.set()
            self._thread.join()
            self._read()

    def noise(self) -> Json | None:
        """What was seen, for the record; None where nothing was watched."""
        if len(self._events) < 2:
            return None
        seen = amounts(self._loads, self._events[0], self._events[1], len(self._cpus))
        seen['busiest'] = busiest(self._processes[0], self._processes[1], self._own, seen['seconds'])
        seen['whole_host'] = container.facts() is not None
        return seen

    def _read(self) -> None:
        self._processes.append(counters.processes())
        self._own |= counters.family(self._root, self._processes[-1])
        self._events.append(counters.events(self._cpus))
        self._loads.append(counters.load(self._own, self._cpus))

    def _sample(self) -> None:
        pause = _SECONDS_BETWEEN
        while not self._end.wait(pause):
            start = time.monotonic()
            self._loads.append(counters.load(self._own, self._cpus))
            pause = max(_SECONDS_BETWEEN, _LEAST_RATIO * (time.monotonic() - start))


def _affinity(pid: int) -> set[int]:
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return os.sched_getaffinity(0)


def amounts(loads: Sequence[Load], before: Events, after: Events, processors: int) -> Json:
    """How much of everything there was; null what this system does not count.

    Args:
      loads: at least two; the first was read with `before`, the last with `after`.
      processors: how many the loads are of.
    """
    first, last = loads[0], loads[-1]
    frequencies = [load.megahertz for load in loads if load.megahertz is not None]
    return {
        'seconds': last.seconds - first.seconds,
        'samples': len(loads),
        'processors': processors,
        'other_processors': _others(first, last),
        'other_processors_most': _most_others(loads),
        'stolen_seconds': _difference(first.stolen, last.stolen),
        'quota_periods': _difference(before.quota_periods, after.quota_periods),
        'quota_seconds': _difference(before.quota_seconds, after.quota_seconds),
        'thermal_throttles': _difference(before.thermal, after.thermal),
        'megahertz': {name: statistics.quantile(frequencies, q) for name, q in _QUANTILES} if frequencies else None,
        'major_faults': after.major_faults - before.major_faults,
        'swapped_pages': _difference(before.swapped_pages, after.swapped_pages),
        'preemptions': after.preemptions - before.preemptions,
        'memory_stall_seconds': _difference(before.memory_stall_seconds, after.memory_stall_seconds),
    }


def busiest(
    before: Mapping[int, Process], after: Mapping[int, Process], own: Collection[int], seconds: float
) -> list[Json]:
    """The other processes that used most: processors' worth of time, that of children that ended included."""
    used = {}
    for pid, process in after.items():
        if pid not in own:
            earlier = before.get(pid)
            used[pid] = _total(process) - (_total(earlier) if earlier and earlier.started == process.started else 0.0)
    # A parent is told all that a child ever used when it ends: what it had used before is not of this time.
    for pid in before.keys() - after.keys():
        above = before[pid].parent
        while above in before and above not in after:
            above = before[above].parent
        if above in used:
            used[above] -= _total(before[pid])
    first = sorted((pid for pid in used if used[pid] > 0), key=used.__getitem__, reverse=True)[:_BUSIEST]
    return [{'name': after[pid].name, 'pid': pid, 'processors': used[pid] / seconds} for pid in first]


def _total(process: Process) -> float:
    return process.seconds + process.reaped_seconds


def _others(first: Load, last: Load) -> float | None:
    """Processors that others kept busy on average between two readings."""
    if first.busy is None or last.busy is None:
        return None
    others = (last.busy - first.busy) - (last.own - first.own)
    return max(0.0, others / (last.seconds - first.seconds))


def _most_others(loads: Sequence[Load]) -> float | None:
    """The same in the worst second; on average where there are not two readings that are so far apart."""
    found = [_others(loads[0], loads[-1])]
    start = 0
    for load in loads:
        while start + 1 < len(loads) and load.seconds - loads[start + 1].seconds >= _WORST_SECONDS:
            start += 1
        if load.seconds - loads[start].seconds >= _WORST_SECONDS:
            found.append(_others(loads[start], load))
    return max((others for others in found if others is not None), default=None)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def warnings(noise: Json | None, threads: int) -> list[Json]:
    """A warning for each amount that is beyond its limit, ending in what to do.

    Args:
      threads: that compute at the same time, as the run was configured.
    """
    if noise is None:
        return []
    found = [*_of_processors(noise), *_of_threads(noise, threads), *_of_slowing(noise), *_of_memory(noise)]
    return [{'code': code, 'text': text} for code, text in found]


def _of_processors(noise: Json) -> Iterator[tuple[str, str]]:
    seconds, processors = noise['seconds'], noise['processors']
    others = noise['other_processors'] or 0.0
    if others >= max(_OTHERS, min(_SHARE * processors, _MOST_OTHERS)) and others * seconds >= _OTHERS_SECONDS:
        who = [f'{each["name"]} (process {each["pid"]}) {each["processors"]:.2f}' for each in noise['busiest']]
        where = ' of the whole host' if noise['whole_host'] else ''
        yield (
            'other_load',
            f'Other processes{where} kept {others:.2f} of {processors} processors busy during the measurement'
            f'{": " if who else ""}{", ".join(who)}. Stop them, or wait until they are done, and run again.',
        )
    stolen = noise['stolen_seconds'] or 0.0
    if stolen >= max(_SHARE * seconds * processors, _LEAST_SECONDS):
        yield (
            'stolen',
            f"The hypervisor kept {100 * stolen / seconds / processors:.1f} % of the processors' time for others. Run "
            'again at a quieter time, or on a machine whose processors are not shared.',
        )


def _of_threads(noise: Json, threads: int) -> Iterator[tuple[str, str]]:
    processors = noise['processors']
    rate = noise['preemptions'] / noise['seconds'] / processors
    if threads > processors and rate >= _PREEMPTIONS:
        yield (
            'preempted',
            f'{threads} threads on {processors} processors made way for each other {rate:.0f} times a second on each. '
            f'Use no more threads than processors: --num_intra_threads={processors} --num_inter_threads=1.',
        )


def _of_slowing(noise: Json) -> Iterator[tuple[str, str]]:
    seconds = noise['seconds']
    stopped = noise['quota_seconds'] or 0.0
    if stopped >= max(_SHARE * seconds, _LEAST_SECONDS):
        yield (
            'quota',
            f'The quota of the control group stopped this run in {noise["quota_periods"]} periods, for {stopped:.1f} '
            f'processor seconds in {seconds:.1f}. Give it more processors (docker run --cpus=), or fewer '
            'threads (--num_intra_threads=).',
        )
    if noise['thermal_throttles']:
        yield (
            'thermal',
            f'Heat slowed the processors down {noise["thermal_throttles"]} times. Cool the machine, or let it rest '
            'before each run.',
        )
    frequency = noise['megahertz']
    if frequency and frequency['high'] - frequency['low'] > _FREQUENCY * frequency['median']:
        yield (
            'frequency',
            f'The processors ran at {frequency["low"]:.0f} to {frequency["high"]:.0f} MHz. Fix their frequency '
            '(sudo cpupower frequency-set -g performance), or warm up longer with --num_warmup_batches=.',
        )


def _of_memory(noise: Json) -> Iterator[tuple[str, str]]:
    seconds = noise['seconds']
    pages = _PAGES * max(seconds, 1.0)
    if noise['major_faults'] >= pages:
        yield (
            'page_faults',
            f'{noise["major_faults"]} pages of this run had to be read from disk. Close programs that need memory, or '
            'use a smaller --batch_size.',
        )
    if (noise['swapped_pages'] or 0) >= pages:
        yield (
            'swapping',
            f'The machine swapped {noise["swapped_pages"]} pages. Close programs that need memory, use a smaller '
            '--batch_size, or turn swapping off (sudo swapoff -a).',
        )
    stalled = noise['memory_stall_seconds'] or 0.0
    if stalled >= max(_SHARE * seconds, _LEAST_SECONDS):
        yield (
            'memory_pressure',
            f'Processes waited for memory during {stalled:.1f} s of {seconds:.1f}. Close programs that need memory, or '
            'use a smaller --batch_size.',
        )
