"""What is set before TensorFlow loads: threads, oneDNN, OpenMP, processors, memory; and what came of each setting.

`plan` is a pure function. The user's environment wins over flags and defaults. Recommendations for Intel's OpenMP are
those of Intel's guide for TensorFlow (KMP_BLOCKTIME=1, KMP_AFFINITY=granularity=fine,compact,1,0, a thread a core);
they reach only builds that are linked with it. Variables are read by libraries when they are loaded, and LD_PRELOAD
when a process begins, so that a process in which one is missing starts itself anew, once, with the same id.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.machine import capabilities, cores, cpu, environment, instruction_sets, libraries, memory, numa
from bench.machine.options import MAX_ISA, OLD_MAX_ISA, MachineOptions
from bench.options import ThreadOptions

# glibc's tunable of that name, since 2.35 (its manual, Memory Allocation Tunables).
_TUNABLES, _HUGE = 'GLIBC_TUNABLES', 'glibc.malloc.hugetlb'
# What oneDNN takes in ONEDNN_MAX_CPU_ISA.
_KNOWN_ISAS = frozenset({*instruction_sets.LEVELS, *instruction_sets.ALIASES, 'DEFAULT', 'ALL'})
INTRA, INTER = 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS'
_BLOCKTIME = '1'
_AFFINITY = 'granularity=fine,compact,1,0'
UNKNOWN_OPENMP = 'Whether TensorFlow was built with OpenMP could not be told.'


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the plan depends on besides options and environment.

    Attributes:
      openmp: the OpenMP runtimes that TensorFlow was linked with; None where unknown.
      usable_cpus: processors that may be kept busy, with the affinity that the options ask for.
      usable_cores: cores that they belong to, at most usable_cpus.
      own_cpus: processors that its threads may run on, of which a quota may leave fewer usable; those of its share
        where they are bound to one.
      cpus: those that this process may run on.
      nodes: each NUMA node's processors.
      memory_nodes: what this process's memory is bound to, or None.
      allocators: the installed libraries by name.
      glibc: the C library's version, or None where it is another one.
      huge_pages: whom the kernel gives transparent huge pages: 'always', 'madvise' (those who ask), 'never', or None.
      onednn: whether TensorFlow turns oneDNN on where nothing asks for it.
    """

    openmp: tuple[str, ...] | None
    usable_cpus: int
    usable_cores: int
    own_cpus: int
    cpus: frozenset[int]
    nodes: Mapping[int, frozenset[int]]
    memory_nodes: frozenset[int] | None
    allocators: Mapping[str, str]
    glibc: tuple[int, int] | None
    huge_pages: str | None
    onednn: bool


@dataclasses.dataclass(frozen=True)
class Setting:
    """What came of a setting.

    Attributes:
      setting: the flag's name; malloc_arenas has none.
      value: what counts, as text; None where it is left to TensorFlow or the system.
      status: applied (by this program), kept (as the user's environment has it) or skipped.
      reason: why, as a sentence.
    """

    setting: str
    value: str | None
    status: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done: variables to add, processors to run on, a node for memory; and what came of each setting."""

    environment: Mapping[str, str]
    cpus: frozenset[int] | None
    node: int | None
    settings: tuple[Setting, ...]


def plan(options: MachineOptions, threads: ThreadOptions, facts: Facts, environ: Mapping[str, str]) -> Plan:
    """What is to be done for these options on this machine.

    Args:
      environ: as the user gave it.
    """
    added: dict[str, str] = {}
    settings = [
        _mkl(options, facts, environ, added),
        _max_isa(options, environ, added),
        _threads('num_intra_threads', INTRA, threads.num_intra_threads, facts.usable_cpus, environ),
        _threads('num_inter_threads', INTER, threads.num_inter_threads, 1, environ),
        *_openmp(options, facts, environ, added),
        _cpu_affinity(options, facts),
        _numa_node(options, facts),
        _allocator(options, facts, environ, added),
        _huge_pages(options, facts, environ, added),
        _arenas(options, facts, environ),
    ]
    return Plan(added, _cpus(options, facts), options.numa_node, tuple(settings))


def _mkl(options: MachineOptions, facts: Facts, environ: Mapping[str, str], added: dict[str, str]) -> Setting:
    turn = capabilities.switch(facts.openmp)
    by_itself = 'on' if facts.onednn else 'off'
    if turn.name in environ:
        read = turn.read(environ[turn.name])
        if read is None:
            why = 'is set in the environment, which wins, and which TensorFlow takes for not set: it is no 1 and no 0.'
            return Setting('mkl', by_itself, 'kept', f'{turn.name}={environ[turn.name]} {why}')
        return _kept('mkl', turn.name, environ, 'on' if read else 'off')
    if options.mkl == 'auto':
        return Setting('mkl', None, 'skipped', f'Left to TensorFlow, which has oneDNN {by_itself} here by itself.')
    added[turn.name] = turn.on if options.mkl == 'on' else turn.off
    return Setting('mkl', options.mkl, 'applied', f'{turn.name}={added[turn.name]}.')


def _max_isa(options: MachineOptions, environ: Mapping[str, str], added: dict[str, str]) -> Setting:
    for name in (MAX_ISA, OLD_MAX_ISA):
        if name in environ and environ[name].upper() not in _KNOWN_ISAS:
            why = 'is set in the environment, which wins, and which oneDNN does not know: it uses all that there is.'
            return Setting('onednn_max_isa', None, 'kept', f'{name}={environ[name]} {why}')
        if name in environ:
            return _kept('onednn_max_isa', name, environ)
    if options.onednn_max_isa is None:
        return Setting('onednn_max_isa', None, 'skipped', 'Not asked for: oneDNN uses all that the processor has.')
    added[MAX_ISA] = options.onednn_max_isa
    return Setting('onednn_max_isa', options.onednn_max_isa, 'applied', f'{MAX_ISA}={options.onednn_max_isa}.')


def _threads(flag: str, name: str, asked: int | None, default: int, environ: Mapping[str, str]) -> Setting:
    if from_environment(name, environ):
        return _kept(flag, name, environ)
    if asked and asked != default:
        return Setting(flag, str(asked), 'applied', f'--{flag}={asked}.')
    why = (
        'As many as this process may use processors: its affinity and its control group count.'
        if name == INTRA
        else 'One operation at a time has all threads for itself.'
    )
    return Setting(flag, str(default), 'applied', why)


def from_environment(name: str, environ: Mapping[str, str]) -> int | None:
    """A number of threads that the user's environment sets; TensorFlow takes 0 and what is no number for not set."""
    text = environ.get(name, '').strip()
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _openmp(options: MachineOptions, facts: Facts, environ: Mapping[str, str], added: dict[str, str]) -> list[Setting]:
    """The settings of OpenMP: (flag, variable, what was asked for, the default, why that)."""
    per_core = str(facts.usable_cores)
    rows = (
        ('kmp_blocktime', 'KMP_BLOCKTIME', options.kmp_blocktime, _BLOCKTIME, 'threads sleep soon between operations'),
        ('kmp_affinity', 'KMP_AFFINITY', options.kmp_affinity, _AFFINITY, 'threads stay on their cores'),
        ('omp_num_threads', 'OMP_NUM_THREADS', options.omp_num_threads, per_core, 'a thread for each usable core'),
    )
    found = []
    for flag, name, asked, default, why in rows:
        reads = libraries.INTEL_OPENMP if flag.startswith('kmp') else (*libraries.INTEL_OPENMP, 'libgomp')
        if facts.openmp is not None and not set(facts.openmp) & set(reads):
            what = "Intel's OpenMP" if flag.startswith('kmp') else 'OpenMP'
            reason = f'No effect: TensorFlow was not built with {what}; oneDNN computes on its own threads.'
            found.append(Setting(flag, None, 'skipped', reason))
        elif name in environ:
            found.append(_kept(flag, name, environ))
        elif facts.openmp is None:
            found.append(Setting(flag, None, 'skipped', UNKNOWN_OPENMP))
        elif flag == 'kmp_affinity' and asked is None and facts.usable_cpus < facts.own_cpus:
            reason = (
                f'Only {facts.usable_cpus} of {facts.own_cpus} processors may be kept busy: threads would all be on '
                'the first ones, and so would those of each other process with such a limit.'
            )
            found.append(Setting(flag, None, 'skipped', reason))
        else:
            added[name] = default if asked is None else str(asked)
            reason = f'{name}: {why}.' if asked is None else f'{name}, by --{flag}.'
            found.append(Setting(flag, added[name], 'applied', reason))
    return found


def _cpus(options: MachineOptions, facts: Facts) -> frozenset[int] | None:
    if options.cpu_affinity is None and options.numa_node is None:
        return None
    wanted = facts.cpus if options.cpu_affinity is None else numa.parse(options.cpu_affinity)
    return wanted if options.numa_node is None else wanted & facts.nodes[options.numa_node]


def _cpu_affinity(options: MachineOptions, facts: Facts) -> Setting:
    wanted = _cpus(options, facts)
    if wanted is None:
        return Setting(
            'cpu_affinity', numa.format_list(facts.cpus), 'kept', 'The processors that this process was given.'
        )
    cause = '--cpu_affinity' if options.cpu_affinity is not None else '--numa_node'
    return Setting('cpu_affinity', numa.format_list(wanted), 'applied', f'Bound to them by {cause}.')


def _numa_node(options: MachineOptions, facts: Facts) -> Setting:
    if options.numa_node is None:
        return Setting('numa_node', None, 'skipped', 'Not asked for: memory comes from where it is first used.')
    if facts.memory_nodes == {options.numa_node}:
        reason = "Bound to the node's processors, and memory to the node."
    else:
        reason = (
            "Bound to the node's processors. Memory could not be bound to the node (containers need CAP_SYS_NICE for "
            'that): it comes from the node where it is first used, which is this one while it has some.'
        )
    return Setting('numa_node', str(options.numa_node), 'applied', reason)


def _allocator(options: MachineOptions, facts: Facts, environ: Mapping[str, str], added: dict[str, str]) -> Setting:
    preloaded = libraries.preloaded_allocator(dict(environ))
    if preloaded:
        name = next((name for name in libraries.PACKAGES if name in preloaded), preloaded)
        return _kept('allocator', 'LD_PRELOAD', environ, name)
    if options.allocator == 'system':
        return Setting('allocator', 'system', 'skipped', 'Not asked for: memory comes from the C library.')
    path = facts.allocators[options.allocator]
    added['LD_PRELOAD'] = ':'.join(part for part in (path, environ.get('LD_PRELOAD', '')) if part)
    return Setting('allocator', options.allocator, 'applied', f'LD_PRELOAD={path}.')


def _huge_pages(options: MachineOptions, facts: Facts, environ: Mapping[str, str], added: dict[str, str]) -> Setting:
    tunables = environ.get(_TUNABLES, '')
    other = options.allocator != 'system' or libraries.preloaded_allocator(dict(environ)) is not None
    if _HUGE in tunables:
        return _kept('huge_pages', _TUNABLES, environ, 'off' if f'{_HUGE}=0' in tunables else 'on')
    if facts.huge_pages == 'always':
        return Setting('huge_pages', 'on', 'skipped', 'The kernel gives them to all memory, unasked.')
    if options.huge_pages == 'off':
        return Setting('huge_pages', 'off', 'applied', 'The C library asks for none.')
    if facts.huge_pages != 'madvise':
        told = facts.huge_pages or 'not told'
        return Setting('huge_pages', None, 'skipped', f'The kernel gives none (transparent_hugepage/enabled: {told}).')
    if other:
        return Setting('huge_pages', None, 'skipped', 'No effect: memory does not come from the C library.')
    if facts.glibc is None or facts.glibc < (2, 35):
        return Setting('huge_pages', None, 'skipped', 'The C library cannot ask for them: that takes glibc 2.35.')
    added[_TUNABLES] = ':'.join(part for part in (tunables, f'{_HUGE}=1') if part)
    return Setting('huge_pages', 'on', 'applied', f'{_TUNABLES}={added[_TUNABLES]}.')


def _arenas(options: MachineOptions, facts: Facts, environ: Mapping[str, str]) -> Setting:
    """What memory.limit_arenas does when the run begins."""
    if memory.ARENAS in environ:
        return _kept('malloc_arenas', memory.ARENAS, environ)
    if memory.ARENAS_TUNABLE in environ.get(_TUNABLES, ''):
        return _kept('malloc_arenas', _TUNABLES, environ)
    if options.allocator != 'system' or libraries.preloaded_allocator(dict(environ)) is not None:
        return Setting('malloc_arenas', None, 'skipped', 'No effect: memory does not come from the C library.')
    if facts.glibc is None:
        return Setting('malloc_arenas', None, 'skipped', 'The C library has none.')
    reason = 'As many heaps as processors: more of them fill with gaps where pictures of all sizes come and go.'
    return Setting('malloc_arenas', str(facts.usable_cpus), 'applied', reason)


def _kept(flag: str, name: str, environ: Mapping[str, str], value: str | None = None) -> Setting:
    reason = f'{name}={environ[name]} is set in the environment, which wins.'
    return Setting(flag, environ[name] if value is None else value, 'kept', reason)


def gather(options: MachineOptions, share: cores.Share | None = None) -> Facts:
    """The facts of this machine that a plan for these options needs.

    Args:
      share: of the processors, where others beside this process compute on the same ones.
    """
    nodes, cpus = numa.nodes(), numa.allowed()
    bound = cpus if options.cpu_affinity is None else numa.parse(options.cpu_affinity)
    bound = bound if options.numa_node is None else bound & nodes[options.numa_node]
    siblings = numa.cores()
    everybodys = cpu.usable_cpus(bound)
    usable = share.threads(everybodys) if share else everybodys
    its_cores = len({siblings.get(each, frozenset({each})) for each in bound})
    installed = {name: libraries.find_allocator(name) for name in libraries.PACKAGES}
    return Facts(
        openmp=libraries.openmp(),
        usable_cpus=usable,
        usable_cores=max(1, min(usable, its_cores * usable // everybodys)),
        own_cpus=len(share.cpus) if share and share.cpus else len(bound),
        cpus=cpus,
        nodes=nodes,
        memory_nodes=numa.memory_nodes(),
        allocators={name: str(path) for name, path in installed.items() if path},
        glibc=libraries.glibc(),
        huge_pages=memory.huge_pages()['transparent_huge_pages'],
        onednn=capabilities.detect(environ={}).onednn,
    )


def settings(options: MachineOptions, threads: ThreadOptions, share: cores.Share | None = None) -> tuple[Setting, ...]:
    """What came of each setting in this process, after `start` with the same share of the processors."""
    return plan(options, threads, gather(options, share), environment.user()).settings


def kept() -> dict[str, str]:
    """The flags that the user's environment decides, so that no value of them changes anything, each with why."""
    found = settings(MachineOptions(), ThreadOptions())
    # The processors that a process was given may be narrowed by a flag.
    return {each.setting: each.reason for each in found if each.status == 'kept' and each.setting != 'cpu_affinity'}


def not_applied(options: MachineOptions, threads: ThreadOptions, found: tuple[Setting, ...]) -> list[str]:
    """The flags that were typed and do not hold, each as a sentence or two."""
    typed = {
        field.name: getattr(group, field.name)
        for group in (options, threads)
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != field.default
    }
    return [
        f'--{each.setting}={typed[each.setting]} was not applied: {each.reason} Leave out the flag'
        + (' or the variable.' if each.status == 'kept' else '.')
        for each in found
        if each.setting in typed and each.status != 'applied' and each.value != str(typed[each.setting])
    ]


def start(config: Any, share: cores.Share | None = None) -> Any:
    """Makes this process one in which the config's settings hold, and gives the config with the user's threads in it.

    Called before TensorFlow is imported. Tells on standard error which typed flags do not hold. May replace the process
    by a fresh one, which begins from the beginning.

    Args:
      config: a command's; without the group `machine` it has nothing to set.
      share: as `gather` takes it.

    Raises:
      BenchError: the system does not let it be set.
    """
    options = getattr(config, 'machine', None)
    if not isinstance(options, MachineOptions):
        return config
    threads = getattr(config, 'threads', ThreadOptions())
    environ = environment.user()
    planned = plan(options, threads, gather(options, share), environ)
    if planned.cpus is not None:
        os.sched_setaffinity(0, planned.cpus)
    if planned.node is not None:
        # Where this is not allowed the record says so, from what the kernel tells of the process then.
        with contextlib.suppress(OSError):
            numa.bind_memory(planned.node)
    _have(planned.environment, environ)
    _check_allocator(options, environ)
    for sentence in not_applied(options, threads, planned.settings):
        print(f'warning: {sentence}', file=sys.stderr)
    if not hasattr(config, 'threads'):
        return config
    intra, inter = from_environment(INTRA, environ), from_environment(INTER, environ)
    return dataclasses.replace(
        config,
        threads=dataclasses.replace(
            threads,
            num_intra_threads=intra or threads.num_intra_threads,
            num_inter_threads=inter or threads.num_inter_threads,
        ),
    )


def _have(variables: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Goes on where the environment has the variables, and where it has not, in a fresh process."""
    mark = environment.read_mark()
    wanted = {**environ, **variables}
    names = {*variables, *mark['before']}
    if all(os.environ.get(name) == wanted.get(name) for name in names):
        return
    if mark['pid'] == os.getpid():
        missing = ', '.join(sorted(name for name in names if os.environ.get(name) != wanted.get(name)))
        raise BenchError(f'{missing} could not be set: something changes the environment of Python when it starts.')
    if variables:
        wanted[environment.MARK] = environment.mark({name: environ.get(name) for name in variables})
    sys.stdout.flush()
    sys.stderr.flush()
    # A Ctrl-C in between waits until the fresh process can answer it (cli.main), which it cannot while it starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def _check_allocator(options: MachineOptions, environ: Mapping[str, str]) -> None:
    """The loader goes on without a library that it cannot load."""
    if options.allocator == 'system' or libraries.preloaded_allocator(dict(environ)):
        return
    used = libraries.allocator()
    if used is not None and options.allocator not in used:
        raise BenchError(
            f'--allocator={options.allocator}: the loader did not take {os.environ.get("LD_PRELOAD")}; memory comes '
            f'from {used}. Install the library for this system ({" or ".join(libraries.PACKAGES[options.allocator])}), '
            'or leave the flag out.'
        )
