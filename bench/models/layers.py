"""The layers that networks are made of, in NHWC and in NCHW: a network is written once for both.

Variables have the names, shapes, initial values and regularization of TF-Slim's layers, so published checkpoints
restore. A convolution over the whole map is computed as a matrix product on the same variables (`full_conv`), which is
far faster on CPUs and has the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from bench.models import gradients, weight_decay
from bench.models.slim import slim
from bench.models.style import BatchNorm, Initializer, Style

Tensor = Any
Size = int | Sequence[int]


def _divided(x: Tensor, by: float) -> Tensor:
    """x / by, which TensorFlow would otherwise turn into a product with 1 / by.

    In bfloat16 a sixth is 0.2 % too large, and six is exact: over the 28 activations of mobilenet_v3_small the product
    moved logits by a whole standard deviation of theirs. A constant that can be fed is one that nobody folds.
    """
    return x / tf.placeholder_with_default(tf.constant(by, x.dtype), [])


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'relu': tf.nn.relu,
    'relu6': tf.nn.relu6,
    'hard_swish': lambda x: _divided(x * tf.nn.relu6(x + 3.0), 6.0),
    'hard_sigmoid': lambda x: _divided(tf.nn.relu6(x + 3.0), 1 / 0.16667),  # slim's rounding of 1/6 in its gates
}


class Layers:
    """What a network's function is given to build itself with.

    Activations are [N, H, W, C] in NHWC and [N, C, H, W] in NCHW. Scopes and end points have slim's names.
    A keyword argument of a layer that is a field of Style changes the current style for that layer.

    Attributes:
      data_format: 'NHWC' or 'NCHW'.
      is_training: whether batch norm uses the batch's statistics, and dropout drops.
      num_classes: outputs of the last layer.
      weight_decay: of the L2 regularization of weights, collected in REGULARIZATION_LOSSES.
      end_points: named activations, in the order of their making.
      aux_logits: logits of auxiliary heads, [N, num_classes] each.
    """

    def __init__(
        self,
        *,
        data_format: str = 'NHWC',
        is_training: bool = False,
        num_classes: int = 1001,
        weight_decay: float = 0.00004,
        batch_norm_decay: float | None = None,
        dropout_keep_prob: float | None = None,
        frozen: bool = False,
        precision: str = 'fp32',
    ) -> None:
        """
        Args:
          batch_norm_decay: instead of the family's own.
          dropout_keep_prob: instead of the network's own.
          frozen: whether the weights will be made constants before anything is computed.
          precision: 'fp32' or 'bf16', which the session will compute in: it tells the fastest way to a gradient.
        """
        self.data_format = data_format
        self.is_training = is_training
        self.num_classes = num_classes
        self.weight_decay = weight_decay
        self.end_points: dict[str, Tensor] = {}
        self.aux_logits: list[Tensor] = []
        self._batch_norm_decay = batch_norm_decay
        self._dropout_keep_prob = dropout_keep_prob
        self._frozen = frozen
        self._precision = precision
        self._style = Style()

    # Layouts

    @property
    def channel_axis(self) -> int:
        """Which dimension of an activation is its channels."""
        return 3 if self.data_format == 'NHWC' else 1

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """Which dimensions of an activation are height and width."""
        return (1, 2) if self.data_format == 'NHWC' else (2, 3)

    def map_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of an activation."""
        height, width = (int(x.shape[axis]) for axis in self.spatial_axes)
        return height, width

    def channels(self, x: Tensor) -> int:
        """Number of channels of an activation."""
        return int(x.shape[self.channel_axis])

    def _per_axis(self, height: Any, width: Any, other: Any) -> list[Any]:
        return [other, height, width, other] if self.data_format == 'NHWC' else [other, other, height, width]

    # Names and styles

    def end(self, name: str, x: Tensor) -> Tensor:
        """Records an end point and gives it back."""
        self.end_points[name] = x
        return x

    def scope(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """A variable scope, for the layers made within."""
        return tf.variable_scope(name)

    @contextlib.contextmanager
    def style(self, **changes: Any) -> Iterator[None]:
        """Changes fields of the current Style for the layers made within."""
        before = self._style
        self._style = dataclasses.replace(before, **changes)
        try:
            yield
        finally:
            self._style = before

    # Layers with weights

    def conv(
        self, x: Tensor, outputs: int, size: Size, scope: str, *, stride: int = 1, padding: str = 'SAME', **changes: Any
    ) -> Tensor:
        """A convolution.

        Args:
          outputs: number of output channels.
          size: of the kernel, one number or (height, width).
          padding: SAME, VALID, or FIXED: see `_pad`.
        """
        height, width = _pair(size)
        with tf.variable_scope(scope):
            style = dataclasses.replace(self._style, **changes)
            weights = self._weights((height, width, self.channels(x), outputs), style)
            x, padding = self._pad(x, height, width, stride, padding)
            with gradients.of_convolution(x, weights, stride, padding, self.data_format, self._precision):
                x = self._convolved(x, weights, stride, padding)
            return self._finish(x, outputs, style)

    def full_conv(self, x: Tensor, outputs: int, size: Size, scope: str, **changes: Any) -> Tensor:
        """A convolution without padding whose kernel is the whole map, as slim writes fully connected layers.

        Where the map is of the kernel's size, which it is at the published image size, the weights
        [height, width, channels, outputs] are used as the matrix that they are in memory: oneDNN multiplies matrices
        far faster than it computes this kind of convolution. On a larger map it is a convolution, and its result a map.
        """
        kernel = _pair(size)
        if self.map_size(x) != kernel:
            return self.conv(x, outputs, kernel, scope, padding='VALID', **changes)
        flat = self.flatten(x)
        with tf.variable_scope(scope):
            style = dataclasses.replace(self._style, **changes)
            weights = self._weights((*kernel, self.channels(x), outputs), style)
            with gradients.of_dense():
                x = tf.matmul(flat, tf.reshape(weights, [-1, outputs]))
            shape = [-1, *self._per_axis(1, 1, outputs)[1:]]
            if style.batch_norm:  # which is for maps
                return self._finish(tf.reshape(x, shape), outputs, style)
            # Biases and activation are added to the matrix, where TensorFlow computes all three as one operation.
            return tf.reshape(self._finish(x, outputs, style), shape)

    def dense(self, x: Tensor, outputs: int, scope: str, **changes: Any) -> Tensor:
        """A fully connected layer on [N, inputs]."""
        with tf.variable_scope(scope):
            style = dataclasses.replace(self._style, **changes)
            weights = self._weights((int(x.shape[-1]), outputs), style)
            with gradients.of_dense():
                x = tf.matmul(x, weights)
            return self._finish(x, outputs, style)

    def depthwise(
        self, x: Tensor, size: Size, scope: str, *, stride: int = 1, padding: str = 'SAME', **changes: Any
    ) -> Tensor:
        """A depthwise convolution: one kernel a channel, in the variable `depthwise_weights`."""
        height, width = _pair(size)
        channels = self.channels(x)
        with tf.variable_scope(scope):
            style = dataclasses.replace(self._style, **changes)
            weights = self._weights((height, width, channels, 1), style, name='depthwise_weights')
            x, padding = self._pad(x, height, width, stride, padding)
            strides = self._per_axis(stride, stride, 1)
            x = tf.nn.depthwise_conv2d(x, weights, strides=strides, padding=padding, data_format=self.data_format)
            return self._finish(x, channels, style)

    def separable(
        self, x: Tensor, outputs: int, size: int, scope: str, *, stride: int = 1, multiplier: int = 1, **changes: Any
    ) -> Tensor:
        """A depthwise convolution of `multiplier` kernels a channel and a pointwise one, with nothing between them."""
        channels = self.channels(x)
        with tf.variable_scope(scope):
            style = dataclasses.replace(self._style, **changes)
            depthwise = self._weights((size, size, channels, multiplier), style, name='depthwise_weights')
            pointwise = self._weights((1, 1, channels * multiplier, outputs), style, name='pointwise_weights')
            strides = self._per_axis(stride, stride, 1)
            x = tf.nn.depthwise_conv2d(x, depthwise, strides=strides, padding='SAME', data_format=self.data_format)
            x = self._convolved(x, pointwise, 1, 'SAME')
            return self._finish(x, outputs, style)

    def batch_norm(self, x: Tensor, batch_norm: BatchNorm, scope: str = 'BatchNorm') -> Tensor:
        """Batch normalization on its own, of a map or of [N, C]."""
        if x.shape.rank == 2:  # for which slim's has another way, that needs an older TensorFlow
            outputs = int(x.shape[1])
            flat = tf.reshape(x, [-1, *self._per_axis(1, 1, outputs)[1:]])
            return tf.reshape(self.batch_norm(flat, batch_norm, scope), [-1, outputs])
        return slim.batch_norm(
            x,
            decay=batch_norm.decay if self._batch_norm_decay is None else self._batch_norm_decay,
            epsilon=batch_norm.epsilon,
            scale=batch_norm.scale,
            is_training=self.is_training,
            data_format=self.data_format,
            fused=True,
            scope=scope,
        )

    def _convolved(self, x: Tensor, weights: Tensor, stride: int, padding: str) -> Tensor:
        """A convolution, which is computed in NHWC where oneDNN has but slow code for NCHW, or none.

        That is so for one channel, and in float32 for one image where the weights are variables: TensorFlow leaves
        them as they are then (MklConvFwdPrimitive in its mkl_conv_ops.cc), which oneDNN has only its reference code
        for, a hundred times as slow.
        """
        moved = self.data_format == 'NCHW' and (self.channels(x) == 1 or (x.shape[0] == 1 and not self._frozen))
        data_format = 'NHWC' if moved else self.data_format
        x = tf.transpose(x, [0, 2, 3, 1]) if moved else x
        x = tf.nn.conv2d(x, weights, strides=stride, padding=padding, data_format=data_format)
        return tf.transpose(x, [0, 3, 1, 2]) if moved else x

    def _weights(self, shape: tuple[int, ...], style: Style, name: str = 'weights') -> Tensor:
        regularize = style.regularize_depthwise if name == 'depthwise_weights' else style.regularize
        initializer = _initializer(style.initializer)
        return slim.model_variable(
            name, shape=shape, initializer=initializer, regularizer=self._regularizer(regularize)
        )

    def _regularizer(self, regularize: bool) -> Any:
        return weight_decay.l2(self.weight_decay) if regularize and self.weight_decay else None

    def _finish(self, x: Tensor, outputs: int, style: Style) -> Tensor:
        """Batch norm or biases, then the activation."""
        if style.batch_norm:
            x = self.batch_norm(x, style.batch_norm)
        elif style.bias is not None:
            biases = slim.model_variable(
                'biases',
                shape=[outputs],
                initializer=tf.constant_initializer(style.bias),
                regularizer=self._regularizer(style.regularize_biases),
            )
            data_format = self.data_format if x.shape.rank == 4 else None
            with gradients.of_bias(x, data_format):
                x = tf.nn.bias_add(x, biases, data_format=data_format, name='BiasAdd')
        return _ACTIVATIONS[style.activation](x) if style.activation else x

    def _pad(self, x: Tensor, height: int, width: int, stride: int, padding: str) -> tuple[Tensor, str]:
        """What to convolve, and with which padding of TensorFlow's own, for a kernel of that size.

        FIXED is (size - 1) // 2 before and the rest after, whatever the map's size (slim's conv2d_same), where in SAME
        the padding of a strided convolution depends on the map's size. It is an operation of its own: oneDNN has no
        gradients of a convolution with explicit padding, so that NCHW would fail and bfloat16 take twice the time.
        """
        if padding != 'FIXED':
            return x, padding
        if stride == 1:
            return x, 'SAME'
        rows, columns = ((size - 1) // 2 for size in (height, width))
        return tf.pad(x, self._per_axis((rows, height - 1 - rows), (columns, width - 1 - columns), (0, 0))), 'VALID'

    # Layers without weights

    def max_pool(self, x: Tensor, size: int, scope: str, *, stride: int = 2, padding: str = 'VALID') -> Tensor:
        """Maximum of each window."""
        window, strides = self._per_axis(size, size, 1), self._per_axis(stride, stride, 1)
        return tf.nn.max_pool2d(x, window, strides, padding, data_format=self.data_format, name=scope)

    def avg_pool(self, x: Tensor, size: int, scope: str, *, stride: int = 2, padding: str = 'VALID') -> Tensor:
        """Mean of each window."""
        window, strides = self._per_axis(size, size, 1), self._per_axis(stride, stride, 1)
        return tf.nn.avg_pool2d(x, window, strides, padding, data_format=self.data_format, name=scope)

    def global_pool(self, x: Tensor, scope: str) -> Tensor:
        """Mean over the whole map: a map of 1x1, which is x itself where its map is that already."""
        if self.map_size(x) == (1, 1):
            return x
        return tf.reduce_mean(x, self.spatial_axes, keepdims=True, name=scope)

    def local_response_norm(self, x: Tensor, depth_radius: int, bias: float, alpha: float, beta: float) -> Tensor:
        """Local response normalization, which TensorFlow has for NHWC only on CPUs."""
        nhwc = x if self.data_format == 'NHWC' else tf.transpose(x, [0, 2, 3, 1])
        nhwc = tf.nn.lrn(nhwc, depth_radius, bias=bias, alpha=alpha, beta=beta)
        return nhwc if self.data_format == 'NHWC' else tf.transpose(nhwc, [0, 3, 1, 2])

    def relu(self, x: Tensor) -> Tensor:
        """Zero where x is negative."""
        return tf.nn.relu(x)

    def identity(self, x: Tensor, name: str) -> Tensor:
        """x under another name."""
        return tf.identity(x, name)

    def shift(self, x: Tensor) -> Tensor:
        """The map one pixel further up and left; zeros come in below and at the right."""
        padded = tf.pad(x, self._per_axis((0, 1), (0, 1), (0, 0)))
        return padded[:, 1:, 1:, :] if self.data_format == 'NHWC' else padded[:, :, 1:, 1:]

    def drop_path(self, x: Tensor, keep_prob: float, depth: float, total_steps: int) -> Tensor:
        """Sets a whole branch to zero for some images in training (Zoph et al. 2017, arXiv:1707.07012).

        Args:
          keep_prob: the probability to keep it that is reached in the last cell at the end of the training.
          depth: where in the network, from 0 to 1; the probability to drop grows linearly with it.
          total_steps: until the probability to drop, which grows linearly with the global step too, is reached.
        """
        if not self.is_training or keep_prob == 1:
            return x
        progress = tf.minimum(1.0, tf.cast(tf.train.get_or_create_global_step(), tf.float32) / total_steps)
        keep = 1 - progress * depth * (1 - keep_prob)
        # Drawn in float32: bfloat16 has so few numbers below 1 that a branch would be kept too often.
        kept = tf.floor(keep + tf.random.uniform([tf.shape(x)[0], 1, 1, 1]))
        return x * tf.cast(1 / keep, x.dtype) * tf.cast(kept, x.dtype)

    def concat(self, branches: Sequence[Tensor]) -> Tensor:
        """Branches side by side along the channels."""
        return tf.concat(branches, self.channel_axis)

    def dropout(self, x: Tensor, keep_prob: float, scope: str = 'Dropout') -> Tensor:
        """Sets elements to zero in training, with probability 1 - keep_prob."""
        keep = keep_prob if self._dropout_keep_prob is None else self._dropout_keep_prob
        return tf.nn.dropout(x, rate=1 - keep, name=scope) if self.is_training and keep < 1 else x

    def flatten(self, x: Tensor) -> Tensor:
        """[N, height * width * channels], in that order in both layouts."""
        if self.data_format == 'NCHW' and self.map_size(x) != (1, 1):
            x = tf.transpose(x, [0, 2, 3, 1])
        return tf.reshape(x, [-1, int(x.shape[1]) * int(x.shape[2]) * int(x.shape[3])])

    def squeeze(self, x: Tensor, scope: str) -> Tensor:
        """[N, channels] of a map of 1x1."""
        return tf.squeeze(x, self.spatial_axes, name=scope)

    def softmax(self, logits: Tensor, scope: str = 'Predictions') -> Tensor:
        """Probabilities of [N, num_classes] logits."""
        return tf.nn.softmax(logits, name=scope)


def _pair(size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _initializer(initializer: Initializer | None) -> Any:
    if initializer is None:
        return slim.xavier_initializer()
    if initializer.stddev is None:
        return slim.variance_scaling_initializer(mode='FAN_OUT' if initializer.fan_out else 'FAN_IN')
    return tf.truncated_normal_initializer(0.0, initializer.stddev)
