"""The machine's matrix-product rate: what a network's speed is a fraction of. Imports TensorFlow.

One large product of square matrices is the most that convolutions, which are matrix products to oneDNN, can hope for
on the same threads in the same type.
"""

from __future__ import annotations

import time

import tensorflow.compat.v1 as tf

_SIZE = 3072
_SECONDS = 1.5


def measure(config: tf.ConfigProto, precision: str) -> float:
    """Floating-point operations per second of the best of some products of [3072, 3072] matrices.

    Args:
      config: of the session, so that the threads are those of the run.
      precision: 'fp32' or 'bf16'.
    """
    dtype = tf.bfloat16 if precision == 'bf16' else tf.float32
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        # Variables, because a product of constants would be computed once, by grappler.
        a, b = (
            tf.get_variable(name, initializer=tf.random.stateless_uniform([_SIZE, _SIZE], seed, -1.0, 1.0, dtype))
            for name, seed in (('a', [1, 2]), ('b', [3, 4]))
        )
        product = tf.matmul(a, b)
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            run = session.make_callable(product.op)
            run()
            best = float('inf')
            end = time.perf_counter() + _SECONDS
            while time.perf_counter() < end:
                start = time.perf_counter()
                run()
                best = min(best, time.perf_counter() - start)
    return 2.0 * _SIZE**3 / best
