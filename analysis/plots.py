"""Plots of records. Reads records alone and never imports TensorFlow.

python -m analysis.plots results/baselines/networks.jsonl results/baselines/networks.png
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt

Record = dict[str, Any]

_COLOURS = {'fp32': '#4477aa', 'bf16': '#ee7733'}
_BAR = 0.38


def read_lines(path: Path) -> list[Record]:
    """The records of a file that has one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def networks(records: Iterable[Record], path: Path) -> None:
    """Bars for each network, training and inference in NHWC, in each precision that was run: the fraction of this
    machine's peak that was reached, with the images/sec beside each bar. Written to `path` as PNG.
    """
    shown = [record for record in records if record['config']['network']['data_format'] == 'NHWC' and record['work']]
    multiply_adds = {name_of(record): record['work']['multiply_adds_per_image'] for record in shown}
    names = sorted(multiply_adds, key=lambda name: multiply_adds[name])
    present = {record['config']['network']['precision'] for record in shown}
    precisions = [precision for precision in _COLOURS if precision in present]
    # That of most; the others' bars say theirs.
    batch = statistics.mode(_batch(record) for record in shown)
    height = (0.1 + 0.22 * len(precisions)) * len(names) + 1.6
    figure, panels = plt.subplots(1, 2, figsize=(11, height), sharey=True, layout='constrained')
    for panel, forward_only, title in zip(panels, (False, True), ('training', 'inference'), strict=True):
        job = [record for record in shown if record['config']['step']['forward_only'] == forward_only]
        _bars(panel, job, names, precisions, batch)
        panel.set_title(title)
        panel.set_xlabel("% of this machine's peak in the same precision")
        panel.set_xlim(0, 118)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    if len(precisions) > 1:
        panels[1].legend(loc='lower right', frameon=False)
    title = f'images/sec, {" and ".join(precisions)}, batch {batch}: {machine(shown[0])}'
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def name_of(record: Record) -> str:
    """The network of a record."""
    return str(record['config']['network']['model'])


def _batch(record: Record) -> int:
    return int(record['config']['network']['batch_size'])


def _bars(panel: Any, records: Sequence[Record], names: Sequence[str], precisions: Sequence[str], batch: int) -> None:
    for number, precision in enumerate(precisions):
        shift = (len(precisions) - 1) / 2 - number
        mine = [record for record in records if record['config']['network']['precision'] == precision]
        places = [names.index(name_of(record)) + shift * _BAR for record in mine]
        percents = [100 * record['work']['fraction'] for record in mine]
        panel.barh(places, percents, _BAR, color=_COLOURS[precision], label=precision)
        for place, percent, record in zip(places, percents, mine, strict=True):
            rate = record['throughput']['images_per_second']
            digits = 0 if rate >= 100 else 1 if rate >= 10 else 2
            other = '' if _batch(record) == batch else f' (batch {_batch(record)})'
            panel.text(percent + 1, place, f'{rate:,.{digits}f}{other}', va='center', fontsize=8)


def machine(record: Record) -> str:
    """Processors and TensorFlow, for a title."""
    cpu, build = record['machine']['cpu'], record['build']
    return f'{cpu["usable_cpus"]} processors of {cpu["name"]}, TensorFlow {build["tensorflow"]}'


if __name__ == '__main__':
    networks(read_lines(Path(sys.argv[1])), Path(sys.argv[2]))
