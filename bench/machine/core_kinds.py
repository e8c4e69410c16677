"""The kinds of cores that a processor has, where it has several: fast ones, and ones that take less power.

Linux tells them by Intel's counters of events, of which each kind has its own (/sys/devices/cpu_core, cpu_atom and
cpu_lowpower: arch/x86/events/intel/core.c), and of ARM by how fast each processor is beside the fastest, which has 1024
(/sys/devices/system/cpu/cpu*/cpu_capacity: Documentation/ABI/testing/sysfs-devices-system-cpu).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bench.machine import numa

# The fastest first.
_INTEL = {'cpu_core': 'P-cores', 'cpu_atom': 'E-cores', 'cpu_lowpower': 'low-power E-cores'}
# Cores of one kind differ by some hundredths where each has a greatest frequency of its own.
_SAME = 0.9


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of cores.

    Attributes:
      name: for people.
      cpus: the processors of these cores, also those that this process may not use.
      capacity: of the slowest of them; None where the system does not tell it.
    """

    name: str
    cpus: frozenset[int]
    capacity: int | None


def found(devices: Path = Path('/sys/devices')) -> tuple[Kind, ...]:
    """The kinds, the fastest first; none where there is but one, or the system does not tell."""
    kinds = _of_intel(devices) or _of_capacities(devices / 'system' / 'cpu')
    return tuple(kinds) if len(kinds) > 1 else ()


def _of_intel(devices: Path) -> list[Kind]:
    kinds = []
    for folder, name in _INTEL.items():
        try:
            kinds.append(Kind(name, numa.parse((devices / folder / 'cpus').read_text().strip()), None))
        except (OSError, ValueError):
            continue
    return kinds


def _of_capacities(root: Path) -> list[Kind]:
    capacities: dict[int, int] = {}
    for path in root.glob('cpu[0-9]*/cpu_capacity'):
        try:
            capacities[int(path.parts[-2].removeprefix('cpu'))] = int(path.read_text())
        except (OSError, ValueError):
            continue
    kinds: list[Kind] = []
    while capacities:
        most = max(capacities.values())
        mine = frozenset(cpu for cpu, capacity in capacities.items() if capacity >= _SAME * most)
        kinds.append(Kind(f'cores of capacity {most}', mine, min(capacities[cpu] for cpu in mine)))
        capacities = {cpu: capacity for cpu, capacity in capacities.items() if cpu not in mine}
    return kinds
