"""Everything that `machine` tells, as one dictionary: what `--json` prints, and what report.py and advice.py read.

None is for what the system does not tell. Sizes are in bytes, frequencies in megahertz.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from typing import Any

from bench.machine import (
    capabilities,
    cgroup,
    container,
    core_kinds,
    counters,
    cpu,
    instruction_sets,
    libraries,
    memory,
    numa,
    probe,
    tuning,
)
from bench.machine.options import MachineOptions
from bench.machine.probe import Probe
from bench.machine.virtualization import hypervisor
from bench.options import ThreadOptions

Json = dict[str, Any]


def collect(seen: Probe | str, if_on: Probe | None = None, options: MachineOptions | None = None) -> Json:
    """The facts of this machine and of the TensorFlow that was seen; of the latter a sentence where it was not.

    Args:
      if_on: what was seen with oneDNN on, where TensorFlow leaves it off by itself.
      options: that were asked for.
    """
    options = options or MachineOptions()
    return {
        'processor': _processor(),
        'limits': _limits(),
        'memory': _memory(),
        'container': container.facts(),
        'tensorflow': _tensorflow(seen),
        'onednn': _onednn(seen, options),
        'instruction_sets': _instruction_sets(seen, if_on),
        'tuning': [dataclasses.asdict(each) for each in tuning.settings(options, ThreadOptions())],
    }


def _processor() -> Json:
    found = cpu.facts()
    keep = ('name', 'vendor', 'architecture', 'family', 'model', 'stepping', 'cores', 'threads')
    return {
        **{name: found[name] for name in keep},
        **cpu.frequency(),
        'thermal_throttles': counters.thermal_throttles(numa.allowed()),
        'hypervisor': hypervisor(cpu.flags()),
        'core_kinds': [
            {'name': kind.name, 'cpus': numa.format_list(kind.cpus), 'capacity': kind.capacity}
            for kind in core_kinds.found()
        ],
        'caches': cpu.caches(),
        'nodes': {str(node): numa.format_list(cpus) for node, cpus in numa.nodes().items()},
        'kernel': platform.release(),
    }


def _limits() -> Json:
    allowed, siblings = numa.allowed(), numa.cores()
    usable = cpu.usable_cpus()
    return {
        'cgroup_version': cgroup.version(),
        'affinity': numa.format_list(allowed),
        'cpu_quota': cpu.cgroup_quota(),
        'usable_cpus': usable,
        'usable_cores': min(usable, len({siblings.get(each, frozenset({each})) for each in allowed})),
        'memory_limit_bytes': memory.cgroup_limit(),
        'memory_nodes': sorted(bound) if (bound := numa.memory_nodes()) else None,
    }


def _memory() -> Json:
    import psutil

    return {
        'total_bytes': psutil.virtual_memory().total,
        'available_bytes': psutil.virtual_memory().available,
        'usable_bytes': memory.usable_bytes(),
        'swap_bytes': psutil.swap_memory().total,
        **memory.huge_pages(),
        'allocator': libraries.allocator(),
    }


def _tensorflow(seen: Probe | str) -> Json:
    built = libraries.openmp()
    common = {
        'python': platform.python_version(),
        'libc': ' '.join(platform.libc_ver()) or None,
        'openmp': None if built is None else list(built),
    }
    if isinstance(seen, str):
        return {'version': None, 'git_version': None, 'compiler': None, 'package': _package(), **common, 'error': seen}
    openmp = sorted({*(built or ()), *seen.openmp})
    return {**seen.tensorflow, 'package': _package(), **common, 'openmp': openmp, 'error': None}


def _package() -> str | None:
    """The package that brought TensorFlow, such as 'tensorflow-cpu 2.18.1'."""
    for name in ('tensorflow-cpu', 'intel-tensorflow', 'tensorflow', 'tensorflow-cpu-aws', 'tensorflow-macos'):
        try:
            return f'{name} {importlib.metadata.version(name)}'
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _onednn(seen: Probe | str, options: MachineOptions) -> Json:
    expected = capabilities.detect(given=options.variables())
    able = {'bf16': expected.bf16, 'bf16_reason': expected.bf16_reason or None}
    if isinstance(seen, str):
        return {'on': None, 'reason': seen, 'version': None, 'isa': None, 'runtime': None, 'convolutions': {}, **able}
    reason = '' if seen.onednn else expected.onednn_reason
    return {
        'on': seen.onednn,
        'reason': reason or None,
        'version': seen.onednn_version,
        'isa': seen.isa,
        'runtime': seen.runtime,
        'convolutions': {dtype: list(names) for dtype, names in seen.convolutions.items()},
        **able,
    }


def _instruction_sets(seen: Probe | str, if_on: Probe | None) -> list[Json]:
    flags = cpu.flags()
    rows = []
    for one in instruction_sets.of_architecture(flags):
        built = 'unknown' if isinstance(seen, str) else probe.built_for(one, flags, seen)
        used, evidence = ('unknown', '') if isinstance(seen, str) else probe.dispatched(one, flags, seen)
        with_onednn = None
        if if_on is not None and instruction_sets.has(one.name, flags) != 'no':
            with_onednn, ran = probe.dispatched(one, flags, if_on)
            evidence += f'; with --mkl=on {with_onednn}: {ran}'
        rows.append(
            {
                'name': one.name,
                'title': one.title,
                'processor': instruction_sets.has(one.name, flags),
                'built': built,
                'onednn': used,
                'onednn_if_on': with_onednn,
                'evidence': evidence,
            }
        )
    return rows
