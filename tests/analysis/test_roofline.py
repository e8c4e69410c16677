"""The tables and the plot of a profile that is small enough to add up by hand."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from analysis import roofline


def line(computes: str, layer: str, milliseconds: float, limit: float | None, **changes: Any) -> dict[str, Any]:
    return {
        'name': f'{layer}/{computes}', 'type': f'_Mkl{computes}', 'computes': computes, 'layer': layer, 'count': 1,
        'precision': 'fp32', 'seconds': milliseconds / 1e3, 'operations': 10**9, 'bytes': 10**8, 'product': True,
        'roofline_seconds': None if limit is None else limit / 1e3,
        'lost_seconds': None if limit is None else max(0.0, (milliseconds - limit) / 1e3), **changes,
    }  # fmt: skip


PROFILE: dict[str, Any] = {
    'run': {'title': 'net, training', 'machine': '2 cores'},
    'peak_gflops': {'fp32': 200.0},
    'memory_gb_per_second': 20.0,
    'traced_step_seconds': [0.050, 0.040, 0.045],
    'between_seconds': 0.009,
    'operations': [
        line('Conv2D', 'net/conv1', 16, 6),
        line('Relu', 'net/conv1', 9, 5),
        line('Conv2D', 'net/conv2', 8, 6),
        line('Identity', 'net/conv2', 1, 0, operations=0, bytes=0),
        line('Strange', 'net', 2, None, operations=None, bytes=None),
    ],
}


def test_sums_by_type_and_by_layer_are_those_of_the_operations() -> None:
    by_type = {group['name']: group for group in roofline.grouped(PROFILE, 'computes')}
    assert list(by_type)[:2] == ['Conv2D', 'Relu'], 'what loses most comes first'
    assert by_type['Conv2D']['lost_seconds'] == pytest.approx(0.012)
    assert by_type['Conv2D']['count'] == 2
    by_layer = {group['name']: group for group in roofline.grouped(PROFILE, 'layer')}
    assert by_layer['net/conv1']['lost_seconds'] == pytest.approx(0.014)
    assert by_layer['net/conv2']['seconds'] == pytest.approx(0.009)
    assert roofline.totals(PROFILE)['seconds'] == pytest.approx(0.036)


def test_the_tables_say_what_is_lost_and_what_is_not_known() -> None:
    text = roofline.lines(PROFILE)
    assert text[0] == 'traced      3 steps of 45.0 ms; operations 36.0, of which 17.0 above the roofline'
    assert text[2] == 'unknown     the work of 1 operations, which take 2.0 ms'
    (row,) = (each for each in text if each.endswith(' Conv2D'))
    # 12 of 45 ms; 2 G operations and 0.2 GB in 24 ms; 12 of 24 ms by the roofline.
    assert row.split() == ['12.00', '26.7', '%', '24.00', '2', '83.3', '8.3', '50', '%', 'Conv2D']
    assert not [each for each in text if each.endswith(' Strange')], 'nobody knows what it loses'


def test_the_rows_of_a_table_do_not_add_up_to_the_step() -> None:
    many = copy.deepcopy(PROFILE)
    # Eleven that lose 1 ms each: one more than a table has rows, with the three of before.
    many['operations'] += [line(f'Many{index}', f'net/many{index}', 3, 2) for index in range(11)]
    cases = ((PROFILE, ('(1 other)', '(1 other)'), 45.0), (many, ('(5 others)', '(4 others)'), 78.0))
    for profile, others, step in cases:
        text = roofline.lines(profile)
        starts = [number for number, row in enumerate(text) if row.lstrip().startswith('lost ms')]
        for start, end, rest in zip(starts, (starts[1] - 1, len(text)), others, strict=True):
            rows = text[start + 1 : end]
            assert sum(float(row.split()[3]) for row in rows) == pytest.approx(step)
            assert rows[-2].endswith(rest)
            # 9 of the step's 45 or 78 ms, in which nothing is computed.
            assert rows[-1].split() == ['9.00', f'{900 / step:.1f}', '%', '9.00', 'between', 'operations']
            assert rows[-1].index('between') == rows[0].index(rows[0].split()[-1])


def test_no_line_is_wider_than_a_terminal() -> None:
    wide = copy.deepcopy(PROFILE)
    wide['operations'][0]['layer'] = 'InceptionResnetV2/' + 'block35_1/' * 12 + 'Conv2d_1x1'
    wide['operations'][0].update(seconds=99.0, lost_seconds=98.0)
    assert max(map(len, roofline.lines(wide))) <= 100


def test_the_plot_is_drawn_for_operations_that_cannot_be_placed_too(tmp_path: Path) -> None:
    # One element, of a text or a handle, has no size.
    strange = line('DecodeRaw', 'net', 2, 0, operations=1, bytes=0)
    profile = {**PROFILE, 'operations': [*PROFILE['operations'], strange]}
    roofline.plot(profile, tmp_path / 'roofline.png')
    assert (tmp_path / 'roofline.png').read_bytes().startswith(b'\x89PNG')


def test_numbers_of_points_that_lie_on_each_other_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pyplot, 'close', lambda figure: None)
        roofline.plot(PROFILE, tmp_path / 'roofline.png')
        figure = pyplot.gcf()
    texts, beside = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    pyplot.close(figure)
    # 62.5 GFLOP/s; 111 and 125.
    assert texts == ['200 GFLOP/s in fp32', '20.0 GB/s', '1', '2, 3']
    assert beside[-2:] == ['9.0', 'between operations']


def test_a_profile_of_before_cannot_be_plotted(tmp_path: Path) -> None:
    old = {name: value for name, value in PROFILE.items() if name != 'between_seconds'}
    (tmp_path / 'old.profile.json').write_text(json.dumps(old))
    words = [sys.executable, '-m', 'analysis.roofline', str(tmp_path / 'old.profile.json'), str(tmp_path / 'old.png')]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'old.png').read_bytes().startswith(b'\x89PNG')
