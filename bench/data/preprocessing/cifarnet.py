"""The preprocessing of CifarNet, for small pictures that are not resized, as
slim/preprocessing/cifarnet_preprocessing.py has it.
"""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bench.data.preprocessing import colours, pictures

Tensor = Any

CHANCES = 2

_PADDING = 4
_BRIGHTNESS = 63.0
_CONTRASTS = (0.2, 1.8)


def crop_training(
    picture: pictures.Picture,
    size: int,
    seed: Tensor,
    resize: pictures.Resize,  # noqa: ARG001  (a family's function)
) -> Tensor:
    """A random square of the picture with 4 zeros around it, mirrored half of the time; not resized.

    A picture that is still too small gets more zeros, where slim stops with an error.
    """
    image = picture.whole()
    extent = tf.shape(image)[:2]
    padding = tf.maximum(_PADDING, size - extent)
    image = tf.pad(image, [[padding[0], padding[0]], [padding[1], padding[1]], [0, 0]])
    places = tf.cast(extent + 2 * padding - size + 1, tf.float32)
    chance = tf.random.stateless_uniform([3], seed)
    top, left = tf.unstack(tf.cast(chance[:2] * places, tf.int32))
    return pictures.mirror(pictures.square(image[top : top + size, left : left + size], size), chance[2])


def crop_evaluation(
    picture: pictures.Picture,
    size: int,
    resize: pictures.Resize,  # noqa: ARG001  (a family's function)
) -> Tensor:
    """The middle of the picture, not resized, with zeros around it where it is smaller."""
    return pictures.square(pictures.crop_or_pad(picture.whole(), size), size)


def distort(images: Tensor, chances: Tensor) -> Tensor:
    """Random brightness, then random contrast about each channel's mean; nothing is clipped."""
    brightness, contrast = tf.unstack(chances)
    images = images + (2 * brightness - 1) * _BRIGHTNESS
    return colours.adjust_contrast(images, _CONTRASTS[0] + contrast * (_CONTRASTS[1] - _CONTRASTS[0]))


def normalize(images: Tensor) -> Tensor:
    """Each picture to mean 0 and variance 1."""
    return tf.image.per_image_standardization(images)
