"""`autotune` as a process: what is refused, what it writes, and that a run takes it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import program
import pytest

from analysis import statistics
from bench import settings
from bench.autotune import changes, command, report, search
from bench.autotune.options import AutotuneConfig
from bench.config import BenchmarkConfig
from bench.machine import capabilities, cpu, libraries
from bench.machine.capabilities import Capabilities
from bench.models import registry
from bench.sweep import folder, process

SMALL = ('--model=trivial', '--batch_size=2', '--num_warmup_batches=1', '--num_batches=5')


def able(given: Any = None) -> Capabilities:
    return Capabilities(onednn=True, onednn_reason='', bf16=True, bf16_reason='')


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--precision=fp32', '--allow_bf16'], '--allow_bf16 has no effect with --precision=fp32'),
        (['--batch_size=8', '--allow_batch_size'], '--allow_batch_size has no effect with --batch_size=8'),
        (['--settings=x.json'], '--settings'),
        (['--precision=fp32,bf16'], 'one of fp32, bf16'),
        (['--autotune_seconds=0'], 'more than 0'),
        (['--settings_file=/proc/version/x'], '--settings_file'),
        (['--json'], '--json'),
        (['--modle=lenet'], 'Did you mean model?'),
        (['--autotune_second=9'], 'Did you mean autotune_seconds?'),
    ],
)
def test_wrong_words_of_a_search_are_run(words: list[str], told: str) -> None:
    for start in (['autotune'], ['--autotune'], ['benchmark', '--autotune']):
        done = program.run(*start, *words)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr


def test_what_is_typed_or_cannot_be_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, 'usable_cpus', lambda cpus=None: 2)

    def names(*words: str, bf16: bool = False, batch: bool = False) -> list[str]:
        config = AutotuneConfig(benchmark=words, allow_bf16=bf16, allow_batch_size=batch)
        return [each.name for each in changes.candidates(config, able)]

    plain = names('--model=lenet')
    assert {'--num_inter_threads=2', '--xla=true', '--data_format=NCHW', '--num_intra_threads=1'} <= set(plain)
    assert not [name for name in plain if 'precision' in name or 'batch' in name]
    assert names('--model=lenet', bf16=True)[0] == '--precision=bf16'
    batches = [name for name in names('--model=lenet', batch=True) if 'batch' in name]
    assert len(batches) == 3
    assert '--mkl=off' in plain
    typed = names(
        '--model=lenet', '--data_format=NHWC', '--num_inter_threads=1', '--noxla', '--num_intra_threads=2', '--mkl=on'
    )
    assert [name for name in typed if 'allocator' not in name] == []
    assert '--data_format=NCHW' not in names('--model=keras/ConvNeXtTiny')
    monkeypatch.setenv('TF_NUM_INTEROP_THREADS', '1')
    assert '--num_inter_threads=2' not in names('--model=lenet')
    # Not set, as TensorFlow takes it.
    monkeypatch.setenv('TF_NUM_INTEROP_THREADS', '0')
    assert '--num_inter_threads=2' in names('--model=lenet')


def test_onednn_is_not_tried_where_tensorflow_leaves_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # Who runs the tests may have decided it.
    for turn in (capabilities.STOCK, capabilities.MKL):
        monkeypatch.delenv(turn.name, raising=False)

    def without(environ: Any = None, flags: Any = None, given: Any = None) -> Capabilities:
        return capabilities.detect({}, frozenset({'avx2'}), given, openmp=())

    def names(*words: str) -> list[str]:
        return [each.name for each in changes.candidates(AutotuneConfig(benchmark=('--model=lenet', *words)), without)]

    plain = names()
    assert plain[0] == '--mkl=on'
    assert '--mkl=on --data_format=NCHW' in plain
    assert not {'--mkl=off', '--data_format=NCHW'} & set(plain)
    assert not [name for name in names('--mkl=off') if 'mkl' in name or 'NCHW' in name]
    typed = names('--mkl=on')
    assert '--data_format=NCHW' in typed and not [name for name in typed if 'mkl' in name]
    assert '--mkl=on' in names('--data_format=NHWC')
    assert not [name for name in names('--data_format=NHWC') if 'NCHW' in name]


def test_bfloat16_is_allowed_where_another_flag_keeps_it_away() -> None:
    def detect(given: Any = None) -> Capabilities:
        return capabilities.detect({}, frozenset({'avx2', 'avx512_bf16'}), given, openmp=libraries.openmp())

    def told(*words: str) -> list[str]:
        return [
            text
            for text in AutotuneConfig(benchmark=('--model=lenet', *words), allow_bf16=True).problems(detect)
            if text.startswith('--allow_bf16')
        ]

    assert told() == []
    assert told('--mkl=off') == [
        '--allow_bf16 has no effect here: it is computed by oneDNN, which is off: --mkl=off was given; leave it out. '
        'Leave --allow_bf16 out.'
    ]
    (text,) = told('--onednn_max_isa=AVX2')
    assert '--onednn_max_isa=AVX2 keeps oneDNN from the bfloat16 instructions.' in text


def test_a_search_without_time_writes_what_no_run_takes(tmp_path: Path) -> None:
    done = program.run('--autotune', *SMALL, '--autotune_seconds=1', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert 'Nothing could be tried: the defaults are kept.' in done.stdout
    assert 'not tried for want of time' in done.stdout
    path = tmp_path / 'settings_trivial_training.json'
    found = json.loads(path.read_text())
    assert found['flags'] == {}
    assert [run['settings'] for run in found['measured']['runs']] == ['default']
    taken = program.run(*SMALL, f'--settings={path}', f'--result_dir={tmp_path / "run"}')
    assert taken.returncode == 0, taken.stderr
    assert program.the_record(tmp_path / 'run')['settings']['flags'] == []


@pytest.mark.parametrize(('low', 'applied'), [(1.02, True), (0.99, False)])
def test_a_run_does_not_take_what_was_proven_or_takes_what_was_not(tmp_path: Path, low: float, applied: bool) -> None:
    config = AutotuneConfig(benchmark=('--model=trivial',))
    best = changes.Change((('num_inter_threads', '2'), ('precision', 'bf16')))
    found = search.Found(
        samples=[search.Sample(changes.DEFAULT, 10.0, 5.0)],
        best=best,
        pairs=[(10.0, 11.0)] * 5,
        gain=statistics.Interval(1.1, low, 1.2, 0.95),
    )
    resolved = config.benchmark_config()[0].resolved(registry.get('trivial'), None, 2)
    path = tmp_path / 'found.json'
    contents = command.contents(config, resolved, found, ['--autotune'], 99.0)
    # What the settings say themselves, the run is not asked for.
    assert ('precision' in contents['for']) == (not applied)
    path.write_text(json.dumps(contents))
    taken, problems = settings.parse(BenchmarkConfig, ['--model=trivial', f'--settings={path}'], 'program')
    assert problems == []
    assert settings.warnings(settings.told(taken, []), resolved) == []
    expected = (2, 'bf16') if applied else (None, 'fp32')
    assert (taken.threads.num_inter_threads, taken.network.precision) == expected
    text = '\n'.join(report.lines(found, resolved))
    assert '--num_inter_threads=2 --precision=bf16: 1.100 times' in text
    assert ('the defaults are kept' in text) == (not applied)
    assert ('bfloat16 rounds' in text) == applied


@pytest.mark.parametrize(
    ('speeds', 'told'),
    [
        ([15.0], '1.500 times as fast as the defaults, in 1 fresh pair.'),
        (
            [12.0, 19.0],
            '1.510 times as fast as the defaults, in 2 fresh pairs, too few and too different for an interval.',
        ),
        ([12.0, 12.0], '1.200 times [1.200, 1.200] as fast as the defaults, in 2 fresh pairs (95 % interval).'),
    ],
)
def test_an_interval_is_spoken_of_where_there_is_none_that_tells_anything(speeds: list[float], told: str) -> None:
    best = changes.Change((('num_inter_threads', '2'),))
    gain = statistics.paired_ratio_interval(speeds, [10.0] * len(speeds))
    found = search.Found(best=best, pairs=[(10.0, speed) for speed in speeds], gain=gain)
    resolved = AutotuneConfig(benchmark=('--model=trivial',)).benchmark_config()[0]
    assert f'--num_inter_threads=2: {told}' in report.lines(found, resolved)


def test_the_line_that_uses_what_was_found_cannot_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str], *_: object) -> folder.Done:
        speed = 20.0 if '--num_inter_threads=2' in words else 10.0
        return folder.Done(
            {'throughput': {'images_per_second': speed}, 'step_seconds': {'median': 0.1}, 'warnings': []}, None
        )

    monkeypatch.setattr(process, 'run', run)
    words = ('--model=trivial', '--trainable_scopes=a, b', f'--result_dir={tmp_path / "my results"}')
    assert command.run(AutotuneConfig(benchmark=words, autotune_seconds=60.0), ['autotune', *words]) == 0
    (use,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith('use '))
    start, *rest = shlex.split(use.removeprefix('use'))
    assert (start, tuple(rest[:-1])) == ('run_benchmark.py', words)
    taken, problems = settings.parse(BenchmarkConfig, rest, 'program')
    assert (problems, taken.threads.num_inter_threads) == ([], 2)


@pytest.mark.slow
def test_a_search_with_time_does_not_compare_in_fresh_pairs(tmp_path: Path) -> None:
    path = tmp_path / 'found.json'
    words = ('autotune', '--model=lenet', '--batch_size=64', '--num_intra_threads=1', '--autotune_seconds=240')
    done = program.run(*words, f'--settings_file={path}', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    measured = found['measured']
    # On a busy machine there is time for fewer.
    known = {run['settings'] for run in measured['runs']} | {*measured['not_tried']}
    # Where TensorFlow leaves oneDNN off, NCHW comes with it.
    assert '--xla=true' in known and known & {'--data_format=NCHW', '--mkl=on --data_format=NCHW'}
    if measured['compared']:
        assert len(measured['pairs']) >= 2
        assert measured['times_default']['low'] < measured['times_default']['estimate']
        assert f'{measured["compared"]}: {measured["times_default"]["estimate"]:.3f} times' in done.stdout
    assert bool(found['flags']) == bool(measured['compared'] and measured['times_default']['low'] > 1)
    # NCHW is far slower for lenet, whose first convolution sees one channel.
    assert 'data_format' not in found['flags']


def test_a_run_that_fails_as_it_was_typed_is_searched(tmp_path: Path) -> None:
    (tmp_path / 'broken.py').write_text(
        'from bench.models.registry import register\n\n\n'
        "@register('broken', image_size=8)\ndef broken(net, images):\n    raise ValueError('no such layer')\n"
    )
    done = program.run('autotune', f'--model={tmp_path / "broken.py"}', f'--result_dir={tmp_path}')
    assert done.returncode == 1
    assert 'The run fails as it was typed: ' in done.stderr
    assert 'no such layer' in done.stderr
    assert list(tmp_path.glob('settings_*.json')) == []
