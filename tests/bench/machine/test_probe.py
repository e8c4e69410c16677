"""What TensorFlow's and oneDNN's own logs tell: recorded ones, and what a real process says here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.machine import capabilities, cpu, instruction_sets, probe, proc_cpuinfo, requirements

DATA = Path(__file__).parents[2] / 'data'
SETS = {one.name: one for one in (*instruction_sets.X86, *instruction_sets.ARM)}
END = {
    'version': '2.18.1', 'git_version': 'v2.18.0-2-g', 'compiler': 'Clang 17', 'onednn': True, 'libraries': [],
    'begin': 'fp32',
}  # fmt: skip
TENSORFLOW_2_14 = (
    '2026-11-21 18:00:00.000000: I tensorflow/core/platform/cpu_feature_guard.cc:182] This TensorFlow binary is '
    'optimized to use available CPU instructions in performance-critical operations.\nTo enable the following '
    'instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate compiler flags.\n'
)
TENSORFLOW_2_6 = (
    '2021-11-21 18:00:00.000000: I tensorflow/core/platform/cpu_feature_guard.cc:142] This TensorFlow binary is '
    'optimized with oneAPI Deep Neural Network Library (oneDNN) to use the following CPU instructions in '
    'performance-critical operations:  AVX2 AVX512F FMA\nTo enable them in other operations, rebuild TensorFlow.\n'
)
STOCK_KERNELS = (
    '2020-01-01 00:00:00.000000: I tensorflow/core/platform/cpu_feature_guard.cc:142] Your CPU supports instructions '
    'that this TensorFlow binary was not compiled to use: AVX2 FMA\n'
)
SILENT = '2026-11-21 18:00:00.000000: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n'


def flags(name: str) -> frozenset[str]:
    return proc_cpuinfo.parse((DATA / 'cpuinfo' / f'{name}.txt').read_text()).flags


def seen(log: str = SILENT, **ran: str) -> probe.Probe:
    """A process that computed convolutions of these types in these implementations."""
    lines = [
        'onednn_verbose,v1,info,oneDNN v3.5.0 (commit N/A)',
        'onednn_verbose,v1,info,cpu,runtime:threadpool,nthr:2',
        'onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with float16, Intel DL Boost and bfloat16 support',
    ]
    for dtype, implementation in ran.items():
        lines.append(f'TF_BENCH_PROBE {json.dumps({"begin": dtype})}')
        lines.append(
            f'onednn_verbose,v1,primitive,exec,cpu,convolution,{implementation},forward_training,'
            'src_x::blocked:acdb::f0,attr-scratchpad:user,alg:convolution_direct,mb8_ic64oc64,0.1'
        )
    found = probe.parse('\n'.join([*(lines if ran else []), f'TF_BENCH_PROBE {json.dumps(END)}']), log)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ('log', 'unused'),
    [
        (TENSORFLOW_2_14, ('AVX2', 'FMA')),
        (TENSORFLOW_2_6, ('AVX2', 'AVX512F', 'FMA')),
        (STOCK_KERNELS, ('AVX2', 'FMA')),
        (SILENT, ()),
        ('', None),
        ('WARNING: nothing of that level\n', None),
    ],
)
def test_what_tensorflow_was_not_built_for_is_read_in_all_its_wordings(
    log: str, unused: tuple[str, ...] | None
) -> None:
    assert seen(log).unused == unused


def test_a_build_is_for_what_the_guard_does_not_name_and_unknown_where_the_guard_is_silent() -> None:
    haswell = flags('intel_haswell')
    stock = seen(TENSORFLOW_2_14)
    answers = {name: probe.built_for(SETS[name], haswell, stock) for name in ('avx', 'avx2', 'fma', 'avx512f')}
    assert answers == {'avx': 'yes', 'avx2': 'no', 'fma': 'no', 'avx512f': 'no'}
    assert probe.built_for(SETS['avx2'], haswell, seen(SILENT)) == 'yes'
    assert probe.built_for(SETS['avx2'], haswell, seen('')) == 'unknown'
    # Guards of some releases do not look for it.
    assert probe.built_for(SETS['avx512_fp16'], flags('intel_sapphire_rapids'), seen(SILENT)) == 'unknown'
    graviton = flags('arm_neoverse_v1')
    assert [probe.built_for(SETS[name], graviton, seen(SILENT)) for name in ('asimd', 'sve')] == ['yes', 'unknown']


@pytest.mark.parametrize(
    ('processor', 'ran', 'yes', 'no', 'unknown'),
    [
        ('intel_haswell', {'fp32': 'brgconv:avx2'}, 'sse4_1 avx avx2 fma', 'avx512f amx_bf16', ''),
        ('intel_ivy_bridge', {'fp32': 'jit:sse41'}, 'sse4_1', 'avx avx2', ''),
        ('amd_zen4', {'fp32': 'brgconv:avx512_core', 'bf16': 'brgconv:avx512_core_bf16'},
         'avx2 avx512f avx512_bf16', 'amx_tile avx512_fp16', 'avx512_vnni'),
        # ONEDNN_MAX_CPU_ISA=AVX2
        ('amd_zen4', {'fp32': 'jit:avx2', 'bf16': 'ref:any', 'int8': 'brgconv:avx2'},
         'avx2 fma', 'avx512f avx512_vnni', 'avx512_bf16'),
        ('intel_sapphire_rapids',
         {'fp32': 'brgconv:avx512_core', 'bf16': 'brg_conv_fwd:avx10_1_512_amx', 'int8': 'brgconv:avx512_core_vnni'},
         'avx512f amx_bf16 amx_tile avx512_bf16 avx512_vnni', 'amx_int8', 'avx512_fp16 amx_fp16'),
        ('intel_arrow_lake', {'fp32': 'jit:avx2', 'int8': 'brgconv:avx2_vnni'}, 'avx2 avx_vnni', 'avx512f', ''),
        ('arm_neoverse_v1', {'fp32': 'brgconv:sve_256', 'bf16': 'gemm:acl'}, 'sve', '', 'bf16 asimddp'),
        ('arm_neoverse_n1', {'fp32': 'indirect_gemm:acl'}, 'asimd', 'sve bf16', ''),
        ('amd_zen4', {}, '', 'sse4_1 avx2 avx512f avx512_bf16', ''),
    ],
)  # fmt: skip
def test_an_instruction_set_is_used_only_where_a_convolution_of_its_type_ran_in_it(
    processor: str, ran: dict[str, str], yes: str, no: str, unknown: str
) -> None:
    told = seen(**ran)
    for state, names in (('yes', yes), ('no', no), ('unknown', unknown)):
        for name in names.split():
            assert probe.dispatched(SETS[name], flags(processor), told)[0] == state, name


@pytest.mark.parametrize(
    ('line', 'implementation'),
    [
        (
            'onednn_verbose,exec,cpu,convolution,brgconv:avx512_core,forward_inference,src_f32,,,1.0',
            'brgconv:avx512_core',
        ),
        ('dnnl_verbose,exec,cpu,convolution,jit:avx2,forward_training,src_f32,,,1.0', 'jit:avx2'),
        ('onednn_verbose,1654764776622.94,exec,cpu,convolution,jit:avx2,forward_training,,,,1', 'jit:avx2'),
        ('onednn_verbose,primitive,exec,cpu,convolution,gemm:acl,forward_training,,,,1', 'gemm:acl'),
    ],
)
def test_logs_of_all_releases_of_onednn_are_read(line: str, implementation: str) -> None:
    output = f'TF_BENCH_PROBE {{"begin": "fp32"}}\n{line}\nTF_BENCH_PROBE {json.dumps(END)}\n'
    found = probe.parse(output, '')
    assert found is not None
    assert found.convolutions == {'fp32': (implementation,)}


def test_reorders_and_creations_are_no_convolutions_that_ran() -> None:
    output = (
        'TF_BENCH_PROBE {"begin": "fp32"}\n'
        'onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,brgconv:avx2,forward_training,,,,1\n'
        'onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,,,64x64x3x3,1\n'
        f'TF_BENCH_PROBE {json.dumps(END)}\n'
    )
    found = probe.parse(output, '')
    assert found is not None
    assert found.convolutions == {}


def recorded(name: str) -> probe.Probe:
    """What TensorFlow 2.18.1 and oneDNN 3.5.0 said on a virtual machine's Zen 4 (without reorders)."""
    folder = DATA / 'onednn'
    found = probe.parse((folder / f'{name}.out').read_text(), (folder / f'{name}.err').read_text())
    assert found is not None
    return found


def test_a_recorded_log_with_onednn_on_is_read_whole() -> None:
    found = recorded('default')
    assert (found.onednn, found.onednn_version, found.runtime) == (True, '3.5.0 (commit N/A)', 'threadpool')
    assert found.isa == 'Intel AVX-512 with Intel DL Boost and bfloat16 support'
    assert found.convolutions == {
        'fp32': ('brg_conv_fwd:avx512_core',),
        'bf16': ('brg_conv_fwd:avx512_core_bf16',),
        'int8': ('brg_conv_fwd:avx512_core_vnni',),
    }
    assert found.unused == ('AVX2', 'AVX512F', 'AVX512_VNNI', 'AVX512_BF16', 'FMA')
    assert found.openmp == ()


def test_a_recorded_log_with_onednn_off_proves_no_convolution() -> None:
    found = recorded('off')
    assert (found.onednn, found.convolutions) == (False, {})
    assert found.unused == ('AVX2', 'AVX512F', 'AVX512_VNNI', 'AVX512_BF16', 'FMA')
    assert probe.dispatched(SETS['avx2'], flags('amd_zen4'), found) == ('no', 'oneDNN is off')


def test_a_process_that_died_in_a_convolution_still_tells_of_those_before() -> None:
    # ONEDNN_MAX_CPU_ISA=AVX2: the bfloat16 convolution ended it.
    found = recorded('avx2')
    assert found.isa == 'Intel AVX2'
    assert found.convolutions == {'fp32': ('brg_conv_fwd:avx2',)}
    assert probe.dispatched(SETS['avx512f'], flags('amd_zen4'), found)[0] == 'no'


def test_a_process_that_died_before_any_proves_nothing() -> None:
    assert probe.parse('', TENSORFLOW_2_14) is None
    end = {name: value for name, value in END.items() if name != 'begin'}
    assert probe.parse(f'TF_BENCH_PROBE {json.dumps(end)}\n', TENSORFLOW_2_14) is None


def test_a_convolution_that_ends_the_process_does_not_hide_the_types_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(dtypes: Sequence[str], _: object) -> subprocess.CompletedProcess[str]:
        lines = [f'TF_BENCH_PROBE {json.dumps(END)}']
        for dtype in dtypes:
            lines.append(f'TF_BENCH_PROBE {json.dumps({"begin": dtype})}')
            if dtype == 'bf16':
                return subprocess.CompletedProcess([], -4, '\n'.join(lines) + '\n', SILENT)
            lines.append('onednn_verbose,primitive,exec,cpu,convolution,jit:avx2,forward_training,,,,1')
        return subprocess.CompletedProcess([], 0, '\n'.join(lines) + '\n', SILENT)

    monkeypatch.setattr(probe, '_start', start)
    found = probe.run()
    assert isinstance(found, probe.Probe)
    assert set(found.convolutions) == {'fp32', 'fp16', 'int8'}
    assert found.failed == {'bf16': 'ended by SIGILL'}
    assert probe.dispatched(SETS['avx512_bf16'], flags('amd_zen4'), found) == ('no', 'bf16: ended by SIGILL')


def test_requirements_ask_tensorflow_once_and_only_where_they_must() -> None:
    asked = []

    def ask() -> probe.Probe:
        asked.append(1)
        return seen(TENSORFLOW_2_14, fp32='jit:avx2')

    names = sorted(cpu.flags() & set(SETS))
    answers = requirements.answers([('', names[0]), ('', 'openmp')], ask)
    assert (answers[0].met, asked) == (True, [])
    lacks = next(name for name in SETS if name not in cpu.flags())
    words = [('', 'onednn'), ('onednn', lacks), ('built', lacks), ('', lacks)]
    answers = requirements.answers(words, ask)
    assert [each.met for each in answers] == [True, False, False, False]
    assert asked == [1]
    assert 'jit:avx2' in answers[0].reason


def test_a_tensorflow_that_cannot_be_asked_meets_no_requirement() -> None:
    words = [('', 'onednn'), ('built', 'avx'), ('onednn', 'avx')]
    answers = requirements.answers(words, lambda: 'TensorFlow could not be asked: no memory.')
    assert [each.met for each in answers] == [False] * 3
    assert all(each.reason.startswith('unknown: TensorFlow could not be asked') for each in answers)


def test_this_machines_tensorflow_says_what_the_program_expects_of_it() -> None:
    told = probe.run()
    assert isinstance(told, probe.Probe), told
    can = capabilities.detect()
    assert told.onednn == can.onednn
    assert told.unused is not None
    if can.onednn:
        assert told.convolutions['fp32']
        assert told.isa
        assert told.openmp == () or told.runtime == 'OpenMP'
    if can.bf16:
        assert any('bf16' in name or 'amx' in name or 'acl' in name for name in told.convolutions['bf16'])
