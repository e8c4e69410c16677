"""Whether this machine is a virtual one, and whose."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_DMI = Path('/sys/class/dmi/id')
# What virtual machines call themselves in the tables of their firmware.
_NAMES = {
    'QEMU': 'QEMU', 'KVM': 'KVM', 'Amazon EC2': 'Amazon EC2', 'Google Compute Engine': 'Google Compute Engine',
    'VMware': 'VMware', 'VirtualBox': 'VirtualBox', 'Virtual Machine': 'Hyper-V', 'Xen': 'Xen', 'Bochs': 'Bochs',
    'Parallels': 'Parallels', 'OpenStack': 'OpenStack',
}  # fmt: skip


def hypervisor(flags: frozenset[str], dmi: Path = _DMI) -> str | None:
    """The hypervisor's name, 'yes' where it has none, 'none' on a real machine, None where it cannot be told.

    Args:
      flags: of the processor: x86 has one that says so. Other processors have not, and tell by their firmware alone.
    """
    x86 = bool(flags & {'sse', 'sse2'})
    if x86 and 'hypervisor' not in flags:
        return 'none'
    return _of_cpuid() or _of_firmware(dmi) or ('yes' if x86 else None)


def _of_cpuid() -> str | None:
    """As CPUID names it, which `lscpu` asks."""
    try:
        done = subprocess.run(
            ['lscpu'], capture_output=True, text=True, check=True, timeout=10, env={**os.environ, 'LC_ALL': 'C'}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.partition(':') for line in done.stdout.splitlines())
    return next((value.strip() for name, _, value in lines if name == 'Hypervisor vendor'), None)


def _of_firmware(dmi: Path) -> str | None:
    told = []
    for name in ('sys_vendor', 'product_name', 'board_vendor', 'bios_vendor'):
        try:
            told.append((dmi / name).read_text().strip())
        except OSError:
            continue
    return next((name for mark, name in _NAMES.items() if any(mark in text for text in told)), None)
