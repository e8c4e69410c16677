"""Recommended settings: what, why, and whether it applies to this machine and this build of TensorFlow.

What `benchmark` sets by itself, and what the user's environment keeps it from, is bench/machine/tuning.py's plan.
Reasons of KMP_* and OMP_* are those of Intel's guide for TensorFlow on CPUs, of huge pages and allocators those of the
C library's and the allocators' manuals. What only a measurement can decide says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from bench.machine import numa, tuning

Json = dict[str, Any]
# How fast a core is beside one of the next faster kind of Intel's, whose vector units are often twice as wide: no
# frequency tells that, and Linux tells no capacity of them.
_E_CORE = 0.5


@dataclasses.dataclass(frozen=True)
class Advice:
    """A recommendation.

    Attributes:
      setting: what to type or do.
      applies: yes (not so here, and it helps), done (so here already), try (measure), no, unknown.
      reason: why, as a sentence.
    """

    setting: str
    applies: str
    reason: str


def advise(facts: Json) -> list[Advice]:
    """The table, from the facts of facts.collect."""
    return [
        *_onednn(facts),
        _bf16(facts),
        *_threads(facts),
        *_openmp(facts),
        *_fast_cores(facts),
        _quota(facts),
        _numa(facts),
        _governor(facts),
        *_memory(facts),
    ]


def _has(facts: Json, name: str) -> bool:
    return any(row['name'] == name and row['processor'] == 'yes' for row in facts['instruction_sets'])


def _onednn(facts: Json) -> list[Advice]:
    found, on = [], facts['onednn']['on']
    is_arm = any(row['name'] == 'asimd' for row in facts['instruction_sets'])
    name, title = ('asimd', 'Advanced SIMD (Neon)') if is_arm else ('avx2', 'AVX2')
    why = "Its convolutions are code for this processor; of TensorFlow's own the inner products alone are."
    if on is None:
        found.append(Advice('--mkl=on', 'unknown', f'{why} Whether it is on could not be seen.'))
    elif on:
        found.append(Advice('--mkl=on', 'done', why))
    elif _has(facts, name):
        measure = '`sweep --ladder --model=NAME` tells what it brings a network.'
        found.append(Advice('--mkl=on', 'try', f'{why} {measure} Off: {facts["onednn"]["reason"]}'))
    else:
        found.append(Advice('--mkl=on', 'try', f'Without {title} oneDNN may be slower than the stock kernels.'))
    missing = [row['title'] for row in facts['instruction_sets'] if (row['processor'], row['built']) == ('yes', 'no')]
    if missing:
        text = f'This one was not built for {", ".join(missing)}. With oneDNN on, that gains only what oneDNN leaves.'
        found.append(Advice('TensorFlow compiled for this processor', 'try', text))
    return found


def _bf16(facts: Json) -> Advice:
    ran = ', '.join(facts['onednn']['convolutions'].get('bf16', ()))
    if not facts['onednn']['bf16']:
        reason = facts['onednn']['bf16_reason']
        return Advice('--precision=bf16', 'no', reason[0].upper() + reason[1:])
    if facts['onednn']['on'] is False:
        return Advice('--precision=bf16', 'no', 'It is computed by oneDNN, which is off.')
    text = 'About twice the arithmetic a second, where 8 bits of precision are enough for you.'
    return Advice('--precision=bf16', 'try', f'{text} Here it ran in {ran}.' if ran else text)


def _setting(facts: Json, name: str) -> Json:
    """What `benchmark` does with a setting by itself: the row of tuning.settings."""
    return next(row for row in facts['tuning'] if row['setting'] == name)


def _threads(facts: Json) -> list[Advice]:
    usable, cores = facts['limits']['usable_cpus'], facts['limits']['usable_cores']
    found = []
    for name, best in (('num_intra_threads', usable), ('num_inter_threads', 1)):
        row = _setting(facts, name)
        found.append(Advice(f'--{name}={best}', 'done' if row['value'] == str(best) else 'no', row['reason']))
    if cores < usable and _setting(facts, 'num_intra_threads')['status'] != 'kept':
        text = 'Two threads of a core share its multipliers: a thread a core is often faster, and steadier.'
        found.append(Advice(f'--num_intra_threads={cores}', 'try', text))
    return found


def _openmp(facts: Json) -> list[Advice]:
    """A line for each that `benchmark` sets or the environment keeps, and one for all that a reason speaks of."""
    found, skipped = [], dict[str, list[str]]()
    for name in ('kmp_blocktime', 'kmp_affinity', 'omp_num_threads'):
        row = _setting(facts, name)
        if row['status'] == 'skipped':
            skipped.setdefault(row['reason'], []).append(f'--{name}')
        elif row['status'] == 'kept':
            found.append(Advice(f'--{name}', 'no', row['reason']))
        else:
            found.append(Advice(f'--{name}={row["value"]}', 'done', f'{row["reason"]} Set by `benchmark`.'))
    for reason, flags in skipped.items():
        found.append(Advice(', '.join(flags), 'unknown' if reason == tuning.UNKNOWN_OPENMP else 'no', reason))
    return found


def _fast_cores(facts: Json) -> list[Advice]:
    """Where there are several kinds of cores, and the fast ones alone do more than all."""
    kinds, allowed = facts['processor']['core_kinds'], numa.parse(facts['limits']['affinity'])
    everything = frozenset[int]().union(*(numa.parse(kind['cpus']) for kind in kinds))
    names, fast = _fastest(kinds, everything)
    if fast == everything:
        return []
    if not allowed & fast:
        setting = f'--cpu_affinity={numa.format_list(fast)}'
        return [Advice(setting, 'no', f'This process may not run on the {names} (CPU {numa.format_list(fast)}).')]
    if allowed <= fast:
        setting = f'--cpu_affinity={numa.format_list(allowed)}'
        return [Advice(setting, 'done', f'This process runs on the {names} alone.')]
    names, fast = _fastest(kinds, allowed)
    if fast >= allowed & everything:
        return []
    text = (
        f'An operation is divided evenly among threads and waits for the slowest: on {names} alone it is '
        'often faster, and steadier.'
    )
    return [Advice(f'--cpu_affinity={numa.format_list(fast)}', 'try', text)]


def _fastest(kinds: Sequence[Json], allowed: frozenset[int]) -> tuple[str, frozenset[int]]:
    """The kinds, from the fastest on, that do most together, each processor as much as the slowest one of them."""
    best, most = ('', frozenset[int]()), 0.0
    names, cpus = list[str](), frozenset[int]()
    for position, kind in enumerate(kinds):
        speed = kind['capacity'] or _E_CORE**position
        mine = numa.parse(kind['cpus']) & allowed
        if mine:
            names, cpus = [*names, kind['name']], cpus | mine
            if len(cpus) * speed > most:
                best, most = (' and '.join(names), cpus), len(cpus) * speed
    return best


def _quota(facts: Json) -> Advice:
    quota = facts['limits']['cpu_quota']
    setting = 'processors instead of a quota (docker run --cpuset-cpus= instead of --cpus=)'
    if quota is None:
        return Advice(setting, 'done', 'There is no quota here.')
    text = f'The quota, of {quota:g} CPU, stops all threads when its share of a period is used up.'
    return Advice(setting, 'yes', text)


def _numa(facts: Json) -> Advice:
    nodes = facts['processor']['nodes']
    if not nodes:
        return Advice('--numa_node=0', 'unknown', 'The system does not tell of nodes.')
    if len(nodes) == 1:
        return Advice('--numa_node=0', 'no', 'There is one node.')
    text = f"{len(nodes)} nodes: another node's memory is slower. One process a node, or one node."
    return Advice('--numa_node=0', 'try', text)


def _governor(facts: Json) -> Advice:
    governor = facts['processor']['governor']
    setting = 'cpupower frequency-set -g performance'
    if governor is None:
        return Advice(
            setting, 'unknown', 'The system does not tell the governor: a virtual machine leaves it to its host.'
        )
    if governor == 'performance':
        return Advice(setting, 'done', 'The frequency does not fall between steps.')
    return Advice(setting, 'yes', f'The governor is {governor}: the frequency follows the load, and results vary more.')


def _memory(facts: Json) -> list[Advice]:
    mode = facts['memory']['transparent_huge_pages']
    why = 'fewer page faults and misses of the TLB in large tensors.'
    rows = {
        'always': Advice('transparent huge pages: always', 'done', f'On for all memory: {why}'),
        'madvise': _asked_huge_pages(_setting(facts, 'huge_pages'), why),
        'never': Advice('transparent huge pages: madvise or always', 'try', f'Off: {why} (/sys/kernel/mm, as root.)'),
    }
    pages = rows.get(mode, Advice('transparent huge pages', 'unknown', 'The system does not tell.'))
    used = facts['memory']['allocator'] or ''
    text = 'Keeps memory that tensors leave instead of returning it to the system: fewer page faults.'
    is_done = 'tcmalloc' in used or 'jemalloc' in used
    return [pages, Advice('--allocator=tcmalloc', 'done' if is_done else 'try', f'{text} Now: {used or "unknown"}.')]


def _asked_huge_pages(asking: Json, why: str) -> Advice:
    """Where the kernel gives them to those who ask.

    Args:
      asking: the row of tuning.settings.
    """
    if asking['value'] == 'on':
        return Advice('--huge_pages=on', 'done', f'{asking["reason"]} The C library asks for huge pages: {why}')
    return Advice('--huge_pages=on', 'no', f'{asking["reason"]} They bring {why}')
