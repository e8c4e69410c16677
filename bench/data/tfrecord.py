"""TFRecord shards of tf.train.Example, in the layout of TF-Slim's ImageNet and flowers converters
(github.com/tensorflow/models, research/slim/datasets): writing them, parsing them, and finding what is wrong in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from bench.data.datasets import Dataset

Tensor = Any
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

# Around the data of a record: its length (8 bytes), the length's CRC (4) and the data's CRC (4).
_FRAME = 16


def parse(record: Tensor) -> tuple[Tensor, Tensor]:
    """A serialized example's encoded picture, a string scalar, and label, an int64 scalar."""
    features = tf.io.parse_single_example(
        record, {ENCODED: tf.FixedLenFeature([], tf.string), LABEL: tf.FixedLenFeature([], tf.int64)}
    )
    return features[ENCODED], features[LABEL]


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


def find_trouble(dataset: Dataset, *, decode_pictures: bool) -> str | None:
    """Reads a dataset's shards until something is wrong.

    Args:
      dataset: what to read.
      decode_pictures: decode each record's picture too.

    Returns:
      What is wrong, with the file, the record's number from 0 and its place in the file; None where nothing is.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        encoded = tf.placeholder(tf.string, [])
        shape = tf.shape(tf.io.decode_jpeg(encoded))
        decode = session.make_callable(shape, [encoded])
        for shard in dataset.shards:
            found = _trouble_in_shard(shard, dataset, decode, decode_pictures)
            if found:
                return found
    return None


def _trouble_in_shard(shard: Path, dataset: Dataset, decode: Any, decode_pictures: bool) -> str | None:
    index, offset = 0, 0
    try:
        for record in tf.io.tf_record_iterator(str(shard)):
            wrong = _trouble_in_record(record, dataset, decode, decode_pictures)
            if wrong:
                return f'{shard}, record {index} at byte {offset}: {wrong}'
            index, offset = index + 1, offset + len(record) + _FRAME
    except tf.errors.DataLossError as error:
        return _trouble_in_frame(shard, index, offset, truncated='truncated' in error.message)
    except tf.errors.OpError as error:
        return f'{shard} cannot be read: {error.message}'
    return None


def _trouble_in_frame(shard: Path, index: int, offset: int, *, truncated: bool) -> str:
    """What is wrong with a shard that TensorFlow could not read at `offset`, where its record `index` begins."""
    size = shard.stat().st_size
    with shard.open('rb') as file:
        file.seek(offset)
        head = file.read(8)
    end = offset + int.from_bytes(head, 'little') + _FRAME
    again = 'Copy or convert it again.'
    if index == 0 and head[:2] == b'\x1f\x8b':
        return f'{shard} is compressed by gzip, and shards are read as they are. Unpack it with gunzip.'
    if index == 0 and end > size and not truncated:
        return f'{shard} is not a TFRecord file: it begins with {head!r}, which is no length of a record. {again}'
    place = f'{shard}, record {index} at byte {offset}'
    if truncated:
        return f'{place}: the file is truncated: the record ends at byte {end}, and the file at {size}. {again}'
    return f'{place}: its checksum (CRC) does not match, so the file is damaged. {again}'


def _trouble_in_record(record: bytes, dataset: Dataset, decode: Any, decode_pictures: bool) -> str | None:
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return 'it is not a tf.train.Example, as slim writes them.'
    for key, kind in ((ENCODED, 'bytes_list'), (LABEL, 'int64_list')):
        count = len(getattr(feature[key], kind).value) if key in feature else 0
        if count != 1:
            keys = ', '.join(sorted(name for name in feature if name != key)) or 'no keys'
            return f'it must have one value ({kind}) under the key {key!r}, and has {count}; it has {keys}.'
    label = feature[LABEL].int64_list.value[0]
    if label not in dataset.labels:
        return (
            f'its label is {label}, and the labels of {dataset.name} are '
            f'{dataset.labels.start} to {dataset.labels.stop - 1}. Is this another dataset than --data_name says?'
        )
    return _trouble_in_picture(feature[ENCODED].bytes_list.value[0], decode) if decode_pictures else None


def _trouble_in_picture(encoded: bytes, decode: Any) -> str | None:
    if not encoded.startswith(b'\xff\xd8'):
        return f'its picture is not a JPEG: it begins with {encoded[:8]!r}.'
    try:
        decode(encoded)
    except tf.errors.InvalidArgumentError:
        return f'its picture is a broken JPEG of {len(encoded)} bytes, which cannot be decoded.'
    return None
