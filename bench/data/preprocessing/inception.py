"""The preprocessing of the Inception networks, and of all that have none of their own (Szegedy et al. 2014,
arXiv:1409.4842), as slim/preprocessing/inception_preprocessing.py has it with fast_mode, its default.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf2
import tensorflow.compat.v1 as tf

from bench.data.preprocessing import pictures

Tensor = Any

_CENTRAL_FRACTION = 0.875
_ASPECT_RATIOS = (0.75, 1.33)
_AREAS = (0.05, 1.0)
# Of the object's box, which is the whole picture where there is none: areas under 0.1 are drawn, but never taken.
_LEAST_COVERED = 0.1
_BRIGHTNESS = 32.0
_SATURATIONS = (0.5, 1.5)
# Added to a seed, so that mirroring doesn't depend on the window drawn with that seed.
_ANOTHER_SEED = (1 << 32, 0)


def crop_training(encoded: Tensor, size: int, channels: int, seed: Tensor) -> Tensor:
    """A random window of random area and aspect ratio, resized regardless of that ratio, mirrored half of the time."""
    begin, extent, _ = tf2.image.stateless_sample_distorted_bounding_box(
        pictures.shape(encoded),
        bounding_boxes=tf.zeros([1, 0, 4]),
        seed=seed,
        min_object_covered=_LEAST_COVERED,
        aspect_ratio_range=_ASPECT_RATIOS,
        area_range=_AREAS,
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], 0)
    image = pictures.decode_window(encoded, window, channels)
    image = pictures.mirror(image, tf.random.stateless_uniform([], seed + _ANOTHER_SEED) < 0.5)
    return pictures.square(pictures.resize(image, size, size), size, channels)


def crop_evaluation(encoded: Tensor, size: int, channels: int) -> Tensor:
    """The middle 87.5 % of height and of width, resized."""
    extent = pictures.shape(encoded)[:2]
    # In float64 and cut to a whole number, as tf.image.central_crop does.
    whole = tf.cast(extent, tf.float64)
    begin = tf.cast((whole - whole * _CENTRAL_FRACTION) / 2, tf.int32)
    image = pictures.decode_exact_window(encoded, begin, extent - begin, channels)
    return pictures.square(pictures.resize(image, size, size), size, channels)


def distort(images: Tensor, seed: Tensor) -> Tensor:
    """Random brightness and saturation, brightness first for a quarter of the pictures: one of slim's four cases."""
    count = images.shape[0]
    brightness, saturation, order = tf.unstack(tf.random.stateless_uniform([3, count, 1, 1, 1], seed))
    brightness = (2 * brightness - 1) * _BRIGHTNESS
    saturation = _SATURATIONS[0] + saturation * (_SATURATIONS[1] - _SATURATIONS[0])
    first = order < 0.25
    images = images + tf.where_v2(first, brightness, 0.0)
    images = adjust_saturation(images, saturation)
    images = images + tf.where_v2(first, 0.0, brightness)
    return tf.clip_by_value(images, 0.0, 255.0)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """What tf.image.adjust_saturation computes for [N, H, W, C], an eighth of its time and with a factor a picture.

    Changing the saturation of a pixel keeps the largest of its colours and moves the others to or from that one, all
    by the same factor, which is at most the one that brings the smallest to 0. So no hue needs to be computed.
    """
    colours = tf.split(images, images.shape[-1], axis=-1)
    largest = functools.reduce(tf.maximum, colours)
    smallest = functools.reduce(tf.minimum, colours)
    most = tf.maximum(largest, 0.0) / tf.maximum(largest - smallest, 1e-6)
    return largest - (largest - images) * tf.minimum(factor, most)


def normalize(images: Tensor) -> Tensor:
    """0..255 to -1..1."""
    return (images - 127.5) / 127.5
