"""The process that bench/machine/probe.py starts: computes a convolution in each type and tells what TensorFlow says.

Imports TensorFlow. What TensorFlow and oneDNN log themselves goes to the same output and is read by the parent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.util import _pywrap_util_port

# Begins the line that is for the parent.
MARK = 'TF_BENCH_PROBE '
_IMAGES = (4, 14, 14, 64)
_FILTER = (3, 3, 64, 64)


def _float(dtype: tf.DType) -> tf.Operation:
    # Random, because grappler would compute constants away.
    images, weights = (tf.random.uniform(shape, seed=1) for shape in (_IMAGES, _FILTER))
    return tf.nn.conv2d(tf.cast(images, dtype), tf.cast(weights, dtype), strides=1, padding='SAME').op


def _int8() -> tf.Operation:
    images = tf.random.uniform(_IMAGES, 0, 100, seed=1)
    quantized, low, high = tf.quantization.quantize(images, 0.0, 100.0, tf.quint8, mode='SCALED')
    # oneDNN's kernel wants the filter as a constant.
    weights = tf.constant(np.ones(_FILTER, np.int8).astype(tf.qint8.as_numpy_dtype), tf.qint8)
    return tf.raw_ops.QuantizedConv2D(
        input=quantized,
        filter=weights,
        min_input=low,
        max_input=high,
        min_filter=-1.0,
        max_filter=1.0,
        strides=[1, 1, 1, 1],
        padding='SAME',
        out_type=tf.qint32,
    )[0].op


_STEPS = {
    'fp32': lambda: _float(tf.float32),
    'bf16': lambda: _float(tf.bfloat16),
    'fp16': lambda: _float(tf.float16),
    'int8': _int8,
}


def main(dtypes: list[str]) -> None:
    """Tells what only this process knows, then computes a convolution in each type."""
    maps = Path('/proc/self/maps')
    lines = maps.read_text().splitlines() if maps.exists() else ()
    libraries = {line.rpartition('/')[2] for line in lines if '.so' in line}
    _tell(
        version=tf.__version__,
        git_version=tf.version.GIT_VERSION,
        compiler=tf.version.COMPILER_VERSION,
        onednn=bool(_pywrap_util_port.IsMklEnabled()),
        libraries=sorted(libraries),
    )
    for dtype in dtypes:
        _tell(begin=dtype)
        try:
            with tf.Graph().as_default(), tf.Session() as session:
                session.run(_STEPS[dtype]())
        except (tf.errors.OpError, ValueError, TypeError) as error:
            _tell(failed={dtype: str(getattr(error, 'message', error)).splitlines()[-1][:200]})
    _tell(done=True)


def _tell(**facts: object) -> None:
    print(f'{MARK}{json.dumps(facts)}', flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
