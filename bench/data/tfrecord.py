"""Records of tf.train.Example in the layout of TF-Slim's converters (github.com/tensorflow/models,
research/slim/datasets): making them and parsing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any
# Of one feature: bytes, a whole number, or an array [M] of whole numbers or of floats.
Value = Any
Values = Mapping[str, Value]

ENCODED = 'image/encoded'
FORMAT = 'image/format'
LABEL = 'image/class/label'
TEXT = 'image/class/text'
HEIGHT = 'image/height'
WIDTH = 'image/width'
CHANNELS = 'image/channels'
COLORSPACE = 'image/colorspace'
FILENAME = 'image/filename'


def parse(record: Tensor, image_key: str, label_key: str) -> tuple[Tensor, Tensor]:
    """A serialized example's encoded picture, a string scalar, and label, an int64 scalar."""
    features = tf.io.parse_single_example(
        record, {image_key: tf.FixedLenFeature([], tf.string), label_key: tf.FixedLenFeature([], tf.int64)}
    )
    return features[image_key], features[label_key]


def example(jpeg: bytes, *, label: int, text: str, filename: str, height: int, width: int, channels: int) -> bytes:
    """A serialized example of one JPEG; the same arguments give the same bytes."""
    return serialized(
        {
            **basic(jpeg, 'jpeg', label, height, width),
            COLORSPACE: b'RGB' if channels == 3 else b'grayscale',
            CHANNELS: channels,
            TEXT: text.encode(),
            FILENAME: filename.encode(errors='surrogateescape'),
        }
    )


def basic(encoded: bytes, format_: str, label: int, height: int, width: int) -> dict[str, Value]:
    """The features that every record has; the records of flowers, CIFAR-10 and MNIST have no others."""
    return {ENCODED: encoded, FORMAT: format_.encode(), LABEL: label, HEIGHT: height, WIDTH: width}


def serialized(values: Values) -> bytes:
    """A serialized example of features by key; the same values give the same bytes."""
    record = tf.train.Example()
    for key, value in values.items():
        # Filled in place: each message that is put into another is copied, with the picture in it.
        feature = record.features.feature[key]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            numbers = feature.float_list if value.dtype.kind == 'f' else feature.int64_list
            numbers.SetInParent()
            numbers.value.extend(value.tolist())
    return record.SerializeToString(deterministic=True)
