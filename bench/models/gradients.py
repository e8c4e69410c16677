"""Gradients that run faster on CPUs than TensorFlow's own of the same operations, with the same values.

oneDNN computes the gradients of a convolution of 1x1 slower than the matrix products that they are: that of the weights
takes 1.0 to 1.9 times as long, that of the input up to 1.15 times where the convolution has fewer outputs than inputs.
And a product with a large matrix transposed, which the gradient to a fully connected layer's input is, takes 1.1 to 3.8
times as long as the product the other way round, whose small result is then transposed. (Measured by operation on the
layers of resnet_v1_50, inception_v3, alexnet_v2 and overfeat, float32.)

With less than AVX-512 oneDNN computes the weights' gradient of larger kernels in NHWC at a third of a matrix product's
speed (vgg_16 on two cores with AVX2: 34 to 115 GFLOP/s of 170). The same sums as matrix products, one for each row of
the kernel, reach 80 to 150: rows of the map beside copies of themselves that are moved by a pixel each, transposed,
times the gradient. TensorFlow's own kernels, and oneDNN's with AVX-512, are as fast or faster by themselves.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import tensorflow.compat.v1 as tf

from bench.machine import capabilities, tensorflow_build

Tensor = Any

# Input channels from which products are faster: a colour image's three fill no register.
_LEAST_CHANNELS = 16


def of_convolution(size: tuple[int, int], stride: int, data_format: str, inputs: int) -> Any:
    """A context manager for the convolutions made within, which have a kernel of that size.

    Args:
      inputs: channels.
    """
    if (stride, data_format) != (1, 'NHWC'):
        return contextlib.nullcontext()
    if size == (1, 1):
        return tf.get_default_graph().gradient_override_map({'Conv2D': 'PointwiseConv2D'})
    if inputs >= _LEAST_CHANNELS and tensorflow_build.onednn_enabled() and capabilities.is_below_avx512(os.environ):
        return tf.get_default_graph().gradient_override_map({'Conv2D': 'SpatialConv2D'})
    return contextlib.nullcontext()


def of_dense() -> contextlib.AbstractContextManager[Any]:
    """For matrix products made within, which are of activations [N, inputs] and weights [inputs, outputs]."""
    return tf.get_default_graph().gradient_override_map({'MatMul': 'DenseMatMul'})


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


@tf.RegisterGradient('SpatialConv2D')
def _spatial(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    padding = operation.get_attr('padding').decode()
    to_x = tf.nn.conv2d_backprop_input(tf.shape(x), weights, gradient, strides=[1, 1, 1, 1], padding=padding)
    height, width, inputs, outputs = (int(size) for size in weights.shape)
    if padding == 'SAME':
        around = [((size - 1) // 2, size - 1 - (size - 1) // 2) for size in (height, width)]
        x = tf.pad(x, [(0, 0), *around, (0, 0)])
    rows, columns = (int(size) for size in gradient.shape[1:3])
    beside = tf.concat([x[:, :, left : left + columns] for left in range(width)], axis=3) if width > 1 else x
    pixels = tf.reshape(gradient, [-1, outputs])
    products: list[Tensor] = []
    for top in range(height):
        # A slice is a copy, also where it is of all; and one at a time is enough of them.
        with tf.control_dependencies(products[-1:]):
            part = beside[:, top : top + rows] if height > 1 else beside
        products.append(tf.matmul(tf.reshape(part, [-1, width * inputs]), pixels, transpose_a=True))
    return to_x, tf.reshape(tf.stack(products), weights.shape)


@tf.RegisterGradient('DenseMatMul')
def _dense(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    to_x = tf.transpose(tf.matmul(weights, gradient, transpose_b=True))
    return to_x, tf.matmul(x, gradient, transpose_a=True)
