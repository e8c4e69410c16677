"""Random changes of the colours of a batch, each picture's by an amount of its own.

Amounts are those of slim/preprocessing/inception_preprocessing.py, which tf_cnn_benchmarks' preprocessing.py has too.
Images are float32 [N, H, W, C] of 0..255; chances are float32 [N, 1, 1, 1] from 0 to 1. Results may be outside of
0..255 until they are clipped, which is done at the end, as there.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any

_BRIGHTNESS = 32.0
_FACTORS = (0.5, 1.5)
# Random numbers that `distort` needs for a picture.
CHANCES = 4
# In turns of the colour circle.
_HUE = 0.2


def distort(images: Tensor, chances: Tensor) -> Tensor:
    """tf_cnn_benchmarks' --distortions: brightness, saturation, hue and contrast, clipped to 0..255.

    Contrast comes last for pictures at even places in the batch, and before saturation for the others.
    """
    count = images.shape[0]
    brightness, saturation, hue, contrast = tf.unstack(chances)
    is_last = tf.reshape(tf.equal(tf.range(count) % 2, 0), [count, 1, 1, 1])
    contrast = factor(contrast)
    images = brighten(images, brightness)
    images = adjust_contrast(images, tf.where_v2(is_last, 1.0, contrast))
    images = turn_hue(adjust_saturation(images, factor(saturation)), (2 * hue - 1) * _HUE)
    images = adjust_contrast(images, tf.where_v2(is_last, contrast, 1.0))
    return tf.clip_by_value(images, 0.0, 255.0)


def factor(chance: Tensor) -> Tensor:
    """The factor of saturation or contrast."""
    return _FACTORS[0] + chance * (_FACTORS[1] - _FACTORS[0])


def brighten(images: Tensor, chance: Tensor) -> Tensor:
    """Adds up to 32, or subtracts it."""
    return images + (2 * chance - 1) * _BRIGHTNESS


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Stretches each channel about its mean."""
    means = tf.reduce_mean(images, [1, 2], keepdims=True)
    return means + (images - means) * factors


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """What tf.image.adjust_saturation computes for [N, H, W, C], an eighth of its time and with a factor a picture.

    Changing the saturation of a pixel keeps the largest of its colours and moves the others to or from that one, all
    by the same factor, which is at most the one that brings the smallest to 0. So no hue needs to be computed.
    """
    colours = tf.split(images, images.shape[-1], axis=-1)
    largest = functools.reduce(tf.maximum, colours)
    smallest = functools.reduce(tf.minimum, colours)
    most = tf.maximum(largest, 0.0) / tf.maximum(largest - smallest, 1e-6)
    return largest - (largest - images) * tf.minimum(factors, most)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue of each pixel; no colour may be negative.

    Args:
      turns: float32 [N, 1, 1, 1], in turns of the colour circle, from -1 to 1.
    """
    hue, saturation, value = tf.split(tf.image.rgb_to_hsv(images), 3, axis=-1)
    hue = tf.math.floormod(hue + turns, 1.0)
    return tf.image.hsv_to_rgb(tf.concat([hue, saturation, value], -1))
