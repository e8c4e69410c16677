"""The plot of a sweep, from its table alone.

python -m analysis.sweep_plot results/sweep_vgg_16_1a2b3c4d/table.json plot.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt

from analysis import statistics
from analysis.labels import name_of
from analysis.sweep import Json, number

_COLOURS = {'fp32': '#4477aa', 'bf16': '#ee7733'}
_OTHER = '#4477aa'
_LINES = ('#4477aa', '#ee7733', '#228833', '#aa3377', '#66ccee', '#bbbbbb')
# How far intervals are drawn, beside the fastest cell.
_LONGEST = 1.5
# What a panel is about; the other flags that vary label its bars.
_PANEL = ('model', 'forward_only')


def draw(table: Json, path: Path) -> None:
    """Draws the table to `path` as PNG: bars with intervals, or lines over the number of workers where that varies."""
    if 'num_workers' in table['axes']:
        _scaling(table, path)
    else:
        _bars(table, path)


def _bars(table: Json, path: Path) -> None:
    """A panel for each network and job; in it a bar for each cell that has a speed."""
    rows = [row for row in table['cells'] if row['images_per_second']]
    panels: dict[tuple[str, str], list[Json]] = {}
    for row in rows:
        panels.setdefault((row['model'], row['job']), []).append(row)
    heights = [len(mine) + 1.5 for mine in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(9, 0.34 * sum(heights) + 0.5 * len(panels) + 0.6),
        squeeze=False,
        layout='constrained',
        gridspec_kw={'height_ratios': heights},
    )
    for panel, ((model, job), mine) in zip(axes[:, 0], panels.items(), strict=True):
        _panel(panel, mine, [name for name in table['axes'] if name not in _PANEL])
        panel.set_title(f'{model}, {job}', fontsize=10, loc='left')
    axes[-1, 0].set_xlabel('images/sec, with 95 % intervals; in brackets: times the baseline')
    figure.suptitle(table['machine'], fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(panel: Any, rows: Sequence[Json], labels: Sequence[str]) -> None:
    speeds = [row['images_per_second'] for row in rows]
    # An interval of two runs can be so long that nothing else would be seen: what is beyond is cut off, at an arrow.
    most = _LONGEST * max(speed['estimate'] for speed in speeds)
    largest = max(min(most, speed['high'] if _tells(speed) else speed['estimate']) for speed in speeds)
    for place, (row, speed) in enumerate(zip(rows, speeds, strict=True)):
        colour = _COLOURS.get(row['values'].get('precision', ''), _OTHER)
        panel.barh(place, speed['estimate'], 0.7, color=colour)
        end = speed['estimate']
        if _tells(speed):
            end = min(most, speed['high'])
            panel.plot([speed['low'], end], [place, place], color='black', linewidth=1.2)
            if speed['high'] > end:
                panel.plot(end, place, '>', color='black', markersize=4)
        panel.text(end + 0.01 * largest, place, _label(row), va='center', fontsize=8)
    names = [name_of({name: row['values'][name] for name in labels if name in row['values']}) for row in rows]
    panel.set_yticks(range(len(rows)), names, fontsize=8)
    panel.invert_yaxis()
    panel.set_xlim(0, 1.2 * largest)
    panel.spines[['top', 'right']].set_visible(False)


def _tells(speed: Json) -> bool:
    """Whether the table shows the interval, too."""
    return statistics.tells(speed['low'], speed['high'])


def _label(row: Json) -> str:
    ratio = row['times_baseline']
    times = 'baseline' if row['is_baseline'] else f'{ratio["estimate"]:.2f} x' if ratio else 'no pair'
    return f'{number(row["images_per_second"]["estimate"])} ({times})'


def _scaling(table: Json, path: Path) -> None:
    """A line for each combination of the other flags, and dotted what the same speed per core would give."""
    groups: dict[str, list[Json]] = {}
    for row in table['cells']:
        if row['images_per_second']:
            others = {name: value for name, value in row['values'].items() if name != 'num_workers'}
            groups.setdefault(name_of(others) or str(row['model']), []).append(row)
    figure, panel = plt.subplots(figsize=(7, 4.5), layout='constrained')
    for at, (name, rows) in enumerate(groups.items()):
        rows.sort(key=lambda row: int(row['values']['num_workers']))
        workers = [int(row['values']['num_workers']) for row in rows]
        speeds = [row['images_per_second'] for row in rows]
        colour = _LINES[at % len(_LINES)]
        panel.plot(workers, [speed['estimate'] for speed in speeds], 'o-', color=colour, label=name)
        for worker, speed in zip(workers, speeds, strict=True):
            if _tells(speed):
                panel.plot([worker, worker], [speed['low'], speed['high']], color=colour, linewidth=4, alpha=0.4)
        ideal = [speed['estimate'] / row['per_core'] for row, speed in zip(rows, speeds, strict=True)]
        panel.plot(workers, ideal, ':', color=colour, linewidth=1)
    panel.set_xticks(sorted({int(row['values']['num_workers']) for rows in groups.values() for row in rows}))
    panel.set_xlabel('workers; dotted: the same speed per core as with the fewest')
    panel.set_ylabel('images/sec of the whole job, with 95 % intervals')
    panel.set_ylim(bottom=0)
    panel.spines[['top', 'right']].set_visible(False)
    panel.legend(frameon=False, fontsize=9)
    panel.set_title(table['machine'], fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == '__main__':
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
