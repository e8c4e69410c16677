"""The environment variables that change what or how fast TensorFlow computes, as the user has set them."""

from __future__ import annotations

import os

_PREFIXES = (
    'DNNL_', 'GLIBC_TUNABLES', 'KMP_', 'LD_PRELOAD', 'MALLOC_', 'MKL_', 'OMP_', 'ONEDNN_', 'TF_AUTO_',
    'TF_DISABLE_', 'TF_ENABLE_', 'TF_MKL_', 'TF_NUM_', 'TF_XLA_', 'XLA_',
)  # fmt: skip


def variables() -> dict[str, str]:
    """Names and values, before this program adds its own."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIXES)}
