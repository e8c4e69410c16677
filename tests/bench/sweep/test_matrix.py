"""Which cells a sweep has, what each is compared with, and which rungs the ladder has on which processor."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import UsageError
from bench.machine import capabilities, cpu, instruction_sets, libraries, tuning
from bench.machine.capabilities import Capabilities
from bench.sweep import ladder, matrix

ABLE = Capabilities(onednn=True, onednn_reason='', bf16=True, bf16_reason='')
# What turns oneDNN on and off in the TensorFlow that is installed.
TURN = capabilities.switch(libraries.openmp())
UNABLE = Capabilities(onednn=False, onednn_reason='It is off.', bf16=False, bf16_reason='it has not got it.')


def of(
    *words: str,
    baseline: str | None = None,
    able: Capabilities = ABLE,
    with_ladder: bool = False,
    divided: bool = False,
) -> matrix.Matrix:
    def detect(given: Any = None) -> Capabilities:
        return able

    return matrix.of(words, baseline, detect, ladder=with_ladder, divided=divided)


def test_a_combination_is_missing_or_there_twice() -> None:
    made = of('--model=lenet,trivial', '--batch_size', '8, 16,8', '--num_batches=5', '--forward_only')
    assert made.axes == ('model', 'batch_size')
    assert made.fixed == {'num_batches': '5', 'forward_only': 'true'}
    assert [dict(cell.values) for cell in made.cells] == [
        {'model': model, 'batch_size': batch} for model in ('lenet', 'trivial') for batch in ('8', '16')
    ]
    words = {'--model=trivial', '--batch_size=16', '--num_batches=5', '--forward_only=true'}
    assert set(made.cells[3].words) == words


def test_a_value_that_is_the_default_is_not_typed() -> None:
    # A settings file would change it otherwise.
    assert '--precision=fp32' in of('--precision=fp32,bf16').cells[0].words


def test_aliases_switches_and_semicolons_are_not_understood() -> None:
    made = of('--model_name=lenet', '--xla=false,true', '--trainable_scopes=a,b;c')
    assert made.axes == ('xla', 'trainable_scopes')
    assert [cell.values['trainable_scopes'] for cell in made.cells] == ['a,b', 'c'] * 2
    assert of('--trainable_scopes=a,b').axes == ()


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--precision=fp32,bf17'], ['--precision=bf17: one of fp32, bf16', 'bf16']),
        (['--batchsize=8,16'], ['--batchsize is no flag', 'batch_size']),
        (['stray'], ["'stray'"]),
        (['--batch_size=8,'], ['--batch_size=: a whole number']),
        (['--result_dir=x'], ['--sweep_dir']),
        (['--settings=missing.json', '--precision=fp32,bf16'], ['--settings=missing.json: No such file']),
        (['--model=lenet,lenett'], ['lenett', 'Did you mean lenet?']),
        (['--model=vgg_16', '--image_size=1,2'], ['--image_size=1 is too small', '--image_size=2 is too small']),
    ],
)
def test_a_wrong_word_is_run(words: list[str], told: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        of(*words)
    for text in told:
        assert text in str(error.value)


def test_a_cell_that_cannot_be_run_stops_the_others_or_hides_its_reason() -> None:
    made = of('--model=lenet', '--data_format=NHWC,NCHW', able=UNABLE)
    assert [cell.left_out is None for cell in made.cells] == [True, False]
    assert 'oneDNN' in str(made.cells[1].left_out)
    with pytest.raises(UsageError, match='oneDNN'):
        of('--model=lenet', '--data_format=NCHW', '--batch_size=8,16', able=UNABLE)


def test_cells_are_compared_with_another_than_the_named_one() -> None:
    words = ('--model=lenet,trivial', '--precision=fp32,bf16')
    assert of(*words).baselines == (0, 0, 0, 0)
    assert of(*words, baseline='precision=fp32').baselines == (0, 0, 2, 2)
    assert of(*words, baseline='model_name=trivial,precision=bf16').baselines == (3, 3, 3, 3)
    with pytest.raises(UsageError, match=r'precision=fp16 is no value of the matrix\. Did you mean precision='):
        of(*words, baseline='precision=fp16')
    with pytest.raises(UsageError, match='batch_size=8 is no value'):
        of(*words, baseline='batch_size=8')
    with pytest.raises(UsageError, match=r'cannot be run here: .*oneDNN'):
        of('--model=lenet', '--data_format=NHWC,NCHW', baseline='data_format=NCHW', able=UNABLE)
    assert of('--model=lenet', '--data_format=NCHW,NHWC', able=UNABLE).baselines == (1, 1)


def test_a_variable_that_wins_over_a_flag_that_varies_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TURN.name, '1')
    with pytest.raises(
        UsageError, match=r'--mkl could not vary: .*=1 is set in the environment, which wins\. Unset it'
    ):
        of('--model=lenet', '--mkl=on,off')
    assert of('--model=lenet', '--mkl=on').axes == ()
    monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', '1')
    with pytest.raises(UsageError, match=r'--num_intra_threads could not vary: TF_NUM_INTRAOP_THREADS=1 is set'):
        of('--model=lenet', '--num_intra_threads=1,2')


@pytest.mark.parametrize(
    ('name', 'value', 'word'),
    [
        ('LD_PRELOAD', 'libfoo.so', '--allocator=system,tcmalloc'),
        ('GLIBC_TUNABLES', 'glibc.malloc.arena_max=2', '--huge_pages=on,off'),
        ('TF_NUM_INTRAOP_THREADS', '0', '--num_intra_threads=1,2'),
        (next(each.name for each in (capabilities.STOCK, capabilities.MKL) if each != TURN), '1', '--mkl=on,off'),
    ],
)
def test_a_variable_that_decides_nothing_keeps_a_flag_from_varying(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, word: str
) -> None:
    flag = word.removeprefix('--').partition('=')[0]
    monkeypatch.setenv(name, value)
    assert flag not in tuning.kept()
    assert of('--model=lenet', word).axes == (flag,)


def test_programs_are_compared_with_others_than_their_like() -> None:
    made = of('--model=lenet', '--data_format=NHWC,NCHW', able=UNABLE)
    programs = matrix.programs_of("host=; image=docker run 'an image' run_benchmark.py")
    assert programs == {'host': (), 'image': ('docker', 'run', 'an image', 'run_benchmark.py')}
    both = matrix.with_programs(made, programs)
    assert [dict(cell.values) for cell in both.cells] == [
        {'program': name, 'data_format': layout} for name in ('host', 'image') for layout in ('NHWC', 'NCHW')
    ]
    assert both.baselines == (0, 1, 0, 1)
    # What this machine's TensorFlow cannot do, an image's may.
    assert [cell.left_out is None for cell in both.cells] == [True, False, True, True]
    for text in ('', 'x', '=x', 'a=x;a=y', "a='"):
        with pytest.raises(UsageError, match='--programs'):
            matrix.programs_of(text)


# The ladder. What the processors have is from their /proc/cpuinfo.

_AVX2 = frozenset({'sse4_1', 'sse4_2', 'avx', 'avx2', 'fma'})
_AVX512 = _AVX2 | {'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'}
_ZEN4 = _AVX512 | {'avx512_vnni', 'avx512_bf16'}
_SAPPHIRE_RAPIDS = _ZEN4 | {'avx512_fp16', 'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16'}
_NEOVERSE_V1 = frozenset({'asimd', 'asimddp', 'sve', 'bf16', 'i8mm'})


def rungs(flags: frozenset[str]) -> list[str]:
    names = ('mkl', 'onednn_max_isa', 'precision', 'data_format')
    return [' '.join(rung[name] for name in names if name in rung) for rung in ladder.rungs(flags)[0]]


def own(*levels: str) -> list[str]:
    return [f'off {isa} fp32 NHWC' for isa in levels]


def both(isa: str, precision: str = 'fp32') -> list[str]:
    return [f'on {isa} {precision} {layout}' for layout in ('NHWC', 'NCHW')]


@pytest.mark.parametrize(
    ('flags', 'expected'),
    [
        (_AVX2, [*own('SSE41', 'AVX'), *both('SSE41'), *both('AVX'), *both('AVX2')]),
        (
            _ZEN4,
            [
                *own('SSE41', 'AVX', 'AVX2'),
                *both('SSE41'),
                *both('AVX'),
                *both('AVX2'),
                *both('AVX512_CORE'),
                *both('AVX512_CORE_BF16', 'bf16'),
            ],
        ),
        (
            _SAPPHIRE_RAPIDS,
            [
                *own('SSE41', 'AVX', 'AVX2'),
                *both('SSE41'),
                *both('AVX'),
                *both('AVX2'),
                *both('AVX512_CORE'),
                *both('AVX512_CORE_BF16', 'bf16'),
                *both('AVX512_CORE_AMX', 'bf16'),
            ],
        ),
        (_NEOVERSE_V1, ['on fp32 NHWC', 'on fp32 NCHW']),
    ],
)
def test_a_processor_has_rungs_that_it_cannot_run_or_lacks_one(flags: frozenset[str], expected: list[str]) -> None:
    assert rungs(flags) == ['off fp32 NHWC', *expected]


def test_what_the_ladder_leaves_out_has_no_reason() -> None:
    left_out = ' '.join(ladder.rungs(_SAPPHIRE_RAPIDS)[1])
    for text in ('NCHW without oneDNN', 'bf16 without oneDNN', 'AVX512_CORE_VNNI: ', 'AVX512_CORE_FP16: '):
        assert text in left_out
    assert 'bf16: TensorFlow computes in it with' in ' '.join(ladder.rungs(_AVX2)[1])
    missing = set(instruction_sets.LEVELS) - {'SSE41', 'AVX', 'AVX2'}
    assert all(level in ' '.join(ladder.rungs(_AVX2)[1]) for level in missing)


def test_the_ladder_is_compared_with_anything_but_tensorflow_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, 'flags', lambda: _ZEN4)
    for variable in ('TF_ENABLE_ONEDNN_OPTS', 'ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'):
        monkeypatch.delenv(variable, raising=False)
    made = of('--model=lenet,trivial', with_ladder=True)
    rows = len(rungs(_ZEN4))
    assert made.baselines == (0,) * rows + (rows,) * rows
    assert made.cells[0].words == ('--model=lenet', '--mkl=off', '--precision=fp32', '--data_format=NHWC')
    assert made.cells[rows].values['model'] == 'trivial'
    with pytest.raises(UsageError, match='--precision: --ladder varies it'):
        of('--precision=bf16', with_ladder=True)
    with pytest.raises(UsageError, match='--baseline'):
        of('--model=lenet', baseline='mkl=on', with_ladder=True)


def test_a_batch_that_is_of_all_workers_is_not_divided_among_them() -> None:
    words = ('--model=lenet', '--variable_update=independent', '--num_workers=1,2', '--batch_size=8,16')
    made = of(*words, divided=True)
    batches = {
        (cell.values['num_workers'], cell.values['batch_size']): [word for word in cell.words if 'batch_size' in word]
        for cell in made.cells
    }
    assert batches == {
        ('1', '8'): ['--batch_size=8'],
        ('1', '16'): ['--batch_size=16'],
        ('2', '8'): ['--batch_size=4'],
        ('2', '16'): ['--batch_size=8'],
    }
    assert made.fixed['strong_scaling'] == 'true'
    assert {word for cell in of(*words).cells for word in cell.words if 'batch_size' in word} == {
        '--batch_size=8',
        '--batch_size=16',
    }


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--num_workers=1,2'], ['--batch_size is missing']),
        (['--batch_size=8'], ['--num_workers is missing']),
        (['--num_workers=1,3', '--batch_size=8'], ['--batch_size=8 cannot be divided among 3 workers']),
    ],
)
def test_a_batch_that_cannot_be_divided_among_workers_is_run(words: list[str], told: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        of('--model=lenet', *words, divided=True)
    assert all(any(part in problem for problem in error.value.problems) for part in told), error.value.problems
