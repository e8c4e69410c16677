"""The rungs of `sweep --ladder`: what oneDNN, each instruction set, precision and layout bring, one after the other.

TensorFlow's own kernels are not the same on all processors either: their matrix products are oneDNN's code for blocks,
which keeps to the same limit (tensorflow's eigen_contraction_kernel). So they have rungs of instruction sets, too, and
the lowest is the nearest to a TensorFlow that was built for no processor in particular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.machine import cpu, instruction_sets

# The flags that the ladder varies, in the order of its columns.
AXES = ('mkl', 'onednn_max_isa', 'precision', 'data_format')
# oneDNN's levels that bring arithmetic in float32, and in bfloat16.
_FP32 = ('SSE41', 'AVX', 'AVX2', 'AVX512_CORE')
_BF16 = ('AVX512_CORE_BF16', 'AVX512_CORE_AMX')
# What other levels bring.
_OTHERS = {
    'AVX2_VNNI': 'arithmetic in 8 bits',
    'AVX2_VNNI_2': 'conversions of 16 bits',
    'AVX512_CORE_VNNI': 'arithmetic in 8 bits',
    'AVX512_CORE_FP16': 'arithmetic in float16',
    'AVX512_CORE_AMX_FP16': 'arithmetic in float16',
}
_LAYOUTS = ('NHWC', 'NCHW')


def rungs(has: frozenset[str] | None = None) -> tuple[list[Mapping[str, str]], list[str]]:
    """The rungs, the baseline first, and what is left out, each as a sentence.

    Args:
      has: the processor's flags, as /proc/cpuinfo spells them; this one's where None.
    """
    has = cpu.flags() if has is None else has
    levels = instruction_sets.levels_of(has)
    found: list[Mapping[str, str]] = [{'mkl': 'off', 'precision': 'fp32', 'data_format': 'NHWC'}]
    fp32 = [level for level in levels if level in _FP32]
    bf16 = [level for level in levels if level in _BF16]
    # Without a limit they use the best.
    found += [{**found[0], 'onednn_max_isa': level} for level in fp32[:-1]]
    for precision, mine in (('fp32', fp32), ('bf16', bf16)):
        for level in mine:
            rung = {'mkl': 'on', 'onednn_max_isa': level, 'precision': precision}
            found += [{**rung, 'data_format': layout} for layout in _LAYOUTS]
    if not levels:
        # ARM's processors.
        found += [{'mkl': 'on', 'precision': 'fp32', 'data_format': layout} for layout in _LAYOUTS]
    untold = instruction_sets.untold_levels(has)
    lacks = 'TensorFlow computes in it with AVX512_BF16 or AMX, which this processor has not.'
    if instruction_sets.is_arm(has):
        lacks = 'TensorFlow does not have oneDNN compute in it on processors of ARM.'
    return found, _left_out(levels, untold, {rung['precision'] for rung in found}, lacks)


def _left_out(levels: Sequence[str], untold: Sequence[str], precisions: set[str], lacks_bf16: str) -> list[str]:
    found = ["NCHW without oneDNN: TensorFlow's own kernels compute convolutions on CPUs in NHWC alone."]
    if 'bf16' in precisions:
        found.append('bf16 without oneDNN, or with less than its instruction sets: nothing computes in it there.')
    else:
        found.append(f'bf16: {lacks_bf16}')
    found += [f'fp32 with {level}: it adds arithmetic in bfloat16 alone.' for level in levels if level in _BF16]
    found += [f'{level}: it adds {_OTHERS[level]} alone.' for level in levels if level in _OTHERS]
    found += [f'{level}: Linux does not tell whether this processor has it.' for level in untold]
    missing = [level for level in instruction_sets.LEVELS if level not in (*levels, *untold)]
    return found + ([f'{", ".join(missing)}: this processor has them not.'] if levels and missing else [])
