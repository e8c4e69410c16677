"""The instruction sets that decide how fast a convolution is, and the levels in which oneDNN uses them.

Names are those of Linux's /proc/cpuinfo. The levels are those of oneDNN's CPU dispatcher (its developer guide, "CPU
Dispatcher Control"): each has code for the instruction sets of the levels below it as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class InstructionSet:
    """An instruction set.

    Attributes:
      name: Linux's.
      title: the maker's.
      guard: TensorFlow's, in what it tells of sets that it was not built for; None for those it does not look at.
      dtype: what a convolution must compute in to use it.
    """

    name: str
    title: str
    guard: str | None = None
    dtype: str = 'fp32'


X86 = (
    InstructionSet('sse4_1', 'SSE4.1', 'SSE4.1'),
    InstructionSet('sse4_2', 'SSE4.2', 'SSE4.2'),
    InstructionSet('avx', 'AVX', 'AVX'),
    InstructionSet('avx2', 'AVX2', 'AVX2'),
    InstructionSet('fma', 'FMA', 'FMA'),
    InstructionSet('avx_vnni', 'AVX-VNNI', 'AVX_VNNI', 'int8'),
    InstructionSet('avx512f', 'AVX-512 F', 'AVX512F'),
    InstructionSet('avx512_vnni', 'AVX-512 VNNI', 'AVX512_VNNI', 'int8'),
    InstructionSet('avx512_bf16', 'AVX-512 BF16', 'AVX512_BF16', 'bf16'),
    InstructionSet('avx512_fp16', 'AVX-512 FP16', 'AVX512_FP16', 'fp16'),
    InstructionSet('amx_tile', 'AMX tiles', 'AMX_TILE', 'bf16'),
    InstructionSet('amx_int8', 'AMX INT8', 'AMX_INT8', 'int8'),
    InstructionSet('amx_bf16', 'AMX BF16', 'AMX_BF16', 'bf16'),
    InstructionSet('amx_fp16', 'AMX FP16', 'AMX_FP16', 'fp16'),
)
ARM = (
    InstructionSet('asimd', 'Advanced SIMD (Neon)'),
    InstructionSet('asimddp', 'dot product', dtype='int8'),
    InstructionSet('i8mm', 'INT8 matrix product', dtype='int8'),
    InstructionSet('bf16', 'BF16', dtype='bf16'),
    InstructionSet('sve', 'SVE'),
    InstructionSet('sve2', 'SVE2'),
)

_AVX512 = {'sse4_1', 'sse4_2', 'avx', 'avx2', 'fma', 'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'}
# What oneDNN's code of a level uses, by the level's name in its log in lower case and in ONEDNN_MAX_CPU_ISA in upper
# case; from the least, as far as they are in an order: AVX2_VNNI and AVX2_VNNI_2 are beside AVX512_CORE.
LEVELS: dict[str, frozenset[str]] = {
    'SSE41': frozenset({'sse4_1'}),
    'AVX': frozenset({'sse4_1', 'sse4_2', 'avx'}),
    'AVX2': frozenset({'sse4_1', 'sse4_2', 'avx', 'avx2', 'fma'}),
    'AVX2_VNNI': frozenset({'sse4_1', 'sse4_2', 'avx', 'avx2', 'fma', 'avx_vnni'}),
    'AVX2_VNNI_2': frozenset({'sse4_1', 'sse4_2', 'avx', 'avx2', 'fma', 'avx_vnni', 'avx_vnni_int8', 'avx_ne_convert'}),
    'AVX512_CORE': frozenset(_AVX512),
    'AVX512_CORE_VNNI': frozenset(_AVX512 | {'avx512_vnni'}),
    'AVX512_CORE_BF16': frozenset(_AVX512 | {'avx512_vnni', 'avx512_bf16'}),
    'AVX512_CORE_FP16': frozenset(_AVX512 | {'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'avx_vnni'}),
    'AVX512_CORE_AMX': frozenset(
        _AVX512 | {'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16'}
    ),
    'AVX512_CORE_AMX_FP16': frozenset(
        _AVX512
        | {'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16', 'amx_fp16'}
    ),
}
# Later releases of oneDNN call three of them so too.
ALIASES = {
    'AVX10_1_512': 'AVX512_CORE_FP16',
    'AVX10_1_512_AMX': 'AVX512_CORE_AMX',
    'AVX10_1_512_AMX_FP16': 'AVX512_CORE_AMX_FP16',
}
# Linux lists these in no /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h hides amx_fp16, and the others are in
# arch/x86/kvm/reverse_cpuid.h alone); each with a set that processors with it have, too, and that is listed.
_UNLISTED = {'avx_vnni_int8': 'avx_vnni', 'avx_ne_convert': 'avx_vnni', 'amx_fp16': 'amx_tile'}


def of_architecture(flags: Iterable[str]) -> tuple[InstructionSet, ...]:
    """Those of the architecture that a processor with these flags has; none of a third one."""
    found = frozenset(flags)
    if found & {'sse', 'sse2'}:
        return X86
    return ARM if found & {'asimd', 'fp', 'neon'} else ()


def is_arm(flags: Iterable[str]) -> bool:
    """Whether a processor with these flags is one of ARM's architecture."""
    return of_architecture(flags) is ARM


def foreign(name: str, flags: Iterable[str]) -> tuple[str, str] | None:
    """(that of the instruction set, that of the processor): the architectures, where these are two; or None."""
    theirs = {one.name: kind for kind, sets in (('x86', X86), ('ARM', ARM)) for one in sets}[name]
    mine = {X86: 'x86', ARM: 'ARM'}.get(of_architecture(flags), theirs)
    return None if mine == theirs else (theirs, mine)


def level(name: str) -> str | None:
    """The key in LEVELS of a level as oneDNN's log or a user spells it, or None."""
    upper = name.upper()
    upper = ALIASES.get(upper, upper)
    return upper if upper in LEVELS else None


def levels_of(flags: Iterable[str]) -> tuple[str, ...]:
    """The levels that a processor has all instruction sets for."""
    found = frozenset(flags)
    return tuple(name for name, needed in LEVELS.items() if needed <= found)


def untold_levels(flags: Iterable[str]) -> tuple[str, ...]:
    """The levels that a processor may have instruction sets for, which Linux does not tell."""
    found = frozenset(flags)
    states = {name: {has(each, found) for each in needed} for name, needed in LEVELS.items()}
    return tuple(name for name, told in states.items() if 'unknown' in told and 'no' not in told)


def has(name: str, flags: frozenset[str]) -> str:
    """'yes', 'no' or, of what Linux does not tell, 'unknown': whether a processor has an instruction set."""
    if name in flags:
        return 'yes'
    return 'unknown' if _UNLISTED.get(name) in flags else 'no'
