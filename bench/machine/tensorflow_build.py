"""The TensorFlow that computes: its version, how it was built, and whether oneDNN is on. Imports TensorFlow."""

from __future__ import annotations

import platform
from typing import Any

import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port


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
    }
