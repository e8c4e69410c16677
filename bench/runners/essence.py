"""What an error of TensorFlow says, without the pages on where in a graph and in whose code. Imports TensorFlow.

A session puts before an error's own text where the operation was made ("Graph execution error", "Detected at node ...",
a traceback), and str() once more behind it (tensorflow/python/framework/error_interpolation.py and errors_impl.py).
"""

from __future__ import annotations

import re

import tensorflow.compat.v1 as tf

_BEGINNING = 'Graph execution error:'
# The last line of what stands before the text, for each operation that it names.
_OPERATION = re.compile(r"^Node: '[^'\n]*'\n", re.MULTILINE)
# Which operations it names.
_NAMES = re.compile(r'\s*\[\[[^\]]*\]\]')


def essence(error: BaseException) -> str:
    """An error's own text."""
    if not isinstance(error, tf.errors.OpError):
        return str(error)
    text = str(error.message)
    if text.startswith(_BEGINNING):
        text = _OPERATION.split(text.removeprefix(_BEGINNING))[-1]
    return _NAMES.sub('', text).strip()
