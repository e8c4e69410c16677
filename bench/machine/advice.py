"""Recommended settings: what, why, and whether it applies to this machine and this build of TensorFlow.

Reasons of KMP_* and OMP_* are those of Intel's guide for TensorFlow on CPUs, of huge pages and allocators those of the
C library's and the allocators' manuals. What only a measurement can decide says so.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.machine import libraries
from bench.machine.libraries import INTEL_OPENMP

Json = dict[str, Any]


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
        _quota(facts),
        _numa(facts),
        _governor(facts),
        *_memory(facts),
    ]


def _has(facts: Json, name: str) -> bool:
    return any(row['name'] == name and row['processor'] == 'yes' for row in facts['instruction_sets'])


def _onednn(facts: Json) -> list[Advice]:
    found, on = [], facts['onednn']['on']
    vector = _has(facts, 'avx2') or _has(facts, 'asimd')
    why = "Its convolutions are code for this processor; TensorFlow's own are for all that the binary was built for."
    if on is None:
        found.append(Advice('--mkl=on', 'unknown', f'{why} Whether it is on could not be seen.'))
    elif on:
        found.append(Advice('--mkl=on', 'done', why))
    elif vector:
        found.append(Advice('--mkl=on', 'yes', f'{why} Off: {facts["onednn"]["reason"]}'))
    else:
        found.append(Advice('--mkl=on', 'try', 'Without AVX2 oneDNN may be slower than the stock kernels.'))
    missing = [row['title'] for row in facts['instruction_sets'] if (row['processor'], row['built']) == ('yes', 'no')]
    if missing:
        text = f'This one was not built for {", ".join(missing)}. With oneDNN on, that gains only what oneDNN leaves.'
        found.append(Advice('TensorFlow compiled for this processor', 'try', text))
    return found


def _bf16(facts: Json) -> Advice:
    ran = ', '.join(facts['onednn']['convolutions'].get('bf16', ()))
    if not any(_has(facts, name) for name in ('avx512_bf16', 'amx_bf16', 'bf16')):
        return Advice('--precision=bf16', 'no', 'The processor has no bfloat16 instructions.')
    if facts['onednn']['on'] is False:
        return Advice('--precision=bf16', 'no', 'It is computed by oneDNN, which is off.')
    text = 'About twice the arithmetic a second, where 8 bits of precision are enough for you.'
    return Advice('--precision=bf16', 'try', f'{text} Here it ran in {ran}.' if ran else text)


def _threads(facts: Json) -> list[Advice]:
    limits = facts['limits']
    usable, cores = limits['usable_cpus'], limits['usable_cores']
    found = [
        Advice(
            f'--num_intra_threads={usable}',
            'done',
            'The default: as many as this process may use, by affinity and control group.',
        ),
        Advice('--num_inter_threads=1', 'done', 'The default: one convolution at a time has all threads.'),
    ]
    if cores < usable:
        text = 'Two threads of a core share its multipliers: a thread a core is often faster, and steadier.'
        found.append(Advice(f'--num_intra_threads={cores}', 'try', text))
    return found


def _openmp(facts: Json) -> list[Advice]:
    linked = facts['tensorflow']['openmp']
    rows = (
        ('--kmp_blocktime=1', 'Threads sleep soon after an operation, and do not take time from others.'),
        ('--kmp_affinity=granularity=fine,compact,1,0', 'Threads stay on their cores, a core each first.'),
        (f'--omp_num_threads={facts["limits"]["usable_cores"]}', 'A thread for each usable core.'),
    )
    if linked is not None and set(linked) & set(INTEL_OPENMP):
        return [Advice(flag, 'done', f'{why} Set by `benchmark` in this build.') for flag, why in rows]
    flags = ', '.join(flag.partition('=')[0] for flag, _ in rows)
    if linked is None:
        return [Advice(flags, 'unknown', "Whether TensorFlow was built with Intel's OpenMP could not be told.")]
    return [Advice(flags, 'no', "This TensorFlow was not built with Intel's OpenMP, which alone reads them.")]


def _quota(facts: Json) -> Advice:
    quota = facts['limits']['cpu_quota']
    setting = 'processors instead of a quota (docker run --cpuset-cpus= instead of --cpus=)'
    if quota is None:
        return Advice(setting, 'done', 'There is no quota here.')
    text = f'The quota of {quota:g} processors stops all threads when its share of a period is used up.'
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
        'madvise': _asked_huge_pages(why),
        'never': Advice('transparent huge pages: madvise or always', 'try', f'Off: {why} (/sys/kernel/mm, as root.)'),
    }
    pages = rows.get(mode, Advice('transparent huge pages', 'unknown', 'The system does not tell.'))
    used = facts['memory']['allocator'] or ''
    text = 'Keeps memory that tensors leave instead of returning it to the system: fewer page faults.'
    is_done = 'tcmalloc' in used or 'jemalloc' in used
    return [pages, Advice('--allocator=tcmalloc', 'done' if is_done else 'try', f'{text} Now: {used or "unknown"}.')]


def _asked_huge_pages(why: str) -> Advice:
    glibc = libraries.glibc()
    if glibc is None or glibc < (2, 35):
        return Advice('--huge_pages=on', 'no', f'It takes glibc 2.35; brings {why}')
    return Advice('--huge_pages=on', 'done', f'The default: the C library asks for huge pages: {why}')
