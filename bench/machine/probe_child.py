"""The process that bench/machine/probe.py starts: computes a convolution in each type and tells what TensorFlow says.

Imports TensorFlow. What TensorFlow and oneDNN log themselves goes to the same output and is read by the parent.
"""

from __future__ import annotations

import json
from pathlib import Path

import tensorflow.compat.v1 as tf
from tensorflow.python.util import _pywrap_util_port

# Begins the line that is for the parent.
MARK = 'TF_BENCH_PROBE '
_IMAGES = (8, 28, 28, 64)
_FILTER = (3, 3, 64, 64)


def _float(dtype: tf.DType) -> tf.Operation:
    # Random, because grappler would compute constants away.
    images, weights = (tf.random.uniform(shape, seed=1) for shape in (_IMAGES, _FILTER))
    return tf.nn.conv2d(tf.cast(images, dtype), tf.cast(weights, dtype), strides=1, padding='SAME').op


def _int8() -> tf.Operation:
    images = tf.cast(tf.random.uniform(_IMAGES, 0, 100, seed=1), tf.float32)
    weights = tf.random.uniform(_FILTER, -1, 1, seed=1)
    quantized, low, high = tf.quantization.quantize(images, 0.0, 100.0, tf.quint8, mode='MIN_FIRST')
    kernel, least, most = tf.quantization.quantize(weights, -1.0, 1.0, tf.qint8, mode='SCALED')
    return tf.raw_ops.QuantizedConv2D(
        input=quantized,
        filter=kernel,
        min_input=low,
        max_input=high,
        min_filter=least,
        max_filter=most,
        strides=[1, 1, 1, 1],
        padding='SAME',
        out_type=tf.qint32,
    )[0].op


def main() -> None:
    """Computes, and prints what only this process knows."""
    steps = {
        'fp32': lambda: _float(tf.float32),
        'bf16': lambda: _float(tf.bfloat16),
        'fp16': lambda: _float(tf.float16),
        'int8': _int8,
    }
    failed = {}
    for name, build in steps.items():
        print(f'{MARK}{json.dumps({"begin": name})}', flush=True)
        try:
            with tf.Graph().as_default(), tf.Session() as session:
                session.run(build())
        except (tf.errors.OpError, ValueError, TypeError) as error:
            failed[name] = str(error).splitlines()[0][:200]
    maps = Path('/proc/self/maps')
    libraries = {line.split()[-1] for line in maps.read_text().splitlines() if '.so' in line} if maps.exists() else ()
    told = {
        'version': tf.__version__,
        'git_version': tf.version.GIT_VERSION,
        'compiler': tf.version.COMPILER_VERSION,
        'onednn': bool(_pywrap_util_port.IsMklEnabled()),
        'failed': failed,
        'libraries': sorted(libraries),
    }
    print(f'{MARK}{json.dumps(told)}', flush=True)


if __name__ == '__main__':
    main()
