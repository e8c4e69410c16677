"""Synthetic data: images that are already in memory and labels that never change, so that the loss can fall."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf


def batch(
    *, batch_size: int, image_size: int, channels: int, num_classes: int, data_format: str, seed: int
) -> tuple[Any, Any]:
    """Images in [-1, 1), float32 [N, H, W, C] or [N, C, H, W] as the data format says, and labels, int32 [N].

    They are local variables: constants would let grappler compute the first layers, or in inference the whole
    network, once and for all.
    """
    nhwc = data_format == 'NHWC'
    shape = [batch_size, image_size, image_size, channels] if nhwc else [batch_size, channels, image_size, image_size]
    images = tf.random.stateless_uniform(shape, [seed, 0], -1.0, 1.0)
    # 0 is slim's background class, which no picture has.
    labels = tf.random.stateless_uniform([batch_size], [seed, 1], 1, num_classes, tf.int32)
    return _resident('images', images), _resident('labels', labels)


def _resident(name: str, value: Any) -> Any:
    variable = tf.get_variable(
        f'synthetic/{name}', initializer=value, trainable=False, collections=[tf.GraphKeys.LOCAL_VARIABLES]
    )
    return tf.identity(variable)
