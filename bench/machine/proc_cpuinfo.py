"""What Linux's /proc/cpuinfo tells of a processor, on Intel, AMD and ARM.

Read in place of py-cpuinfo where there is such a file, because that takes a second to ask the processor itself, and
leaves the names of ARM's processors out. Those are decoded from the numbers that ARM and its licensees gave out, as
Linux's arch/arm64/include/asm/cputype.h and `lscpu` know them.
"""

from __future__ import annotations

import dataclasses
import functools

_IMPLEMENTERS = {
    0x41: 'ARM', 0x42: 'Broadcom', 0x43: 'Cavium', 0x46: 'Fujitsu', 0x48: 'HiSilicon', 0x4E: 'NVIDIA', 0x50: 'APM',
    0x51: 'Qualcomm', 0x53: 'Samsung', 0x61: 'Apple', 0x6D: 'Microsoft', 0xC0: 'Ampere',
}  # fmt: skip
_PARTS = {
    (0x41, 0xD03): 'Cortex-A53', (0x41, 0xD05): 'Cortex-A55', (0x41, 0xD07): 'Cortex-A57',
    (0x41, 0xD08): 'Cortex-A72', (0x41, 0xD09): 'Cortex-A73', (0x41, 0xD0A): 'Cortex-A75',
    (0x41, 0xD0B): 'Cortex-A76', (0x41, 0xD0C): 'Neoverse-N1', (0x41, 0xD40): 'Neoverse-V1',
    (0x41, 0xD41): 'Cortex-A78', (0x41, 0xD44): 'Cortex-X1', (0x41, 0xD46): 'Cortex-A510',
    (0x41, 0xD47): 'Cortex-A710', (0x41, 0xD48): 'Cortex-X2', (0x41, 0xD49): 'Neoverse-N2',
    (0x41, 0xD4A): 'Neoverse-E1', (0x41, 0xD4D): 'Cortex-A715', (0x41, 0xD4E): 'Cortex-X3',
    (0x41, 0xD4F): 'Neoverse-V2', (0x41, 0xD80): 'Cortex-A520', (0x41, 0xD81): 'Cortex-A720',
    (0x41, 0xD82): 'Cortex-X4', (0x41, 0xD83): 'Neoverse-V3AE', (0x41, 0xD84): 'Neoverse-V3',
    (0x41, 0xD85): 'Cortex-X925', (0x41, 0xD8E): 'Neoverse-N3', (0x42, 0x516): 'ThunderX2',
    (0x43, 0x0A1): 'ThunderX', (0x43, 0x0AF): 'ThunderX2', (0x46, 0x001): 'A64FX',
    (0x48, 0xD01): 'TaiShan-v110', (0x4E, 0x004): 'Carmel',
    (0x61, 0x022): 'Icestorm (M1)', (0x61, 0x023): 'Firestorm (M1)', (0x61, 0x032): 'Blizzard (M2)',
    (0x61, 0x033): 'Avalanche (M2)', (0xC0, 0xAC3): 'Ampere-1', (0xC0, 0xAC4): 'Ampere-1a',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Processor:
    """A processor as its text tells it; None, or empty, where it does not.

    Attributes:
      name, vendor: as it calls itself; of ARM the core's ('Neoverse-V1', of several kinds 'A + B') and its maker's.
      family, model, stepping: of CPUID.
      flags: the features that all of its cores have.
      megahertz: of each logical processor, at the moment of reading.
    """

    name: str | None
    vendor: str | None
    family: int | None
    model: int | None
    stepping: int | None
    flags: frozenset[str]
    megahertz: tuple[float, ...]


def parse(text: str) -> Processor:
    """The processor that the text of a /proc/cpuinfo describes."""
    blocks = [_fields(block) for block in text.split('\n\n')]
    merged: dict[str, str] = {}
    for block in blocks:
        for name, value in block.items():
            merged.setdefault(name, value)
    flags = [frozenset(block[name].split()) for block in blocks for name in ('flags', 'Features') if name in block]
    speeds = [block['cpu MHz'] for block in blocks if 'cpu MHz' in block]
    return Processor(
        name=merged.get('model name') or _arm_names(blocks) or merged.get('cpu'),
        vendor=merged.get('vendor_id') or _implementer(merged),
        family=_number(merged.get('cpu family')),
        model=_number(merged.get('model')),
        stepping=_number(merged.get('stepping')),
        flags=functools.reduce(frozenset.intersection, flags) if flags else frozenset(),
        megahertz=tuple(float(speed) for speed in speeds),
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(':') for line in block.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _number(text: str | None) -> int | None:
    try:
        return int(text, 0) if text is not None else None
    except ValueError:
        return None


def _implementer(block: dict[str, str]) -> str | None:
    number = _number(block.get('CPU implementer'))
    return None if number is None else _IMPLEMENTERS.get(number, f'implementer {number:#x}')


def _arm_names(blocks: list[dict[str, str]]) -> str | None:
    """The kinds of cores, in the order of the text: processors for telephones have several."""
    names: dict[str, None] = {}
    for block in blocks:
        implementer, part = _number(block.get('CPU implementer')), _number(block.get('CPU part'))
        if implementer is not None and part is not None:
            names[_PARTS.get((implementer, part), f'{_implementer(block)} part {part:#x}')] = None
    return ' + '.join(names) or None
