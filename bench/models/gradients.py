"""Gradients that run faster on CPUs than TensorFlow's own of the same operations, with the same values.

oneDNN computes the gradients of a convolution of 1x1 slower than the matrix products that they are: that of the weights
takes 1.0 to 1.9 times as long, that of the input up to 1.15 times where the convolution has fewer outputs than inputs.
And a product with a large matrix transposed, which the gradient to a fully connected layer's input is, takes 1.1 to 3.8
times as long as the product the other way round, whose small result is then transposed. (Measured by operation on the
layers of resnet_v1_50, inception_v3, alexnet_v2 and overfeat, float32.)

Of larger kernels the weights' gradient is what oneDNN computes worst in NHWC. What is faster depends on the processor,
the precision and the layer (`of_convolution`; GFLOP/s on two cores each):

- As matrix products, one for each row of the kernel: rows of the map beside copies of themselves that are moved by a
  pixel each, transposed, times the gradient. In float32 below AVX-512: 80 to 150 instead of 34 to 115 (vgg_16, Zen 3).
  In bfloat16 with AVX-512 on small maps with many channels: 500 to 800 instead of 280 to 650, and with a stride of 2
  440 to 670 instead of 280 to 440 (Zen 5).
- In float32 with AVX-512 on large maps, of which oneDNN computes the gradient row after row: the map cut into tiles of
  some rows, as if they were images, and what the rows at the cuts have of each other added: 370 to 400 instead of 290
  to 360 (vgg_16's first layers, Zen 5).

TensorFlow's own kernels are as fast or faster by themselves. Nobody measured AMX, which is left alone as well.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

import tensorflow.compat.v1 as tf

from bench.machine import capabilities, tensorflow_build

Tensor = Any

# Input channels from which products and tiles are faster: a colour image's three fill no register.
_LEAST_CHANNELS = 16
# In bfloat16 with AVX-512: so many inputs and outputs, for a row of a kernel to be worth its copies ...
_MANY_CHANNELS = 160
# ... on maps of gradients of so many pixels at the most, which oneDNN has too few of to be fast.
_SMALL_MAP = 28 * 28
# From so many pixels in float32 rows of a map are too long for the caches; tiles have so many rows.
_LARGE_MAP = 112 * 112
_LEAST_ROWS, _MOST_ROWS = 14, 32


def of_convolution(x: Tensor, weights: Tensor, stride: int, padding: str, data_format: str, precision: str) -> Any:
    """A context manager for a convolution that is made within.

    Args:
      x: what is convolved, [N, H, W, C] in NHWC.
      weights: [height, width, inputs, outputs].
      padding: TensorFlow's.
      precision: 'fp32' or 'bf16', which it will be computed in.
    """
    name = None
    if data_format == 'NHWC':
        name = _fastest(tuple(x.shape[1:3]), tuple(weights.shape), stride, padding, precision)
    return tf.get_default_graph().gradient_override_map({'Conv2D': name} if name else {})


def of_bias(x: Tensor, data_format: str | None) -> Any:
    """A context manager for biases that are added to x within.

    TensorFlow sums their gradient, in bfloat16, at 2 to 4 GB/s; as a product with ones it is 25 to 30 (Zen 5, maps of
    112 pixels and 128 channels). Products of fewer channels are no faster.
    """
    many = data_format == 'NHWC' and x.shape[-1] >= 128 and x.shape.is_fully_defined()
    return tf.get_default_graph().gradient_override_map(
        {'BiasAdd': 'ProductBiasAdd'} if many and tensorflow_build.onednn_enabled() else {}
    )


def of_dense() -> contextlib.AbstractContextManager[Any]:
    """For matrix products made within, which are of activations [N, inputs] and weights [inputs, outputs]."""
    return tf.get_default_graph().gradient_override_map({'MatMul': 'DenseMatMul'})


def _fastest(
    size: tuple[int | None, ...], weights: tuple[int, ...], stride: int, padding: str, precision: str
) -> str | None:
    """Which gradient a convolution in NHWC has, by name; None for TensorFlow's own.

    Args:
      size: of the map that is convolved; None where a user's own network tells it only as it runs.
    """
    height, width, inputs, outputs = weights
    if (height, width) == (1, 1):
        return 'PointwiseConv2D' if stride == 1 else None
    level = capabilities.vector_level(os.environ)
    known = [length for length in size if length is not None]
    if len(known) < len(size) or inputs < _LEAST_CHANNELS or not tensorflow_build.onednn_enabled():
        return None
    if level == 'avx2':
        return 'ProductsConv2D' if stride == 1 else None
    if level != 'avx512':
        return None
    pixels = math.prod(-(-length // stride) for length in known)
    if precision == 'bf16':
        return 'ProductsConv2D' if min(inputs, outputs) >= _MANY_CHANNELS and pixels <= _SMALL_MAP else None
    cut = (stride, padding, height) == (1, 'SAME', 3) and pixels >= _LARGE_MAP
    return 'TilesConv2D' if cut and _rows_of_tile(known[0]) else None


def _rows_of_tile(height: int) -> int:
    """How many rows of a map make a tile; 0 where it cannot be cut into such as are alike."""
    fitting = [rows for rows in range(_LEAST_ROWS, _MOST_ROWS + 1) if height % rows == 0 and height > rows]
    return max(fitting, default=0)


@tf.RegisterGradient('PointwiseConv2D')
def _pointwise(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    inputs, outputs = (int(size) for size in weights.shape[2:])
    pixels = tf.reshape(gradient, [-1, outputs])
    to_weights = tf.matmul(tf.reshape(x, [-1, inputs]), pixels, transpose_a=True)
    if inputs > outputs:
        to_x = tf.reshape(tf.matmul(pixels, tf.reshape(weights, [inputs, outputs]), transpose_b=True), tf.shape(x))
    else:
        to_x = tf.nn.conv2d_backprop_input(tf.shape(x), weights, gradient, strides=[1, 1, 1, 1], padding='VALID')
    return to_x, tf.reshape(to_weights, weights.shape)


@tf.RegisterGradient('ProductsConv2D')
def _products(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    height, width, inputs, outputs = (int(size) for size in weights.shape)
    stride = operation.get_attr('strides')[1]
    rows, columns = (int(size) for size in gradient.shape[1:3])
    # Rows and columns by their place within a stride: a slice that leaves out every second pixel is slow.
    x = _padded(x, (height, width), (rows, columns), stride, operation.get_attr('padding').decode())
    places = [-1, x.shape[1] // stride, stride, x.shape[2] // stride, stride, inputs]
    x = tf.reshape(x, places) if stride > 1 else x[:, :, tf.newaxis, :, tf.newaxis]
    moved = [x[:, :, :, left // stride : left // stride + columns, left % stride] for left in range(width)]
    beside = tf.concat(moved, axis=4) if width > 1 else moved[0]
    pixels = tf.reshape(gradient, [-1, outputs])
    products: list[Tensor] = []
    for top in range(height):
        # A slice is a copy, also where it is of all; and one at a time is enough of them.
        with tf.control_dependencies(products[-1:]):
            part = beside[:, top // stride : top // stride + rows, top % stride]
        products.append(tf.matmul(tf.reshape(part, [-1, width * inputs]), pixels, transpose_a=True))
    return _to_input(operation, gradient), tf.reshape(tf.stack(products), weights.shape)


def _padded(x: Tensor, kernel: tuple[int, int], output: tuple[int, int], stride: int, padding: str) -> Tensor:
    """x with the zeros that a convolution of this padding sees around it, and a multiple of the stride in size."""
    around = []
    for length, size, count in zip(map(int, x.shape[1:3]), kernel, output, strict=True):
        seen = (count - 1) * stride + size
        before = max(seen - length, 0) // 2 if padding == 'SAME' else 0
        after = max(seen - length - before, 0)
        around.append((before, after + -(before + length + after) % stride))
    return tf.pad(x, [(0, 0), *around, (0, 0)]) if any(map(any, around)) else x


@tf.RegisterGradient('TilesConv2D')
def _tiles(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    height, width, inputs, outputs = (int(size) for size in weights.shape)
    rows, columns = _rows_of_tile(int(x.shape[1])), int(x.shape[2])
    count = int(x.shape[1]) // rows

    def to_weights(x: Tensor, gradient: Tensor, height: int) -> Tensor:
        shape = [height, width, inputs, outputs]
        return tf.nn.conv2d_backprop_filter(x, shape, gradient, strides=[1, 1, 1, 1], padding='SAME')

    # As if each tile were an image: with zeros where the rows of its neighbours are.
    within = to_weights(
        tf.reshape(x, [-1, rows, columns, inputs]), tf.reshape(gradient, [-1, rows, columns, outputs]), height
    )
    x = tf.reshape(x, [-1, count, rows, columns, inputs])
    gradient_tiles = tf.reshape(gradient, [-1, count, rows, columns, outputs])
    # What the kernel's first row sees above a tile, and its last row below.
    above = to_weights(x[:, :-1, -1], gradient_tiles[:, 1:, 0], 1)
    below = to_weights(x[:, 1:, 0], gradient_tiles[:, :-1, -1], 1)
    across = tf.concat([above, tf.zeros_like(above), below], axis=0)
    return _to_input(operation, gradient), within + across


def _to_input(operation: tf.Operation, gradient: Tensor) -> Tensor:
    """TensorFlow's own gradient of a convolution in NHWC to what is convolved."""
    x, weights = operation.inputs
    return tf.nn.conv2d_backprop_input(
        tf.shape(x), weights, gradient, strides=operation.get_attr('strides'), padding=operation.get_attr('padding')
    )


@tf.RegisterGradient('ProductBiasAdd')
def _bias(_: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    pixels = tf.reshape(gradient, [-1, gradient.shape[-1]])
    ones = tf.ones([1, int(pixels.shape[0])], gradient.dtype)
    return gradient, tf.reshape(tf.matmul(ones, pixels), [-1])


@tf.RegisterGradient('DenseMatMul')
def _dense(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    to_x = tf.transpose(tf.matmul(weights, gradient, transpose_b=True))
    return to_x, tf.matmul(x, gradient, transpose_a=True)
