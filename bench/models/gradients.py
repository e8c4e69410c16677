"""Gradients that run faster on CPUs than TensorFlow's own of the same operations, with the same values.

oneDNN computes the gradients of a convolution of 1x1 slower than the matrix products that they are: that of the weights
takes 1.0 to 1.9 times as long, that of the input up to 1.15 times where the convolution has fewer outputs than inputs.
And a product with a large matrix transposed, which the gradient to a fully connected layer's input is, takes 1.1 to 3.8
times as long as the product the other way round, whose small result is then transposed. (Measured by operation on the
layers of resnet_v1_50, inception_v3, alexnet_v2 and overfeat, float32.)
"""

from __future__ import annotations

import contextlib
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any


def of_pointwise() -> contextlib.AbstractContextManager[Any]:
    """For convolutions made within, which have kernels of 1x1 and stride 1 in NHWC."""
    return tf.get_default_graph().gradient_override_map({'Conv2D': 'PointwiseConv2D'})


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


@tf.RegisterGradient('DenseMatMul')
def _dense(operation: tf.Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weights = operation.inputs
    to_x = tf.transpose(tf.matmul(weights, gradient, transpose_b=True))
    return to_x, tf.matmul(x, gradient, transpose_a=True)
