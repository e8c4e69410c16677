"""TensorFlow's remarks on standard error, which no log level keeps away and which say nothing about a run.

The first session of a process draws them, and the first function that XLA compiles. That session also decides how many
threads all sessions of the process have within an operation and between them, whatever those ask for (TensorFlow's
LocalDevice and DirectSession keep one pool a process).
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from bench.machine import quiet


def silence(session_config: tf.ConfigProto, *, compiling: bool = False) -> None:
    """Runs a graph of one operation without standard error. To be called before the first session of a process.

    Args:
      session_config: of the sessions that shall have the threads they ask for.
      compiling: whether XLA will compile something, and so shall make its remarks here too.
    """
    tf.get_logger().setLevel('ERROR')
    with quiet.standard_error(), tf.Graph().as_default(), tf.Session(config=session_config) as session:
        session.run(tf.placeholder_with_default(0, []))
        if compiling:
            # In a pipeline, because a session's own graph runs such a function without compiling it.
            compiled = tf.function(lambda x: x + 1, autograph=False, jit_compile=True)
            session.run(tf.data.make_one_shot_iterator(tf.data.Dataset.range(1).map(compiled)).get_next())
