"""The preprocessing of VGG and of the ResNets (Simonyan & Zisserman 2014, arXiv:1409.1556), as
slim/preprocessing/vgg_preprocessing.py has it.
"""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bench.data.preprocessing import pictures

Tensor = Any

CHANCES = 0

_SMALLEST_SIDE = 256
_LARGEST_SIDE = 512
_MEANS = (123.68, 116.78, 103.94)  # of red, green and blue in ImageNet


def crop_training(picture: pictures.Picture, size: int, seed: Tensor, resize: pictures.Resize) -> Tensor:
    """A random square of the picture resized so that its shorter side is 256 to 512, mirrored half of the time.

    The square's place and size are computed back to the picture as stored, so that only this part is decoded and
    resized. The square so begins at a whole pixel of the stored picture and not of the resized one.
    """
    extent = picture.shape()[:2]
    sides = (max(_SMALLEST_SIDE, size), max(_LARGEST_SIDE, size))
    chance = tf.random.stateless_uniform([4], seed)
    side = tf.floor(sides[0] + chance[0] * (sides[1] + 1 - sides[0]))
    resized = _resized(extent, side, size)
    begin = tf.floor(chance[1:3] * tf.cast(resized - size + 1, tf.float32))
    scale = tf.cast(extent, tf.float32) / tf.cast(resized, tf.float32)
    window_extent = tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)
    window_begin = tf.minimum(tf.cast(begin * scale, tf.int32), extent - window_extent)
    image = pictures.square(resize(picture.window(window_begin, window_extent, size), size, size), size)
    return pictures.mirror(image, chance[3])


def crop_evaluation(picture: pictures.Picture, size: int, resize: pictures.Resize) -> Tensor:
    """The middle of the picture resized so that its shorter side is 256."""
    image = picture.whole()
    resized = _resized(tf.shape(image)[:2], float(max(_SMALLEST_SIDE, size)), size)
    image = resize(image, resized[0], resized[1])
    top, left = tf.unstack((resized - size) // 2)
    return pictures.square(image[top : top + size, left : left + size], size)


def distort(images: Tensor, chances: Tensor) -> Tensor:  # noqa: ARG001  (VGG changes no colours)
    """The same images."""
    return images


def normalize(images: Tensor) -> Tensor:
    """The means of ImageNet's colours are subtracted; a single channel has their mean subtracted."""
    _, height, width, channels = images.shape
    means = _MEANS if channels == 3 else [sum(_MEANS) / 3] * channels
    # By rows, because vectors of 3 values would leave the most of the processor's vectors empty.
    rows = tf.reshape(images, [-1, height, width * channels]) - tf.constant(list(means) * width, tf.float32)
    return tf.reshape(rows, [-1, height, width, channels])


def _resized(extent: Tensor, side: Tensor | float, size: int) -> Tensor:
    """int32 [2]: height and width with `side` as the shorter one, and no side shorter than `size`."""
    shape = tf.cast(extent, tf.float32)
    return tf.maximum(tf.cast(tf.rint(shape * (side / tf.reduce_min(shape))), tf.int32), size)
