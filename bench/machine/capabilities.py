"""What can be computed here, known without importing TensorFlow, so that a wrong wish is refused at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bench.machine import cpu, environment, instruction_sets, libraries

# On x86-64 TensorFlow turns oneDNN on by itself where the processor has one of these (tensorflow/core/util/port.cc).
_ONEDNN_BY_DEFAULT = frozenset({'avx512_vnni', 'avx512_bf16', 'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16'})
# On ARM only on Neoverse V1, which of the processors with these has no SVE2.
_NEOVERSE_V1 = frozenset({'sve', 'bf16', 'i8mm'})
# On ARM TensorFlow gives oneDNN no operation in bfloat16 (IsDataTypeSupportedByOneDNNOnThisCPU in its util.cc).
_BF16 = frozenset({'avx512_bf16', 'amx_bf16'})
# oneDNN's level AVX512_CORE.
_AVX512 = frozenset({'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'})
# The variables that limit it, the first before the second.
_ISA_LIMITS = ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA')
# What oneDNN's limit must at least be for bfloat16 instructions to be used.
_ISA_WITH_BF16 = ('AVX512_CORE_BF16', 'AVX512_CORE_FP16', 'AVX512_CORE_AMX', 'AVX10_1_512', 'DEFAULT', 'ALL')


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Whether oneDNN computes, whether bfloat16 is computed by the processor; and why not, as a sentence."""

    onednn: bool
    onednn_reason: str
    bf16: bool
    bf16_reason: str


@dataclasses.dataclass(frozen=True)
class Switch:
    """The variable that turns oneDNN on and off in a build of TensorFlow, and its values for that.

    Builds with --config=mkl, which bring Intel's OpenMP, read one, all others the other (tensorflow/core/util/port.cc).
    """

    name: str
    on: str
    off: str

    def read(self, value: str | None) -> bool | None:
        """What a value says; None where TensorFlow takes it for not set."""
        word = {'true': '1', 'false': '0'}.get((value or '').lower(), value)
        return {self.on: True, self.off: False}.get(word or '')


STOCK, MKL = Switch('TF_ENABLE_ONEDNN_OPTS', on='1', off='0'), Switch('TF_DISABLE_MKL', on='0', off='1')


def switch(openmp: tuple[str, ...] | None) -> Switch:
    """That of a build which was linked with these OpenMP runtimes."""
    return MKL if set(openmp or ()) & set(libraries.INTEL_OPENMP) else STOCK


def vector_level(environ: Mapping[str, str], flags: frozenset[str] | None = None) -> str:
    """What oneDNN computes with on x86-64, as what the processor has and it may use: 'avx2' or less, 'avx512', 'amx'.

    Args:
      environ: of this process, with what flags set.

    Returns:
      '' on other processors.
    """
    limit = next((environ[name] for name in _ISA_LIMITS if environ.get(name)), 'ALL').upper()
    flags = cpu.flags() if flags is None else flags
    if 'sse4_1' not in flags:
        return ''
    if not flags >= _AVX512 or not limit.startswith(('AVX512', 'AVX10', 'DEFAULT', 'ALL')):
        return 'avx2'
    return 'amx' if 'amx_tile' in flags and ('AMX' in limit or not limit.startswith('AVX512')) else 'avx512'


def detect(
    environ: Mapping[str, str] | None = None,
    flags: frozenset[str] | None = None,
    given: Mapping[str, str] | None = None,
    openmp: tuple[str, ...] | None = None,
) -> Capabilities:
    """Looks at the user's environment, processor and build, which `environ`, `flags`, `openmp` stand in for in tests.

    Args:
      given: variables that flags ask for (MachineOptions.variables), which count where the environment has none.
    """
    environ = environment.user() if environ is None else environ
    flags = cpu.flags() if flags is None else flags
    given = {} if given is None else given
    turn = switch(libraries.openmp() if openmp is None else openmp)
    onednn, onednn_reason = _onednn(environ, flags, given, turn)
    bf16, bf16_reason = _bf16(environ, flags, given)
    if bf16 and not onednn:
        bf16, bf16_reason = False, f'it is computed by oneDNN, which is off: {onednn_reason}'
    return Capabilities(onednn, onednn_reason, bf16, bf16_reason)


def _onednn(
    environ: Mapping[str, str], flags: frozenset[str], given: Mapping[str, str], turn: Switch
) -> tuple[bool, str]:
    setting = turn.read(environ.get(turn.name, given.get(turn.name)))
    if setting is False:
        if turn.name in environ:
            return False, f'{turn.name}={environ[turn.name]} is set in the environment; unset it.'
        return False, '--mkl=off was given; leave it out.'
    is_v1 = flags >= _NEOVERSE_V1 and 'sve2' not in flags
    if setting or turn is MKL or flags & _ONEDNN_BY_DEFAULT or is_v1:
        return True, ''
    which = 'without AVX512_VNNI, AVX_VNNI or AMX'
    if instruction_sets.is_arm(flags):
        which = 'of ARM, but for Neoverse V1'
    return False, f'TensorFlow leaves it off by itself on processors {which}; --mkl=on turns it on.'


def _bf16(environ: Mapping[str, str], flags: frozenset[str], given: Mapping[str, str]) -> tuple[bool, str]:
    if instruction_sets.is_arm(flags):
        has = ', though this one has BF16' if 'bf16' in flags else ''
        return False, f'TensorFlow does not have oneDNN compute in bfloat16 on processors of ARM{has}.'
    if not flags & _BF16:
        return False, 'the processor has neither AVX512_BF16 nor AMX_BF16.'
    for name in _ISA_LIMITS:
        limit = environ.get(name)
        if limit:
            if limit.upper().startswith(_ISA_WITH_BF16):
                return True, ''
            return False, f'{name}={limit} in the environment keeps oneDNN from the bfloat16 instructions.'
    limit = given.get('ONEDNN_MAX_CPU_ISA')
    if limit and not limit.startswith(_ISA_WITH_BF16):
        return False, f'--onednn_max_isa={limit} keeps oneDNN from the bfloat16 instructions.'
    return True, ''
