"""Makes results/baselines/networks_exactness.md: how exactly each network computes what the published one does.

    .venv/bin/python tools/network_table.py [PATTERN ...]

Networks that match a pattern are measured (default: all), those with the least work first, each in a process of its
own, which gives its memory back. What networks_exactness.jsonl has in full already is not measured again: delete its
lines to have that done. Exit status: 1 where a pattern matches nothing or a measurement failed.
The tests hold the same numbers to their limits: tests/bench/models/test_networks.py.
"""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / 'tests')]

from bench.models import registry  # noqa: E402

_ROWS = _ROOT / 'results' / 'baselines' / 'networks_exactness.jsonl'
_TABLE = _ROWS.with_suffix('.md')
_MEASURE = """
import capable, dataclasses, json, sys
capable.turn_onednn_on()
import exactness
print(json.dumps(dataclasses.asdict(exactness.measure(sys.argv[1]))))
"""
_COLUMNS = {
    'published': 'logits NHWC, published',
    'end_points': 'end points, published',
    'nhwc_true': 'logits NHWC, float64',
    'nchw': 'logits NCHW, NHWC',
    'nchw_true': 'logits NCHW, float64',
    'step': 'weights after a step, NCHW, NHWC',
    'step_smooth': 'weights after a step, NCHW, NHWC, smooth',
    'gradient': 'gradient NCHW, NHWC',
    'gradient_true': 'gradient NHWC, float64',
    'gradient_smooth': 'gradient NCHW, NHWC, smooth',
    'bf16': 'logits bf16, float32',
    'bf16_rounding': 'logits of rounded weights, unrounded',
}
_LIMITS = {'published': 1e-3, 'end_points': 1e-3, 'nchw': 1e-3, 'step': 1e-3, 'step_smooth': 1e-3, 'bf16': 5e-2}
_TEXT = """# How exactly each network is the published one

Made by `tools/network_table.py` from networks_exactness.jsonl. Each number is the largest relative error of the first
named to the second, on two random images, with random weights that the published numbers were recorded with;
0 to 1e-6 is float32's rounding of one operation.

- variables: how many, and whether names and shapes are the published ones (where there are published ones: 38
  networks) and the same in both layouts.
- logits: the largest difference of a logit, in standard deviations of the logits. `published` are the recorded numbers
  of slim's own code, which 30 networks have, with the recorded moving statistics for the seven that
  magnify the rounding of statistics most, and with those computed here for the others; `float64` is the same graph
  computed in float64 by other kernels.
- end points: mean and standard deviation of each, in its standard deviations.
- weights after a step: of gradient descent at slim's learning rate 0.01 on both layouts' own gradients: the norm of the
  difference as a part of the weight's norm, of the variable where it is largest. `smooth` as below.
- gradient: the norm of the difference of whole gradients as a part of the gradient's norm. It is larger than that of
  logits: where rounding puts a unit on the other side of its ReLU's edge, whole paths enter or leave the gradient, and
  batch norm of two images divides by small deviations. The column beside it says what that is without any change of
  layout: NHWC in float32 against float64 (which does not fit in memory for vgg_416). `smooth` is with activations
  that have no edge (softplus for ReLU): there both layouts learn the same.
- bf16: float32 variables, computed with TensorFlow's mixed precision of bfloat16. The column beside it says what that
  rounding alone does, as float32 computes it from weights and images that were rounded to bfloat16 once. Random weights
  magnify rounding from layer to layer, and batch norm, which divides by small deviations, most.

"""


def main(patterns: list[str]) -> int:
    """Measures what is missing and writes the table."""
    names = [network.name for network in _networks()]
    unknown = [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]
    if unknown:
        print(f'No network matches {", ".join(unknown)}. There are: {", ".join(names)}.', file=sys.stderr)
        return 1
    status = 0
    for network in _networks():
        complete = set(_COLUMNS) <= set(_rows().get(network.name, {}))
        if complete or not any(fnmatch.fnmatchcase(network.name, pattern) for pattern in patterns):
            continue
        print(network.name, flush=True)
        process = subprocess.run(
            [sys.executable, '-c', _MEASURE, network.name],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path[:2]), 'TF_CPP_MIN_LOG_LEVEL': '2'},
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.returncode:
            print(f'{network.name} ended with {process.returncode}', file=sys.stderr)
            status = 1
            continue
        with _ROWS.open('a') as file:
            file.write(process.stdout.splitlines()[-1] + '\n')
    _write(_rows())
    return status


def _networks() -> list[registry.Network]:
    """Those written here, by their work."""
    ours = [network for network in registry.all_networks() if not network.name.startswith('keras/')]
    return sorted(ours, key=lambda network: network.multiply_adds or 0)


def _rows() -> dict[str, dict[str, Any]]:
    """What was measured, by network."""
    lines = _ROWS.read_text().splitlines() if _ROWS.exists() else []
    return {row['name']: row for row in map(json.loads, lines)}


def _write(rows: dict[str, dict[str, Any]]) -> None:
    lines = [f'| network | variables | {" | ".join(_COLUMNS.values())} |', '|---' * (len(_COLUMNS) + 2) + '|']
    for name, row in sorted(rows.items()):
        variables = f'{row["variables"]} {"equal" if row["variables_equal"] else "DIFFERENT"}'
        lines.append(f'| {name} | {variables} | {" | ".join(_number(row, key) for key in _COLUMNS)} |')
    lines += ['', *_limits(rows)]
    missing = sorted({network.name for network in _networks()} - set(rows))
    if missing:
        lines += ['', f'Not measured yet: {", ".join(missing)}.']
    temporary = _TABLE.with_suffix('.tmp')
    temporary.write_text(_TEXT + '\n'.join(lines) + '\n')
    temporary.replace(_TABLE)


def _limits(rows: dict[str, dict[str, Any]]) -> list[str]:
    """How many networks are within the limits that this project has set itself, for each column that has one."""
    lines = []
    for column, limit in _LIMITS.items():
        seen = {name: row[column] for name, row in sorted(rows.items()) if row.get(column) is not None}
        beyond = [f'{name} {value:.1e}' for name, value in seen.items() if value > limit]
        rest = f'; not {", ".join(beyond)}' if beyond else ''
        lines.append(f'- {_COLUMNS[column]}: {len(seen) - len(beyond)} of {len(seen)} within {limit:g}{rest}.')
    return lines


def _number(row: dict[str, Any], column: str) -> str:
    if column not in row:
        return 'not measured yet'
    if row[column] is None:
        return 'none published' if column in ('published', 'end_points') else 'not measured'
    return f'{row[column]:.1e}'


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:] or ['*']))
