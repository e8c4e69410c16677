"""What can be computed in the tests' own processes, in which oneDNN is on unless the user's environment has it off.

TensorFlow leaves it off by itself on processors with AVX2 alone, and computes convolutions in NHWC only then. The
programs that tests start decide for themselves.
"""

from __future__ import annotations

import os

from bench.machine import capabilities, libraries

_TURN = capabilities.switch(libraries.openmp())
CAN = capabilities.detect(given={_TURN.name: _TURN.on})


def turn_onednn_on() -> None:
    """TensorFlow reads the variable once; processes that are started later do not inherit it."""
    if _TURN.name in os.environ:
        return
    os.environ[_TURN.name] = _TURN.on
    from bench.machine import tensorflow_build

    tensorflow_build.onednn_enabled()
    del os.environ[_TURN.name]
