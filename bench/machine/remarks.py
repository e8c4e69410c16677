"""TensorFlow's remarks on standard error, which no log level keeps away and which say nothing about a run.

The first session of a process draws them, and the first function that XLA compiles. That session also decides how many
threads all sessions of the process have within an operation and between them, whatever those ask for (TensorFlow's
LocalDevice and DirectSession keep one pool a process).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import tensorflow.compat.v1 as tf

from bench.machine import quiet

# absl::SetMinLogLevel of the Abseil that TensorFlow 2.18 is built with.
_SET_MIN_LOG_LEVEL = '_ZN4absl12lts_2023080214SetMinLogLevelENS0_18LogSeverityAtLeastE'


def silence(session_config: tf.ConfigProto, *, compiling: bool = False) -> None:
    """Runs a graph of one operation without standard error. To be called before the first session of a process.

    Args:
      session_config: of the sessions that shall have the threads they ask for.
      compiling: whether XLA will compile something, and so shall make its remarks here too.
    """
    tf.get_logger().setLevel('ERROR')
    level = os.environ.get('TF_CPP_MIN_LOG_LEVEL', '2')
    _limit_abseil(int(level) if level.isdigit() else 0)
    with quiet.standard_error(), tf.Graph().as_default(), tf.Session(config=session_config) as session:
        session.run(tf.placeholder_with_default(0, []))
        if compiling:
            # In a pipeline, because a session's own graph runs such a function without compiling it.
            compiled = tf.function(lambda x: x + 1, autograph=False, jit_compile=True)
            session.run(tf.data.make_one_shot_iterator(tf.data.Dataset.range(1).map(compiled)).get_next())


def _limit_abseil(level: int) -> None:
    """Keeps messages below a level from standard error that TF_CPP_MIN_LOG_LEVEL lets through: Abseil's own.

    Mixed precision writes eight lines of them into every run. A TensorFlow with another Abseil keeps them.

    Args:
      level: 1 leaves out information, 2 warnings as well.
    """
    library = Path(tf.sysconfig.get_lib()) / 'libtensorflow_framework.so.2'
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL(str(library)), _SET_MIN_LOG_LEVEL)(level)
