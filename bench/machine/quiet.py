"""Standard error, silenced at its source: TensorFlow remarks on what is well, and no log level keeps that away."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_lock = threading.Lock()
# Where standard error goes to, first while nothing is silent; one for each that has entered.
_real: list[int] = []


@contextlib.contextmanager
def standard_error() -> Iterator[None]:
    """Within it nothing that this process or its libraries write to standard error is seen."""
    with _lock:
        _real.append(os.dup(_real[0] if _real else 2))
        with open(os.devnull, 'wb') as nowhere:  # noqa: PTH123 - no path
            os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        with _lock:
            if len(_real) == 1:
                os.dup2(_real[0], 2)
            os.close(_real.pop())


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Within it nothing that libraries write to standard error is seen; what Python code writes is.

    Where the user's environment asks for TensorFlow's remarks it does nothing. For one thread of a process.
    """
    if os.environ.get('TF_CPP_MIN_LOG_LEVEL', '2') < '2':
        yield
        return
    python = sys.stderr
    python.flush()
    with standard_error(), os.fdopen(os.dup(_real[0]), 'w', buffering=1, errors='backslashreplace') as kept:
        sys.stderr = kept
        try:
            yield
        finally:
            sys.stderr = python
