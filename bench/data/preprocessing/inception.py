"""The preprocessing of the Inception networks, and of all that have none of their own (Szegedy et al. 2014,
arXiv:1409.4842), as slim/preprocessing/inception_preprocessing.py has it with fast_mode, its default.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf2
import tensorflow.compat.v1 as tf

from bench.data.preprocessing import colours, pictures

Tensor = Any

CHANCES = 2

_CENTRAL_FRACTION = 0.875
_ASPECT_RATIOS = (0.75, 1.33)
_AREAS = (0.05, 1.0)
# Of the object's box, which is the whole picture where there is none: areas under 0.1 are drawn, but never taken.
_LEAST_COVERED = 0.1
# Added to a seed, so that mirroring doesn't depend on the window drawn with that seed.
_ANOTHER_SEED = (1 << 32, 0)


def crop_training(picture: pictures.Picture, size: int, seed: Tensor, resize: pictures.Resize) -> Tensor:
    """A random window of random area and aspect ratio, resized regardless of that ratio, mirrored half of the time."""
    begin, extent, _ = tf2.image.stateless_sample_distorted_bounding_box(
        picture.shape(),
        bounding_boxes=tf.zeros([1, 0, 4]),
        seed=seed,
        min_object_covered=_LEAST_COVERED,
        aspect_ratio_range=_ASPECT_RATIOS,
        area_range=_AREAS,
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    image = pictures.square(resize(picture.window(begin[:2], extent[:2], size), size, size), size)
    return pictures.mirror(image, tf.random.stateless_uniform([], seed + _ANOTHER_SEED))


def crop_evaluation(picture: pictures.Picture, size: int, resize: pictures.Resize) -> Tensor:
    """The middle 87.5 % of height and of width, resized."""
    extent = picture.shape()[:2]
    # In float64 and cut to a whole number, as tf.image.central_crop does.
    whole = tf.cast(extent, tf.float64)
    begin = tf.cast((whole - whole * _CENTRAL_FRACTION) / 2, tf.int32)
    return pictures.square(resize(picture.window(begin, extent - 2 * begin, size), size, size), size)


def distort(images: Tensor, chances: Tensor) -> Tensor:
    """Random brightness, then random saturation."""
    images = colours.brighten(images, chances[0])
    return tf.clip_by_value(colours.adjust_saturation(images, colours.factor(chances[1])), 0.0, 255.0)


def normalize(images: Tensor) -> Tensor:
    """0..255 to -1..1."""
    return (images - 127.5) / 127.5
