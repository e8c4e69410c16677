"""Networks in other forms, for comparison: in float64, which is what float32 would compute if it did not round (slow,
and NHWC only), and with smooth activations, whose gradients do not jump where rounding moves a unit over an edge.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow.compat.v1 as tf

from bench.models.layers import Layers
from bench.models.registry import Network
from bench.models.style import BatchNorm, Style

Tensor = Any

_SMOOTH = {
    'relu': tf.nn.softplus,
    'relu6': lambda x: tf.nn.softplus(x) - tf.nn.softplus(x - 6.0),
    'hard_swish': lambda x: x * tf.sigmoid(x),
    'hard_sigmoid': tf.sigmoid,
}


class ExactLayers(Layers):
    """Layers, with what TensorFlow has in float32 only written as its formula."""

    def batch_norm(self, x: Tensor, batch_norm: BatchNorm, scope: str = 'BatchNorm') -> Tensor:
        """With the statistics of the batch in training, otherwise with the moving ones, which never change here."""
        shape = [self.channels(x)]
        with tf.variable_scope(scope):
            gamma = tf.get_variable('gamma', shape) if batch_norm.scale else None
            beta = tf.get_variable('beta', shape)
            mean, variance = (
                tf.nn.moments(x, (*self.spatial_axes, 0))
                if self.is_training
                else (tf.get_variable(name, shape, trainable=False) for name in ('moving_mean', 'moving_variance'))
            )
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, batch_norm.epsilon)

    def local_response_norm(self, x: Tensor, depth_radius: int, bias: float, alpha: float, beta: float) -> Tensor:
        """x / (bias + alpha * sum of squares of the channels nearer than depth_radius + 1) ** beta."""
        square = tf.pad(x**2, [[0, 0], [0, 0], [0, 0], [depth_radius, depth_radius]])
        channels = self.channels(x)
        total = tf.add_n([square[..., start : start + channels] for start in range(2 * depth_radius + 1)])
        return x / (bias + alpha * total) ** beta


class SmoothLayers(Layers):
    """Layers, with activations like the network's own but smooth."""

    def relu(self, x: Tensor) -> Tensor:
        """log(1 + exp(x))."""
        return tf.nn.softplus(x)

    def _finish(self, x: Tensor, outputs: int, style: Style) -> Tensor:
        x = super()._finish(x, outputs, dataclasses.replace(style, activation=None))
        return _SMOOTH[style.activation](x) if style.activation else x


def build(network: Network, images: Tensor, *, is_training: bool) -> ExactLayers:
    """Builds a network on float32 images [N, H, W, C] and the float32 variables of the current graph, without dropout.

    Returns:
      its layers, with the logits among `end_points` under the name `logits` and `aux_logits`, all float64.
    """
    layers = ExactLayers(is_training=is_training, dropout_keep_prob=1.0)
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE, custom_getter=_in_float64):
        layers.end_points['logits'] = network.build(layers, tf.cast(images, tf.float64))
    return layers


def _in_float64(getter: Any, name: str, *arguments: Any, **options: Any) -> Tensor:
    variable = getter(name, *arguments, **options)
    return tf.cast(variable, tf.float64) if variable.dtype.base_dtype == tf.float32 else variable
