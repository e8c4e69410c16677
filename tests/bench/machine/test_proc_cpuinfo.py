"""Processors as their recorded /proc/cpuinfo texts tell them: real ones, shortened to one or two processors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.machine import (
    advice,
    capabilities,
    cpu,
    facts,
    instruction_sets,
    libraries,
    proc_cpuinfo,
    requirements,
)
from bench.machine.options import MachineOptions, machine_problems
from bench.machine.probe import Probe
from bench.machine.requirements import MachineConfig
from bench.sweep import ladder

TEXTS = Path(__file__).parents[2] / 'data' / 'cpuinfo'
INTEL, AMD = 'GenuineIntel', 'AuthenticAMD'
# From the makers' data sheets: the name that it calls itself; (family, model, stepping); the sets that matter.
SSE = 'sse4_1 sse4_2'
AVX2 = f'{SSE} avx avx2 fma'
NEON = 'asimd'
PROCESSORS = {
    'intel_sandy_bridge': ('Intel(R) Pentium(R) CPU G640 @ 2.80GHz', INTEL, (6, 42, 7), SSE),
    'intel_ivy_bridge': ('Intel(R) Xeon(R) CPU E5-2650 v2 @ 2.60GHz', INTEL, (6, 62, 4), f'{SSE} avx'),
    'intel_haswell': ('Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz', INTEL, (6, 63, 2), AVX2),
    'intel_cascade_lake': (
        'Intel(R) Xeon(R) Platinum 8260M CPU @ 2.40GHz', INTEL, (6, 85, 7), f'{AVX2} avx512f avx512_vnni',
    ),
    'intel_sapphire_rapids': (
        'Intel(R) Xeon(R) Platinum 8480+', INTEL, (6, 143, 6),
        f'{AVX2} avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16',
    ),
    'intel_arrow_lake': ('Intel(R) Core(TM) Ultra 9 285', INTEL, (6, 198, 2), f'{AVX2} avx_vnni'),
    'amd_k10': ('AMD Opteron(tm) Processor 6136', AMD, (16, 9, 1), ''),
    'amd_zen_virtual': ('AMD Ryzen 7 2700X Eight-Core Processor', AMD, (23, 8, 2), f'{SSE} avx avx2'),
    'amd_zen3': ('AMD Ryzen 9 5950X 16-Core Processor', AMD, (25, 33, 0), AVX2),
    'amd_zen4': (
        'AMD EPYC 9654 96-Core Processor', AMD, (25, 17, 1), f'{AVX2} avx512f avx512_vnni avx512_bf16',
    ),
    'amd_zen4_virtual': ('AMD EPYC', AMD, (25, 17, 1), f'{AVX2} avx512f avx512_vnni avx512_bf16'),
    'arm_cortex_a72': ('Cortex-A72', 'ARM', (None, None, None), NEON),
    'arm_thunderx': ('ThunderX', 'Cavium', (None, None, None), NEON),
    'arm_neoverse_n1': ('Neoverse-N1', 'ARM', (None, None, None), f'{NEON} asimddp'),
    'arm_neoverse_v1': ('Neoverse-V1', 'ARM', (None, None, None), f'{NEON} asimddp i8mm bf16 sve'),
    'arm_neoverse_v2': ('Neoverse-V2', 'ARM', (None, None, None), f'{NEON} asimddp i8mm bf16 sve sve2'),
    'arm_a64fx': ('A64FX', 'Fujitsu', (None, None, None), f'{NEON} sve'),
    'arm_apple_m1': ('Icestorm (M1)', 'Apple', (None, None, None), f'{NEON} asimddp'),
}  # fmt: skip

# As TensorFlow tells it where it leaves oneDNN off by itself.
SEEN_WITHOUT_ONEDNN = Probe(
    tensorflow={'version': '2.18.1', 'git_version': 'v2.18.1', 'compiler': '12'}, onednn=False, onednn_version=None,
    isa=None, runtime=None, convolutions={}, failed={}, unused=(), libraries=(),
)  # fmt: skip


def read(name: str) -> str:
    return (TEXTS / f'{name}.txt').read_text()


def parsed(name: str) -> proc_cpuinfo.Processor:
    return proc_cpuinfo.parse(read(name))


def test_every_recorded_processor_is_expected() -> None:
    assert {path.stem for path in TEXTS.iterdir()} == set(PROCESSORS)


@pytest.mark.parametrize('name', PROCESSORS)
def test_name_numbers_and_instruction_sets_are_the_processors(name: str) -> None:
    title, vendor, numbers, sets = PROCESSORS[name]
    found = parsed(name)
    assert (found.name, found.vendor) == (title, vendor)
    assert (found.family, found.model, found.stepping) == numbers
    known = instruction_sets.of_architecture(found.flags)
    assert known == (instruction_sets.ARM if name.startswith('arm') else instruction_sets.X86)
    assert {one.name for one in known if one.name in found.flags} == set(sets.split())


@pytest.mark.parametrize(
    ('name', 'best', 'not_of_it'),
    [
        ('amd_k10', None, 'SSE41'),
        ('intel_sandy_bridge', 'SSE41', 'AVX'),
        ('intel_ivy_bridge', 'AVX', 'AVX2'),
        ('intel_haswell', 'AVX2', 'AVX512_CORE'),
        ('intel_arrow_lake', 'AVX2_VNNI', 'AVX512_CORE'),
        ('intel_cascade_lake', 'AVX512_CORE_VNNI', 'AVX512_CORE_BF16'),
        ('amd_zen_virtual', 'AVX', 'AVX2'),  # its hypervisor hides FMA
        ('amd_zen4', 'AVX512_CORE_BF16', 'AVX512_CORE_FP16'),
        ('intel_sapphire_rapids', 'AVX512_CORE_AMX', 'AVX512_CORE_AMX_FP16'),
        ('arm_neoverse_v1', None, 'SSE41'),
    ],
)
def test_the_levels_of_onednn_that_a_processor_can_compute(name: str, best: str | None, not_of_it: str) -> None:
    levels = instruction_sets.levels_of(parsed(name).flags)
    assert (levels[-1] if levels else None) == best
    assert not_of_it not in levels


@pytest.mark.parametrize(
    ('name', 'untold'),
    [
        ('intel_haswell', ()),
        ('amd_zen4', ()),
        # Has both sets of it, which no /proc/cpuinfo lists.
        ('intel_arrow_lake', ('AVX2_VNNI_2',)),
        ('intel_sapphire_rapids', ('AVX2_VNNI_2', 'AVX512_CORE_AMX_FP16')),
        ('arm_neoverse_v2', ()),
    ],
)
def test_a_processor_is_said_to_lack_what_linux_does_not_list(
    name: str, untold: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = parsed(name).flags
    assert instruction_sets.untold_levels(flags) == untold
    left_out = ladder.rungs(flags)[1]
    assert [text.partition(':')[0] for text in left_out if 'Linux does not tell' in text] == list(untold)
    lacks = [text for text in left_out if 'has them not' in text]
    assert not any(level in f'{text},'.replace(':', ',').split(', ') for text in lacks for level in untold)
    monkeypatch.setattr(cpu, 'flags', lambda: flags)
    for level in untold:
        options = MachineOptions(onednn_max_isa=level)
        assert machine_problems(options) == []
    (answer,) = requirements.answers([('', 'amx_fp16')], lambda: '')
    assert not answer.met
    assert ('Linux does not tell' in answer.reason) == ('AVX512_CORE_AMX_FP16' in untold)


# TensorFlow 2.18 turns oneDNN on by itself with VNNI, BF16 or AMX, and on Neoverse V1 (tensorflow/core/util/port.cc).
@pytest.mark.parametrize(
    ('name', 'onednn', 'bf16'),
    [
        ('intel_haswell', False, False),
        ('amd_zen3', False, False),
        ('intel_cascade_lake', True, False),
        ('intel_arrow_lake', True, False),
        ('intel_sapphire_rapids', True, True),
        ('amd_zen4', True, True),
        ('arm_neoverse_n1', False, False),
        ('arm_neoverse_v1', True, False),
        ('arm_neoverse_v2', False, False),
        ('arm_a64fx', False, False),
    ],
)
def test_what_tensorflow_does_by_itself_on_a_recorded_processor(name: str, onednn: bool, bf16: bool) -> None:
    found = capabilities.detect({}, parsed(name).flags, openmp=())
    assert (found.onednn, found.bf16) == (onednn, bf16)


ARMS = [name for name in PROCESSORS if name.startswith('arm_')]
X86_WORDS = re.compile(r'avx|amx|\bsse|vnni|x86', re.IGNORECASE)


@pytest.fixture
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> proc_cpuinfo.Processor:
    """A recorded processor in the place of this one; TensorFlow is not asked."""
    found = parsed(request.param)
    monkeypatch.setattr(cpu, 'processor', lambda: found)
    for turn in (capabilities.STOCK, capabilities.MKL):
        monkeypatch.delenv(turn.name, raising=False)
    monkeypatch.setattr(libraries, 'openmp', lambda: ())
    return found


def asked(word: str) -> requirements.Answer:
    (answer,) = requirements.answers(MachineConfig(require=word).required(), pytest.fail)
    return answer


@pytest.mark.parametrize('here', ARMS, indirect=True)
def test_an_arm_processor_is_told_of_x86(here: proc_cpuinfo.Processor) -> None:
    told = [asked(word).reason for word in ('asimd', 'Neon', 'sve', 'sve2', 'bf16', 'i8mm')]
    for asking in ('', 'sve3'):
        told += MachineConfig(require=asking).problems(capabilities.detect)
    can = capabilities.detect()
    told += [can.onednn_reason, can.bf16_reason, *ladder.rungs(here.flags)[1]]
    for onednn_seen in ('not asked', SEEN_WITHOUT_ONEDNN):
        found = facts.collect(onednn_seen)
        told += [text for each in advice.advise(found) for text in (each.setting, each.reason)]
        told += [row['title'] for row in found['instruction_sets']]
    assert [text for text in told if X86_WORDS.search(text)] == []
    assert asked('neon').met


@pytest.mark.parametrize('here', ['arm_neoverse_v1'], indirect=True)
@pytest.mark.parametrize('word', ['avx2', 'built:avx2', 'onednn:avx2'])
def test_what_is_of_x86_is_merely_missing_on_arm(here: proc_cpuinfo.Processor, word: str) -> None:
    # TensorFlow was not asked: pytest.fail stands for it.
    assert asked(word) == requirements.Answer(
        word,
        False,
        'AVX2 is an instruction set of x86, and this is an ARM processor (Neoverse-V1), which has '
        'asimd, asimddp, i8mm, bf16, sve',
    )
    (told,) = machine_problems(MachineOptions(onednn_max_isa='AVX2'))
    assert told.endswith('the processor is one of ARM, and these levels are of x86.')
    assert 'though this one has BF16' in capabilities.detect().bf16_reason


@pytest.mark.parametrize('here', ['amd_zen4'], indirect=True)
def test_what_is_of_arm_is_merely_missing_on_x86(here: proc_cpuinfo.Processor) -> None:
    answer = asked('bf16')
    assert not answer.met
    assert answer.reason.startswith('BF16 is an instruction set of ARM, and this is an x86 processor (AMD EPYC 9654')
    assert answer.reason.endswith('avx512_bf16')
    (told,) = MachineConfig(require='').problems(capabilities.detect)
    assert 'avx2' in told
    assert 'asimd' not in told


def test_each_processor_tells_its_own_frequency() -> None:
    assert parsed('intel_sandy_bridge').megahertz == (1901.375, 2070.796)
    assert parsed('arm_thunderx').megahertz == ()


def test_of_different_cores_only_the_features_of_all_can_be_relied_on() -> None:
    found = proc_cpuinfo.parse(f'{read("arm_neoverse_v1")}\n{read("arm_neoverse_n1")}')
    assert found.name == 'Neoverse-V1 + Neoverse-N1'
    assert found.flags == parsed('arm_neoverse_v1').flags & parsed('arm_neoverse_n1').flags
    assert 'sve' not in found.flags


def test_a_core_that_nobody_knew_yet_is_told_by_its_numbers() -> None:
    text = read('arm_neoverse_v2').replace('0xd4f', '0xfff').replace('0x41', '0x99')
    assert (proc_cpuinfo.parse(text).name, proc_cpuinfo.parse(text).vendor) == (
        'implementer 0x99 part 0xfff',
        'implementer 0x99',
    )


@pytest.mark.parametrize('text', ['', '\n\n', 'no colon here', 'processor: x\ncpu family : six\nmodel: ?'])
def test_what_a_text_does_not_tell_is_none_and_not_wrong(text: str) -> None:
    found = proc_cpuinfo.parse(text)
    assert (found.name, found.vendor, found.family, found.model) == (None, None, None, None)
    assert found.flags == frozenset()


def test_py_cpuinfo_agrees_on_this_processor() -> None:
    import cpuinfo

    theirs, ours = cpuinfo.get_cpu_info(), proc_cpuinfo.parse(Path('/proc/cpuinfo').read_text())
    if 'brand_raw' in theirs:
        assert ours.name == theirs['brand_raw']
    known = {one.name for one in (*instruction_sets.X86, *instruction_sets.ARM)}
    # It spells flags that it asked the processor for itself without underscores.
    assert {flag.replace('_', '') for flag in ours.flags & known} <= {flag.replace('_', '') for flag in theirs['flags']}
