"""What can be computed here, known without importing TensorFlow, so that a wrong wish is refused at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from bench.machine import cpu

# On x86-64 TensorFlow turns oneDNN on by itself where the processor has one of these (tensorflow/core/util/port.cc).
_ONEDNN_BY_DEFAULT = frozenset({'avx512_vnni', 'avx512_bf16', 'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16'})
# On ARM only on Neoverse V1, which of the processors with these has no SVE2.
_NEOVERSE_V1 = frozenset({'sve', 'bf16', 'i8mm'})
_BF16 = frozenset({'avx512_bf16', 'amx_bf16', 'bf16'})
# What oneDNN's limit must at least be for bfloat16 instructions to be used.
_ISA_WITH_BF16 = ('AVX512_CORE_BF16', 'AVX512_CORE_FP16', 'AVX512_CORE_AMX', 'AVX512_CORE_AMX_FP16', 'DEFAULT', 'ALL')


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Whether oneDNN computes, whether bfloat16 is computed by the processor; and why not, as a sentence."""

    onednn: bool
    onednn_reason: str
    bf16: bool
    bf16_reason: str


def detect(environ: Mapping[str, str] | None = None, flags: frozenset[str] | None = None) -> Capabilities:
    """Looks at the environment and the processor; the arguments stand in for them in tests."""
    environ = os.environ if environ is None else environ
    flags = cpu.flags() if flags is None else flags
    onednn, onednn_reason = _onednn(environ, flags)
    bf16, bf16_reason = _bf16(environ, flags)
    if bf16 and not onednn:
        bf16, bf16_reason = False, f'it is computed by oneDNN, which is off. {onednn_reason}'
    return Capabilities(onednn, onednn_reason, bf16, bf16_reason)


def _onednn(environ: Mapping[str, str], flags: frozenset[str]) -> tuple[bool, str]:
    # Any other value counts as not set.
    setting = environ.get('TF_ENABLE_ONEDNN_OPTS', '').lower()
    if setting in ('0', 'false'):
        return False, f'TF_ENABLE_ONEDNN_OPTS={setting} is set in the environment.'
    is_v1 = flags >= _NEOVERSE_V1 and 'sve2' not in flags
    if setting in ('1', 'true') or flags & _ONEDNN_BY_DEFAULT or is_v1:
        return True, ''
    return (
        False,
        'TensorFlow leaves it off on this processor, which lacks AVX512_VNNI, AVX_VNNI, AMX or ARM Neoverse V1.',
    )


def _bf16(environ: Mapping[str, str], flags: frozenset[str]) -> tuple[bool, str]:
    if not flags & _BF16:
        return False, 'the processor has neither AVX512_BF16 nor AMX_BF16.'
    for name in ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'):
        limit = environ.get(name)
        if limit and not limit.upper().startswith(_ISA_WITH_BF16) and 'bf16' not in flags:
            return False, f'{name}={limit} in the environment keeps oneDNN from the bfloat16 instructions.'
    return True, ''
