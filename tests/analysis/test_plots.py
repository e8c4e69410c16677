"""The plots of records, made of the committed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt

from analysis import plots

_LINES = Path(__file__).resolve().parents[2] / 'results' / 'baselines' / 'networks.jsonl'


@pytest.mark.parametrize('precisions', [('fp32',), ('fp32', 'bf16')])
def test_each_bar_stands_at_its_network_and_says_its_speed(
    precisions: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [r for r in plots.read_lines(_LINES) if r['config']['network']['precision'] in precisions]
    records[0]['config']['network']['batch_size'] += 1
    monkeypatch.setattr(plt, 'close', lambda figure: None)
    plots.networks(records, tmp_path / 'plot.png')
    panels = plt.gcf().axes
    monkeypatch.undo()
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    shown = [r for r in records if r['config']['network']['data_format'] == 'NHWC']
    for panel, forward_only in zip(panels, (False, True), strict=True):
        mine = [r for r in shown if r['config']['step']['forward_only'] == forward_only]
        bars: list[Any] = list(panel.patches)
        seen = {(names[round(bar.get_y() + bar.get_height() / 2)], round(bar.get_width(), 6)) for bar in bars}
        assert seen == {(plots.name_of(r), round(100 * r['work']['fraction'], 6)) for r in mine}
        assert len(panel.texts) == len(mine)
        batches = {r['config']['network']['batch_size'] for r in mine} - {8}
        assert {text.get_text().partition(' ')[2] for text in panel.texts} - {''} == {f'(batch {b})' for b in batches}
        legend = panel.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == list(precisions) if legend else True
    assert (panels[1].get_legend() is None) == (len(precisions) == 1)
    plt.close('all')
    assert (tmp_path / 'plot.png').stat().st_size > 10_000
