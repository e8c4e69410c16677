"""The most that this machine does: arithmetic and memory, which a run's speed is a fraction of. Imports TensorFlow.

Arithmetic: the best of several products, because no single one is the fastest on every processor and in every type.
One of them is a convolution, which oneDNN computes as products of blocks, sometimes faster than its matrix products: on
two cores of an EPYC (Zen 4) 466 GFLOP/s in bfloat16, where these reach 403 to 430, and 235 in float32 (220).

Memory: the in-place form of the triad of STREAM (McCalpin, Memory bandwidth and machine balance in current high
performance computers, 1995), a = a - scalar * b, which is also gradient descent's update. In place, because a result in
new memory is fetched before it is overwritten, a fourth stream that STREAM does not count.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from bench.machine import memory

# Sizes of square matrices, and of a convolution's [N, H, W, C] images with as many output channels and 3x3 kernels.
_MATRICES = (1024, 2048, 3072)
_IMAGES = (4, 28, 28, 512)
_PRODUCT_SECONDS = 1.0
_TRIAD_SECONDS = 0.4
# How often each is run at the least: the best of one or two runs is too low, and what is a fraction of it too high.
_LEAST_RUNS = 4
# A product that takes longer than this is run once, unless it is the smallest: it was made for faster machines.
_LONGEST_PRODUCT = 0.3
# STREAM's rule: each array at least four times as large as all last-level caches together.
_CACHES = 4
_LEAST_ARRAY, _LARGEST_ARRAY = 64 * 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Rates:
    """What was reached on some threads.

    Attributes:
      precision: of the products, 'fp32' or 'bf16'.
      threads: within an operation.
      products: operations per second of each product, by name.
      bytes_per_second: between memory and processors, reading and writing together.
    """

    precision: str
    threads: int
    products: dict[str, float]
    bytes_per_second: float

    @property
    def peak(self) -> float:
        """Operations per second of the fastest product."""
        return max(self.products.values())

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return {
            'precision': self.precision,
            'threads': self.threads,
            'peak_gflops': self.peak / 1e9,
            'peak_of': max(self.products, key=self.products.__getitem__),
            'products': [{'what': what, 'gflops': rate / 1e9} for what, rate in self.products.items()],
            'memory_gb_per_second': self.bytes_per_second / 1e9,
        }


def measure(config: tf.ConfigProto, precision: str) -> Rates:
    """Measures for about two seconds on the threads of the session's `config`.

    Args:
      config: without mixed precision, which would compute float32 products in bfloat16.
      precision: 'fp32' or 'bf16'.
    """
    return Rates(precision, config.intra_op_parallelism_threads, _products(config, precision), _bandwidth(config))


def _products(config: tf.ConfigProto, precision: str) -> dict[str, float]:
    dtype = tf.bfloat16 if precision == 'bf16' else tf.float32
    operations: dict[str, tuple[tf.Operation, float]] = {}
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        for size in _MATRICES:
            a, b = (_filled(f'{name}{size}', [size, size], dtype) for name in 'ab')
            operations[f'matrix product of {size}x{size}'] = tf.matmul(a, b).op, 2.0 * size**3
        channels = _IMAGES[3]
        kernel = [3, 3, channels, channels]
        images, weights = _filled('images', _IMAGES, dtype), _filled('weights', kernel, dtype)
        name = f'3x3 convolution of {"x".join(map(str, _IMAGES))}'
        convolution = tf.nn.conv2d(images, weights, strides=1, padding='SAME')
        operations[name] = convolution.op, 2.0 * math.prod(_IMAGES) * math.prod(kernel[:3])
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            runs = [session.make_callable(operation) for operation, _ in operations.values()]
            seconds = _best(runs, _PRODUCT_SECONDS)
    return {name: count / best for (name, (_, count)), best in zip(operations.items(), seconds, strict=True)}


def _bandwidth(config: tf.ConfigProto) -> float:
    elements = array_bytes(last_level_cache_bytes(), memory.usable_bytes()) // 4
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        a, b = (tf.get_variable(name, initializer=tf.fill([elements], 1.0), use_resource=True) for name in 'ab')
        triad = tf.raw_ops.ResourceApplyGradientDescent(var=a.handle, alpha=1e-6, delta=b)
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            (seconds,) = _best([session.make_callable(triad)], _TRIAD_SECONDS)
    return 3 * 4 * elements / seconds


def _filled(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    # A variable, because a product of constants would be computed once, by grappler.
    return tf.get_variable(name, initializer=tf.random.stateless_uniform(shape, [1, 2], -1.0, 1.0, dtype))


def _best(runs: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """The shortest duration of each, run in turn for some seconds, so that a slow moment does not hit one alone.

    One that is slow is run once and then left out, so that a slow machine does not spend a minute here.
    """
    best = [_duration(run) for run in runs]
    left = [index for index in range(len(runs)) if best[index] <= _LONGEST_PRODUCT or index == 0]
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < _LEAST_RUNS:
        for index in left:
            best[index] = min(best[index], _duration(runs[index]))
        rounds += 1
    return best


def _duration(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def array_bytes(cache_bytes: int, usable_bytes: int) -> int:
    """How large an array of the triad is: beyond the caches, but a sixteenth of the usable memory at the most."""
    return min(max(_LEAST_ARRAY, _CACHES * cache_bytes), _LARGEST_ARRAY, usable_bytes // 16) // 4 * 4


def last_level_cache_bytes(root: Path = Path('/sys/devices/system/cpu')) -> int:
    """Of all third-level caches that the usable processors have; 0 where the system does not tell."""
    sizes = {}
    for cpu in os.sched_getaffinity(0):
        cache = root / f'cpu{cpu}' / 'cache' / 'index3'
        try:
            sizes[(cache / 'shared_cpu_list').read_text()] = 1024 * int((cache / 'size').read_text().strip(' K\n'))
        except (OSError, ValueError):
            continue
    return sum(sizes.values())
