"""Plots of records. Reads records alone and never imports TensorFlow.

python -m analysis.plots results/baselines/networks.jsonl results/baselines/networks.png
"""

from __future__ import annotations

import json
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
    """Bars for each network, training and inference in NHWC, fp32 and bf16: the fraction of this machine's matrix
    product that was reached, with the images/sec beside each bar. Written to `path` as PNG.
    """
    shown = [record for record in records if record['config']['network']['data_format'] == 'NHWC' and record['work']]
    multiply_adds = {name_of(record): record['work']['multiply_adds_per_image'] for record in shown}
    names = sorted(multiply_adds, key=lambda name: multiply_adds[name])
    figure, panels = plt.subplots(1, 2, figsize=(11, 0.55 * len(names) + 1.6), sharey=True, layout='constrained')
    for panel, forward_only, title in zip(panels, (False, True), ('training', 'inference'), strict=True):
        job = [record for record in shown if record['config']['step']['forward_only'] == forward_only]
        _bars(panel, job, names)
        panel.set_title(title)
        panel.set_xlabel('% of what one large matrix product in the same precision reaches')
        panel.set_xlim(0, 118)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[1].legend(loc='lower right', frameon=False)
    batch = shown[0]['config']['network']['batch_size']
    figure.suptitle(f'images/sec, batch {batch}: {machine(shown[0])}', fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def name_of(record: Record) -> str:
    """The network of a record."""
    return str(record['config']['network']['model'])


def _bars(panel: Any, records: Sequence[Record], names: Sequence[str]) -> None:
    for precision, shift in (('fp32', 0.5), ('bf16', -0.5)):
        mine = [record for record in records if record['config']['network']['precision'] == precision]
        places = [names.index(name_of(record)) + shift * _BAR for record in mine]
        percents = [100 * record['work']['fraction'] for record in mine]
        panel.barh(places, percents, _BAR, color=_COLOURS[precision], label=precision)
        for place, percent, record in zip(places, percents, mine, strict=True):
            rate = record['throughput']['images_per_second']
            panel.text(percent + 1, place, f'{rate:,.1f}' if rate < 100 else f'{rate:,.0f}', va='center', fontsize=8)


def machine(record: Record) -> str:
    """Processors and TensorFlow, for a title."""
    cpu, build = record['machine']['cpu'], record['build']
    return f'{cpu["usable_cpus"]} cores of {cpu["name"]}, TensorFlow {build["tensorflow"]}'


if __name__ == '__main__':
    networks(read_lines(Path(sys.argv[1])), Path(sys.argv[2]))
