"""The options that say how this machine is used, and what is wrong with them here."""

from __future__ import annotations

import dataclasses
import os

from bench.machine import capabilities, cpu, instruction_sets, libraries, numa
from bench.machine.environment import user
from bench.options import option

MAX_ISA = 'ONEDNN_MAX_CPU_ISA'
# What oneDNN read before it had that name, and still reads.
OLD_MAX_ISA = 'DNNL_MAX_CPU_ISA'


@dataclasses.dataclass(frozen=True)
class MachineOptions:
    """The machine (what stands in the environment wins over these; the record says what came of each)"""

    mkl: str = option(
        'auto',
        'Compute with oneDNN, formerly MKL-DNN; auto leaves it to TensorFlow. --mkl and --nomkl are on and off.',
        choices=('auto', 'on', 'off'),
        switch=True,
    )
    onednn_max_isa: str | None = option(
        None,
        "The most that oneDNN may use of the processor's instruction sets; where it is off, the matrix products in "
        "TensorFlow's own kernels, which are its code too.",
        choices=tuple(instruction_sets.LEVELS),
    )
    kmp_blocktime: int | None = option(
        None,
        "Milliseconds that threads of Intel's OpenMP wait for work before they sleep; 1 where not given and TensorFlow "
        'was built with it.',
        minimum=0,
    )
    kmp_affinity: str | None = option(
        None,
        "How threads of Intel's OpenMP are bound to processors; granularity=fine,compact,1,0 where not given and "
        'TensorFlow was built with it.',
        commas=True,
    )
    omp_num_threads: int | None = option(
        None, 'Threads of OpenMP; usable cores where not given and TensorFlow was built with it.', minimum=1
    )
    cpu_affinity: str | None = option(None, 'Run on these processors alone, such as 0-3,8.', commas=True)
    numa_node: int | None = option(None, "Run on this node's processors, with memory of this node alone.", minimum=0)
    allocator: str = option(
        'system', 'The library that gives out memory; it must be installed.', choices=('system', 'tcmalloc', 'jemalloc')
    )

    huge_pages: str = option(
        'auto',
        'Let the C library ask for huge pages (glibc.malloc.hugetlb=1); auto does where glibc is 2.35 or later and the '
        'kernel gives them to those who ask.',
        choices=('auto', 'on', 'off'),
        switch=True,
    )

    def variables(self) -> dict[str, str]:
        """The environment variables that these ask for and that decide what TensorFlow can compute."""
        turn = capabilities.switch(libraries.openmp())
        found = {} if self.mkl == 'auto' else {turn.name: turn.on if self.mkl == 'on' else turn.off}
        return found if self.onednn_max_isa is None else {**found, MAX_ISA: self.onednn_max_isa}


def machine_problems(options: MachineOptions) -> list[str]:
    """What cannot be done here, each as a sentence with what to do instead."""
    found = _max_isa_problems(options)
    if options.cpu_affinity is not None or options.numa_node is not None:
        found += _processor_problems(options)
    if options.allocator != 'system' and not libraries.preloaded_allocator(user()):
        found += _allocator_problems(options.allocator)
    return found


def _max_isa_problems(options: MachineOptions) -> list[str]:
    if options.onednn_max_isa is None:
        return []
    flag = f'--onednn_max_isa={options.onednn_max_isa}'
    can = instruction_sets.levels_of(cpu.flags())
    if options.onednn_max_isa not in (*can, *instruction_sets.untold_levels(cpu.flags())):
        what = f'has {", ".join(can)}' if can else 'is not one that oneDNN knows these levels of'
        what = 'is one of ARM, and these levels are of x86' if instruction_sets.is_arm(cpu.flags()) else what
        return [f'{flag} would limit nothing: the processor {what}.']
    return []


def _processor_problems(options: MachineOptions) -> list[str]:
    if not hasattr(os, 'sched_setaffinity'):
        return ['--cpu_affinity and --numa_node need Linux: this system does not bind processes to processors.']
    allowed, nodes, found = numa.allowed(), numa.nodes(), []
    wanted = allowed
    if options.cpu_affinity is not None:
        flag = f'--cpu_affinity={options.cpu_affinity}'
        try:
            wanted = numa.parse(options.cpu_affinity)
        except ValueError:
            return [
                f'{flag}: numbers of processors are expected, such as 0-3,8. Usable are {numa.format_list(allowed)}.'
            ]
        if not wanted <= allowed:
            found.append(f'{flag}: this process may run on {numa.format_list(allowed)}. Name some of these.')
    if options.numa_node is not None:
        flag = f'--numa_node={options.numa_node}'
        if options.numa_node not in nodes:
            has = f'has {", ".join(map(str, nodes))}' if nodes else 'tells of no nodes; leave it out'
            found.append(f'{flag}: there is no such node. This machine {has}.')
        elif not wanted & nodes[options.numa_node]:
            found.append(
                f'{flag}: its processors are {numa.format_list(nodes[options.numa_node])}, and this process runs on '
                f'{numa.format_list(wanted)}. Name another node or other processors.'
            )
        elif options.cpu_affinity is not None and not wanted <= nodes[options.numa_node]:
            found.append(
                f'{flag}: its processors are {numa.format_list(nodes[options.numa_node])}, and --cpu_affinity='
                f'{options.cpu_affinity} names others. Leave one of the flags out.'
            )
    return found


def _allocator_problems(name: str) -> list[str]:
    if libraries.find_allocator(name) is not None:
        return []
    debian, fedora = libraries.PACKAGES[name]
    return [
        f'--allocator={name}: its library is not installed. Install it (Debian and Ubuntu: apt-get install {debian}; '
        f'Fedora and Red Hat: dnf install {fedora}), or leave the flag out.'
    ]
