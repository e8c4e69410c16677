"""The roofline of a profiled step: which operations lose most, as a table and as a plot. Never imports TensorFlow.

python -m analysis.roofline results/NAME.profile.json NAME.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import patheffects
from matplotlib import pyplot as plt

Profile = dict[str, Any]

_ROWS = 10
# Of the step: what loses less has no row of its own in a table, and what takes less is in no plot.
_LEAST = 0.0005
_NUMBERED = 10
# Of the plot's width and height: points that are nearer have their numbers side by side, each of some width.
_NEAR, _NUMBER_WIDTH = 0.03, 0.022
_NAME = 41
_BETWEEN = 'between operations'
_OTHER = 'other'
_KINDS = {
    'convolution': ('#4477aa', ('Conv2D', 'DepthwiseConv2dNative')),
    'gradient of weights': ('#ee6677', ('Conv2DBackpropFilter', 'DepthwiseConv2dNativeBackpropFilter')),
    'gradient of images': ('#228833', ('Conv2DBackpropInput', 'DepthwiseConv2dNativeBackpropInput')),
    'matrix product': ('#aa3377', ('MatMul', 'BatchMatMul', 'BatchMatMulV2', 'BatchMatMulV3')),
    _OTHER: ('#888888', ()),
}
_SUMS = ('count', 'seconds', 'operations', 'bytes', 'roofline_seconds', 'lost_seconds')


def grouped(profile: Profile, key: str) -> list[Profile]:
    """The operations' sums by `key` ('computes' or 'layer'), those that lose most first.

    Operations whose work is not known count in none but `seconds` and `count`.
    """
    groups: dict[str, Profile] = {}
    for operation in profile['operations']:
        start = {'name': operation[key], **dict.fromkeys(_SUMS, 0)}
        group = groups.setdefault(operation[key], start)
        for name in _SUMS:
            group[name] += operation[name] or 0
    return sorted(groups.values(), key=lambda group: group['lost_seconds'], reverse=True)


def totals(profile: Profile) -> Profile:
    """The sums over all operations."""
    return {name: sum(operation[name] or 0 for operation in profile['operations']) for name in _SUMS}


def lines(profile: Profile) -> list[str]:
    """The tables for the screen, whose rows add up to the step."""
    everything, steps = totals(profile), sorted(profile['traced_step_seconds'])
    step = everything['seconds'] + profile['between_seconds']
    peaks = ', '.join(f'{gflops:.0f} GFLOP/s in {precision}' for precision, gflops in profile['peak_gflops'].items())
    unknown = [operation for operation in profile['operations'] if operation['operations'] is None]
    found = [
        f'{"traced":<12}{len(steps)} steps of {1e3 * steps[len(steps) // 2]:.1f} ms; operations '
        f'{1e3 * everything["seconds"]:.1f}, of which {1e3 * everything["lost_seconds"]:.1f} above the roofline',
        f'{"roofline":<12}{peaks}; memory {profile["memory_gb_per_second"]:.1f} GB/s',
    ]
    if unknown:
        seconds = sum(operation['seconds'] for operation in unknown)
        found.append(f'{"unknown":<12}the work of {len(unknown)} operations, which take {1e3 * seconds:.1f} ms')
    for key, title in (('computes', 'operation'), ('layer', 'layer')):
        found += ['', *_table(grouped(profile, key), title, step), _between(profile['between_seconds'], step)]
    return found


def _table(groups: Sequence[Profile], title: str, step: float) -> list[str]:
    """Those that lose most, each in a row, and all others in one."""
    lose = sum(group['lost_seconds'] > _LEAST * step for group in groups)
    shown, others = list(groups[: min(lose, _ROWS)]), groups[min(lose, _ROWS) :]
    if others:
        sums = {name: sum(group[name] for group in others) for name in _SUMS}
        shown.append({'name': f'({len(others)} other{"s" if len(others) > 1 else ""})', **sums})
    rows = [f'{"lost ms":>9} {"of step":>8} {"ms":>9} {"count":>6} {"GFLOP/s":>8} {"GB/s":>6} {"roof":>5}  {title}']
    for group in shown:
        taken = group['seconds'] or float('inf')
        rows.append(
            f'{1e3 * group["lost_seconds"]:9.2f} {100 * group["lost_seconds"] / step:6.1f} % '
            f'{1e3 * group["seconds"]:9.2f} {group["count"]:6d} {group["operations"] / taken / 1e9:8.1f} '
            f'{group["bytes"] / taken / 1e9:6.1f} {100 * group["roofline_seconds"] / taken:3.0f} %  '
            f'{_shortened(group["name"])}'
        )
    return rows


def _between(seconds: float, step: float) -> str:
    """The row of the time in which no operation ran; all of it is lost."""
    lost = f'{1e3 * seconds:9.2f} {100 * seconds / step:6.1f} % {1e3 * seconds:9.2f}'
    return f'{lost}{"":31}{_BETWEEN}'


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f'...{name[3 - _NAME :]}'


def plot(profile: Profile, path: Path) -> None:
    """Each operation's speed over its operations per byte, under the machine's roofline. Written to `path` as PNG.

    A circle's area is the operation's share of the step. Those that lose most are numbered, and named at the side.
    """
    seconds = totals(profile)['seconds']
    least = _LEAST * seconds
    shown = [each for each in profile['operations'] if each['operations'] and each['bytes'] and each['seconds'] > least]
    figure, (panel, names) = plt.subplots(1, 2, figsize=(13, 6.2), width_ratios=(2, 1), layout='constrained')
    _draw_roofline(panel, profile, shown)
    _draw_operations(panel, shown, seconds)
    _draw_names(panel, names, shown[:_NUMBERED])
    # Profiles of before have none.
    if 'between_seconds' in profile:
        _write_between(names, profile['between_seconds'], 1 + len(shown[:_NUMBERED]))
    figure.suptitle(f'{profile["run"]["title"]}: {profile["run"]["machine"]}', fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_roofline(panel: Any, profile: Profile, shown: Sequence[Profile]) -> None:
    bandwidth, intensities = profile['memory_gb_per_second'], list(map(_intensity, shown))
    left, right = min([0.02, *intensities]) / 1.5, 2 * max([100.0, *intensities])
    for (precision, peak), style in zip(profile['peak_gflops'].items(), ('-', '--'), strict=False):
        ridge = peak / bandwidth
        panel.plot([left, ridge, right], [left * bandwidth, peak, peak], style, color='black', zorder=1)
        panel.text(0.9 * ridge, 1.1 * peak, f'{peak:.0f} GFLOP/s in {precision}', ha='right', va='bottom', fontsize=9)
    panel.text(1.3 * left, 4 * left * bandwidth, f'{bandwidth:.1f} GB/s', ha='left', va='bottom', fontsize=9)
    panel.set(xscale='log', yscale='log', xlim=(left, right))
    speeds = list(map(_gflops, shown))
    panel.set_ylim(min(left * bandwidth, *speeds) / 2, 2.5 * max(*profile['peak_gflops'].values(), *speeds))
    panel.set_xlabel('floating-point operations a byte')
    panel.set_ylabel('GFLOP/s')
    panel.grid(alpha=0.25)
    panel.spines[['top', 'right']].set_visible(False)


def _draw_operations(panel: Any, shown: Sequence[Profile], seconds: float) -> None:
    for label, (colour, _) in _KINDS.items():
        mine = [operation for operation in shown if _kind(operation) == label]
        panel.scatter(
            [_intensity(operation) for operation in mine],
            [_gflops(operation) for operation in mine],
            [6 + 4000 * operation['seconds'] / seconds for operation in mine],
            color=colour,
            alpha=0.5,
            linewidths=0,
            label=label if mine else None,
            zorder=2,
        )
    for handle in panel.legend(loc='lower right', frameon=False).legend_handles:
        handle.set_sizes([50])


def _draw_names(panel: Any, names: Any, shown: Sequence[Profile]) -> None:
    names.axis('off')
    names.set_title('lost most, in milliseconds', loc='left', fontsize=10)
    for place, numbers in _near_each_other(panel, shown):
        text = ', '.join(map(str, numbers))
        # Readable also on the line of a peak.
        rim = [patheffects.withStroke(linewidth=3, foreground='white')]
        style = {'fontsize': 8, 'fontweight': 'bold', 'zorder': 3, 'path_effects': rim}
        panel.annotate(text, place, (5, 0), textcoords='offset points', ha='left', va='center', **style)
    for number, operation in enumerate(shown, 1):
        height = 1 - 0.095 * (number - 0.6)
        names.text(0.0, height, f'{number}', fontsize=9, fontweight='bold', va='top')
        names.text(0.17, height, f'{1e3 * operation["lost_seconds"]:.1f}', fontsize=9, va='top', ha='right')
        percent = 100 * operation['roofline_seconds'] / operation['seconds']
        text = f'{operation["computes"]}, {percent:.0f} % of the roofline\n{_shortened(operation["layer"])}'
        names.text(0.21, height, text, fontsize=8, va='top', linespacing=1.3)


def _write_between(names: Any, seconds: float, number: int) -> None:
    """Below the names: what is lost there is of no operation, and so has no place under the roofline."""
    height = 1 - 0.095 * (number - 0.6)
    names.text(0.17, height, f'{1e3 * seconds:.1f}', fontsize=9, va='top', ha='right')
    names.text(0.21, height, _BETWEEN, fontsize=8, va='top')


def _near_each_other(panel: Any, shown: Sequence[Profile]) -> list[tuple[tuple[float, float], list[int]]]:
    """Where to write numbers, and which: of points so near to each other that theirs would cover each other, all."""
    to_axes = (panel.transData - panel.transAxes).transform
    found: list[tuple[tuple[float, float], list[int]]] = []
    for number, operation in enumerate(shown, 1):
        place = (_intensity(operation), _gflops(operation))
        for other, numbers in found:
            apart = abs(to_axes(place) - to_axes(other))
            if apart[0] < _NEAR + _NUMBER_WIDTH * len(numbers) and apart[1] < _NEAR:
                numbers.append(number)
                break
        else:
            found.append((place, [number]))
    return found


def _kind(operation: Profile) -> str:
    return next((label for label, (_, kinds) in _KINDS.items() if operation['computes'] in kinds), _OTHER)


def _intensity(operation: Profile) -> float:
    return float(operation['operations'] / operation['bytes'])


def _gflops(operation: Profile) -> float:
    return float(operation['operations'] / operation['seconds'] / 1e9)


if __name__ == '__main__':
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
