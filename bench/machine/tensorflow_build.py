"""The TensorFlow that computes: its version, how it was built, and whether oneDNN is on. Imports TensorFlow."""

from __future__ import annotations

import os
import platform
from typing import Any

import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

# Variables of the environment that change what or how fast TensorFlow computes.
_TELLING = (
    'TF_CPP_',
    'TF_ENABLE_',
    'TF_DISABLE_',
    'TF_NUM_',
    'TF_XLA_',
    'TF_MKL_',
    'TF_AUTO_',
    'ONEDNN_',
    'DNNL_',
    'OMP_',
    'KMP_',
    'MKL_',
    'XLA_',
    'LD_PRELOAD',
    'MALLOC_',
)


def onednn_enabled() -> bool:
    """Whether TensorFlow's operations use oneDNN in this process."""
    return bool(_pywrap_util_port.IsMklEnabled())


def facts() -> dict[str, Any]:
    """The build for the record."""
    return {
        'tensorflow': tf.__version__,
        'git_version': tf.version.GIT_VERSION,
        'compiler': tf.version.COMPILER_VERSION,
        'onednn': onednn_enabled(),
        'python': platform.python_version(),
        'libc': ' '.join(platform.libc_ver()),
        'kernel': platform.release(),
    }


def environment() -> dict[str, str]:
    """The variables that matter to the speed, as this process has them."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_TELLING)}
