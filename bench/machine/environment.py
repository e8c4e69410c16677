"""The environment variables that change what or how fast TensorFlow computes, as the user has set them."""

from __future__ import annotations

import json
import os
from typing import Any

# Those who log in by ssh have them too: docker/ssh/set_env.awk.
PREFIXES = (
    'DNNL_', 'GLIBC_TUNABLES', 'GOMP_', 'KMP_', 'LD_PRELOAD', 'MALLOC_', 'MKL_', 'OMP_', 'ONEDNN_', 'TF_AUTO_',
    'TF_DISABLE_', 'TF_ENABLE_', 'TF_MKL_', 'TF_NUM_', 'TF_XLA_', 'XLA_',
)  # fmt: skip
# What this program added to its own environment: for which process, and what stood there before.
MARK = 'TF_BENCH_TUNING'


def variables() -> dict[str, str]:
    """Names and values, before this program adds its own."""
    return {name: value for name, value in sorted(user().items()) if name.startswith(PREFIXES)}


def user() -> dict[str, str]:
    """The whole environment as the user gave it: without what bench/machine/tuning.py added.

    What another process of this program is to be started with, which then tunes itself.
    """
    found = dict(os.environ)
    mark = read_mark()
    found.pop(MARK, None)
    for name, value in mark['before'].items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


def read_mark() -> dict[str, Any]:
    """What was added: the process's `pid`, 0 where nothing was, and `before`, names with the user's value or None."""
    try:
        mark = json.loads(os.environ.get(MARK, '{}'))
        return {'pid': int(mark.get('pid', 0)), 'before': dict(mark.get('before', {}))}
    except (ValueError, TypeError, AttributeError):
        return {'pid': 0, 'before': {}}


def mark(before: dict[str, str | None]) -> str:
    """The value of MARK for this process."""
    return json.dumps({'pid': os.getpid(), 'before': before})
