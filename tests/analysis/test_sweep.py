"""The table of a sweep against numbers computed by hand, simulated machines, and its plot against what it must show."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from matplotlib import pyplot as plt

from analysis import statistics, sweep, sweep_plot

ROOT = Path(__file__).parents[2]


def record(speed: float, *, fraction: float | None = 0.5, workers: int = 1, **changes: Any) -> dict[str, Any]:
    """What a table reads of a run's record."""
    return {
        'config': {
            'network': {'model': changes.pop('model', 'lenet'), 'precision': changes.pop('precision', 'fp32')},
            'step': {'forward_only': changes.pop('forward_only', False)},
            'data': {'input_only': False},
            'threads': {'num_intra_threads': changes.pop('threads', 2)},
        },
        'throughput': {'images_per_second': speed, 'low': 0.9 * speed, 'high': 1.1 * speed, 'confidence': 0.95},
        'work': None if fraction is None else {'fraction': fraction, 'gflops': speed},
        'workers': [{'host': 'one', 'cpus': cpus} for cpus in changes.pop('cpus', itertools.repeat(None, workers))],
        'machine': {'cpu': {'name': changes.pop('cpu', 'Some CPU'), 'usable_cpus': 2}, 'kernel': '6.1'},
        'build': {'tensorflow': changes.pop('tensorflow', '2.18.1'), 'git_version': 'v2'},
        'machine_fingerprint': changes.pop('machine', 'm'),
        'build_fingerprint': 'b',
        'environment': {},
        'warnings': changes.pop('warnings', []),
    }


def cell(
    values: Mapping[str, str],
    speeds: Sequence[float | dict[str, Any] | None] = (),
    *,
    baseline: int = 0,
    left_out: str | None = None,
    failures: Mapping[int, str] | None = None,
) -> sweep.Cell:
    """A cell with its runs, by round; None where a round is missing."""
    records = {
        round_: each if isinstance(each, dict) else record(each)
        for round_, each in enumerate(speeds)
        if each is not None
    }
    return sweep.Cell(values, 'run_benchmark.py ...', left_out, baseline, records, failures or {})


def table(cells: Sequence[sweep.Cell], *axes: str) -> dict[str, Any]:
    found = sweep.table(cells, axes, {'fixed': {}})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_speed_and_ratio_are_arithmetic_means_or_pair_other_rounds() -> None:
    found = table([cell({'p': 'a'}, [10.0, 40.0, 20.0]), cell({'p': 'b'}, [None, 60.0, 80.0])], 'p')
    a, b = found['cells']
    assert a['images_per_second']['estimate'] == pytest.approx(20)
    assert b['images_per_second']['estimate'] == pytest.approx(math.sqrt(60 * 80))
    # Rounds 2 and 3 have both: 60/40 and 80/20.
    assert b['times_baseline']['estimate'] == pytest.approx(math.sqrt(1.5 * 4))
    logs = np.log([1.5, 4])
    low, high = np.exp(scipy.stats.t.interval(0.95, 1, logs.mean(), scipy.stats.sem(logs)))
    assert (b['times_baseline']['low'], b['times_baseline']['high']) == pytest.approx((low, high))
    assert a['is_baseline'] and a['times_baseline'] is None
    assert b['rounds'] == {'2': 60.0, '3': 80.0}


def test_a_single_run_has_no_interval_or_a_ratio_with_one() -> None:
    a, b = table([cell({'p': 'a'}, [10.0]), cell({'p': 'b'}, [30.0])], 'p')['cells']
    assert (a['images_per_second']['low'], a['images_per_second']['high']) == pytest.approx((9, 11))
    assert b['times_baseline'] == {'estimate': pytest.approx(3), 'low': None, 'high': None, 'confidence': 0.95}


def test_cells_without_a_run_or_a_pair_make_up_numbers() -> None:
    cells = [
        cell({'p': 'a'}, failures={0: 'no memory'}),
        cell({'p': 'b'}, [30.0, record(31.0, fraction=None)]),
        cell({'p': 'c'}, left_out='it cannot be'),
        cell({'p': 'd'}),
    ]
    found = table(cells, 'p')
    assert [row['times_baseline'] for row in found['cells']] == [None] * 4
    assert [row['fraction_of_peak'] for row in found['cells']] == [None, 0.5, None, None]
    lines = sweep.text(found)
    assert lines[1] == 'a  failed: no memory'
    assert lines[2].split()[:2] == ['b', '30.50']
    assert lines[3] == 'c  left out: it cannot be'
    assert lines[4] == 'd  not run yet'
    # Nothing of it fails where nothing was run.
    assert sweep.legend(table([cell({})]))


def test_the_text_is_not_what_the_numbers_are() -> None:
    cells = [
        cell({'model': 'vgg_16', 'precision': 'fp32'}, [2.0, 2.02, 1.98]),
        cell({'model': 'vgg_16', 'precision': 'bf16'}, [4.0, 4.04, 3.97], failures={3: 'it was killed'}),
        cell({'model': 'trivial', 'precision': 'fp32'}, [12345.0]),
    ]
    lines = sweep.text(table(cells, 'model', 'precision'))
    assert lines == [
        'model    precision  images/sec     95 % interval  x baseline   95 % interval  % of peak',
        'vgg_16   fp32            2.000    1.951 to 2.050    baseline                         50',
        'vgg_16   bf16            4.003    3.917 to 4.091       2.002  1.994 to 2.009         50',
        '    1 of 4 runs failed: it was killed',
        'trivial  fp32           12,345  11,110 to 13,580    6172.500               -         50',
    ]
    assert max(map(len, lines)) <= 100


def test_the_interval_of_a_ratio_is_not_that_of_a_drifting_machine() -> None:
    # Rounds differ by 20 %, cells in a round by 1 %: pairs see through that, means of the rounds do not.
    random = np.random.default_rng(1)
    covered, widths, unpaired = [], [], []
    for _ in range(2000):
        machine = random.lognormal(0, 0.2, 3)
        a, b = (speed * machine * random.lognormal(0, 0.01, 3) for speed in (10.0, 13.0))
        found = table([cell({'p': 'a'}, list(a)), cell({'p': 'b'}, list(b))], 'p')['cells'][1]['times_baseline']
        covered.append(found['low'] <= 1.3 <= found['high'])
        widths.append(math.log(found['high'] / found['low']))
        speed = statistics.geometric_mean_interval(b)
        assert speed.low is not None and speed.high is not None
        unpaired.append(math.log(speed.high / speed.low))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    assert np.mean(widths) < 0.1 * np.mean(unpaired)


def test_scaling_is_told_of_other_workers_or_cores() -> None:
    one, two, four = (
        cell({'num_workers': str(n), 'b': '8'}, [record(speed, workers=n, threads=1)])
        for n, speed in ((1, 10.0), (2, 19.0), (4, 30.0))
    )
    other = cell({'num_workers': '2', 'b': '16'}, [record(50.0, workers=2, threads=1)])
    rows = table([two, one, four, other], 'num_workers', 'b')['cells']
    assert [row['per_core'] for row in rows] == pytest.approx([0.95, 1, 0.75, 1])
    alone = cell({'num_workers': '1'}, [record(10.0, workers=1, threads=2)])

    def per_core(found: dict[str, Any]) -> float:
        pinned = cell({'num_workers': '2'}, [found])
        first, second = (row['per_core'] for row in table([alone, pinned], 'num_workers')['cells'])
        assert first == pytest.approx(1)
        return float(second)

    # Two workers that share the cores of one: the job is as fast as before, and so is each core.
    assert per_core(record(10.0, threads=1, cpus=[[0], [1]])) == pytest.approx(1)
    # Four on two cores are not on four.
    assert per_core(record(10.0, threads=1, cpus=[[0], [1], [0], [1]])) == pytest.approx(1)
    # Threads that outnumber the cores bring no more of them, and idle cores do not count.
    assert per_core(record(10.0, threads=9, cpus=[[0], [1]])) == pytest.approx(1)
    assert per_core(record(10.0, threads=1, cpus=[[0, 1], [2, 3]])) == pytest.approx(1)
    # The same number on another machine is another core.
    apart = record(10.0, threads=1, cpus=[[0], [0]])
    assert per_core(apart) == pytest.approx(2)
    apart['workers'][1]['host'] = 'another'
    assert per_core(apart) == pytest.approx(1)


def test_warnings_are_lost_or_told_for_every_run() -> None:
    noisy = {'code': 'noisy', 'text': 'Close other programs.'}
    cells = [
        cell({'p': 'a'}, [record(1, warnings=[noisy]), record(1, warnings=[noisy])]),
        cell({'p': 'b'}, [record(1, machine='m'), record(1, machine='another')]),
    ]
    found = table(cells, 'p')
    assert found['warnings'][0] == {**noisy, 'runs': 2, 'cells': ['a']}
    assert found['warnings'][1]['code'] == 'other_machine'
    assert 'warning: in 2 runs (a): Close other programs.' in sweep.legend(found)
    # A sweep of one cell has nothing to tell it by.
    alone = table([cell({}, [record(1, warnings=[noisy])])])
    assert 'warning: in 1 run: Close other programs.' in sweep.legend(alone)


def test_a_rung_that_slows_the_large_product_too_looks_as_fast_as_the_machine() -> None:
    cells = [
        cell({'mkl': 'off'}, [record(40.0, fraction=0.4), record(44.0, fraction=0.4)]),
        # A network at 80 % of a product that this instruction set slows down to a fifth.
        cell({'mkl': 'on', 'onednn_max_isa': 'SSE41'}, [record(16.0, fraction=0.8)]),
        cell({'mkl': 'on', 'onednn_max_isa': 'AVX512_CORE_BF16'}, [record(200.0, precision='bf16')]),
        cell({'mkl': 'on', 'onednn_max_isa': 'AVX'}, [record(1.0, fraction=None)]),
    ]
    found = table(cells, 'mkl', 'onednn_max_isa')
    best = math.sqrt(100 * 110)
    fractions = [row['fraction_of_best_peak'] for row in found['cells']]
    assert fractions[3] is None
    assert fractions[:3] == pytest.approx([0.4, 16 / best, 0.5])
    lines = sweep.text(found)
    assert lines[0].endswith('% of peak  % of best')
    assert [line.split()[-2:] for line in lines[1:]] == [['40', '40'], ['80', '15'], ['50', '50'], ['-', '-']]
    assert any(line.startswith('% of best   of the highest such peak') for line in sweep.legend(found))


def test_cells_of_different_processors_or_tensorflows_are_compared_without_a_word() -> None:
    def warned(*records: dict[str, Any], **values: str) -> list[str]:
        cells = [cell({'p': str(at), **values}, [each]) for at, each in enumerate(records)]
        return [each['text'] for each in table(cells, 'p')['warnings']]

    assert warned(record(1), record(2), record(3)) == []
    # Cells differ in their build where oneDNN is off in some.
    assert warned(record(1), {**record(2), 'build_fingerprint': 'another'}) == []
    (text,) = warned(record(1), record(2), record(3, tensorflow='2.19.0'))
    assert text.startswith('Runs differ in more than their flags: TensorFlow 2.18.1 (v2) or TensorFlow 2.19.0 (v2). ')
    (text,) = warned(record(1), record(2, cpu='Another', machine='n'))
    assert 'Some CPU or Another.' in text
    cells = [cell({'program': name}, [record(1, tensorflow=name)]) for name in ('host', 'image')]
    assert table(cells, 'program')['warnings'] == []


def rung(isa: str | None, speed: float, precision: str = 'fp32', layout: str = 'NHWC', **changes: Any) -> sweep.Cell:
    values = {'mkl': 'off' if isa is None else 'on', **({'onednn_max_isa': isa} if isa else {})}
    values |= {'precision': precision, 'data_format': layout}
    return cell(values, [record(speed * each, **changes) for each in (1, 1.1, 0.95)])


def test_the_answer_of_the_ladder_is_another_than_its_rows() -> None:
    cells = [
        rung(None, 10),
        rung('AVX2', 15),
        rung('AVX2', 12, layout='NCHW'),
        rung('AVX512_CORE', 18.7),
        rung('AVX512_CORE_BF16', 30, precision='bf16', layout='NCHW'),
    ]
    found = table(cells, 'mkl', 'onednn_max_isa', 'precision', 'data_format')
    assert sweep.ladder_answers(found) == [
        'oneDNN with AVX512 trains lenet 1.87 times [1.87, 1.87] as fast as TensorFlow without it, with AVX2 1.50 '
        'times [1.50, 1.50], with AVX512-BF16 in bfloat16 in NCHW 3.00 times [3.00, 3.00].'
    ]
    slower = [rung(None, 10, forward_only=True), rung('AVX2', 8, forward_only=True)]
    assert sweep.ladder_answers(table(slower, 'mkl', 'onednn_max_isa', 'precision', 'data_format')) == [
        'oneDNN with AVX2 infers with lenet 0.80 times [0.80, 0.80] as fast as TensorFlow without it.'
    ]
    assert sweep.ladder_answers(table([rung(None, 10), cell(cells[1].values)], 'mkl')) == []
    # On ARM's processors, which have no levels.
    arm = [rung(None, 10), rung('', 20), rung('', 30, precision='bf16')]
    assert sweep.ladder_answers(table(arm, 'mkl', 'precision', 'data_format')) == [
        'oneDNN trains lenet 2.00 times [2.00, 2.00] as fast as TensorFlow without it, in bfloat16 3.00 times '
        '[3.00, 3.00].'
    ]


def test_the_answer_of_the_ladder_has_an_interval_that_its_table_leaves_out() -> None:
    off, on = rung(None, 10), rung('AVX2', 15)
    off = dataclasses.replace(off, records={0: record(10), 1: record(10)})
    on = dataclasses.replace(on, records={0: record(12), 1: record(19)})
    found = table([off, on], 'mkl', 'onednn_max_isa', 'precision', 'data_format')
    assert 'too few runs, too different' in sweep.text(found)[2]
    assert sweep.ladder_answers(found) == [
        'oneDNN with AVX2 trains lenet 1.51 times [too few runs, too different] as fast as TensorFlow without it.'
    ]


def test_the_fastest_is_not_compared_with_tensorflows_own_kernels_of_old() -> None:
    old = rung('SSE41', 4)
    old = dataclasses.replace(old, values={**old.values, 'mkl': 'off'})
    axes = ('mkl', 'onednn_max_isa', 'precision', 'data_format')
    fast, last = sweep.ladder_answers(table([rung(None, 10), old, rung('AVX2', 15)], *axes))
    assert fast == 'oneDNN with AVX2 trains lenet 1.50 times [1.50, 1.50] as fast as TensorFlow without it.'
    own = "TensorFlow's own kernels kept to SSE41"
    assert last == f'The fastest in float32 is 3.75 times [3.75, 3.75] as fast as {own}.'
    # Where oneDNN brings nothing the baseline is the fastest.
    *_, last = sweep.ladder_answers(table([rung(None, 10), old, rung('AVX2', 8)], *axes))
    assert last == f'The fastest in float32 is 2.50 times [2.50, 2.50] as fast as {own}.'


@pytest.mark.parametrize('axis', ['precision', 'num_workers'])
def test_the_plot_leaves_out_the_intervals_that_the_table_leaves_out(
    axis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    names = {'precision': ('fp32', 'bf16'), 'num_workers': ('1', '2')}[axis]
    cells = [
        cell({axis: names[0]}, [48.0, 50.0, 49.0]),
        cell({axis: names[1]}, [20.0, 180.0], baseline=1),
    ]
    found = table(cells, axis)
    assert [line.count('too few runs, too different') for line in sweep.text(found)] == [0, 0, 1]
    monkeypatch.setattr(plt, 'close', lambda figure: None)
    sweep_plot.draw(found, tmp_path / 'plot.png')
    (panel,) = plt.gcf().axes
    monkeypatch.undo()
    low, high = panel.get_ylim() if axis == 'num_workers' else panel.get_xlim()
    # The cells' speeds are 49 and 60.
    assert low == 0 and 60 < high < 100
    plt.close('all')


@pytest.mark.parametrize('axes', [('precision',), ('num_workers',)])
def test_a_plot_needs_tensorflow_or_fails_where_cells_are_missing(tmp_path: Path, axes: tuple[str, ...]) -> None:
    values = {'precision': ('fp32', 'bf16', 'fp32'), 'num_workers': ('1', '2', '4')}[axes[0]]
    cells = [
        cell({axes[0]: values[0]}, [10.0, 11.0]),
        cell({axes[0]: values[1]}, [20.0]),
        cell({axes[0]: values[2]}, failures={0: 'no memory'}),
    ]
    (tmp_path / 'table.json').write_text(json.dumps(table(cells, *axes)))
    code = (
        'import json, sys; from pathlib import Path; from analysis import sweep_plot\n'
        "sweep_plot.draw(json.loads(Path(sys.argv[1], 'table.json').read_text()), Path(sys.argv[1], 'plot.png'))\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert (tmp_path / 'plot.png').stat().st_size > 5000
