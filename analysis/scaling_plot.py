"""The plot of a projection: images/sec over workers, measured, modelled and perfect. Never imports TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

import numpy as np
from matplotlib import pyplot as plt

from analysis import scaling

_BLUE, _ORANGE, _GREY = '#4477aa', '#ee7733', '#999999'


def plot(
    fit: scaling.Fit,
    points: Sequence[scaling.Point],
    workers: Sequence[int],
    images_per_worker: float,
    title: str,
    path: Path,
) -> None:
    """Writes a PNG.

    Args:
      points: measured.
      workers: what is projected.
      path: where to.
    """
    most = max([*workers, *(point.workers for point in points)])
    xs = sorted({*workers, *np.unique(np.geomspace(1, most, 60).astype(int)).tolist()})
    rates = [scaling.throughput(fit, x, images_per_worker) for x in xs]
    figure, panel = plt.subplots(figsize=(7.5, 5), layout='constrained')
    perfect = images_per_worker / fit.compute if fit.compute > 0 else None
    if perfect:
        panel.plot(xs, [perfect * x for x in xs], '--', color=_GREY, label='perfect: no exchange')
    panel.fill_between(
        xs,
        [rate.low or rate.estimate for rate in rates],
        [rate.high or rate.estimate for rate in rates],
        color=_BLUE,
        alpha=0.2,
        linewidth=0,
        label='95 % interval of the model',
    )
    panel.plot(xs, [rate.estimate for rate in rates], color=_BLUE, label='model')
    panel.plot(
        [point.workers for point in points],
        [point.workers * images_per_worker / point.seconds for point in points],
        'o',
        color=_ORANGE,
        label='measured',
        zorder=3,
    )
    for count in workers:
        rate = scaling.throughput(fit, count, images_per_worker).estimate
        panel.plot([count], [rate], 'D', color=_BLUE, markersize=5)
        panel.annotate(
            f'{rate:,.0f}' if rate >= 100 else f'{rate:,.1f}',
            (count, rate),
            textcoords='offset points',
            xytext=(6, -12),
            fontsize=9,
        )
    _dress(panel, most, title)
    figure.savefig(path, dpi=110, format='png')
    plt.close(figure)


def _dress(panel: Any, most: int, title: str) -> None:
    """Axes that double from tick to tick, up to the most workers."""
    panel.set_xscale('log', base=2)
    panel.set_yscale('log')
    ticks = [2**power for power in range(int(np.log2(most)) + 1)]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.yaxis.set_major_formatter(lambda rate, _: f'{rate:,g}')
    panel.set_xlim(right=1.7 * most)
    panel.set_xlabel('workers')
    panel.set_ylabel('images/sec of all workers')
    panel.set_title(title, fontsize=11)
    panel.spines[['top', 'right']].set_visible(False)
    panel.grid(alpha=0.25)
    panel.legend(frameon=False, loc='upper left')
