"""Shards of small pictures, and a reader of TFRecord files that shares nothing with TensorFlow's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from checksums import masked_crc

from bench.data import datasets, pipeline, tfrecord
from bench.data.preprocessing import Preprocessing

IMAGES = Path(__file__).parents[2] / 'data' / 'images'
RECORDS = 13
SHARDS = 3


def frame(record: bytes) -> bytes:
    """A record as it is in a file."""
    length = struct.pack('<Q', len(record))
    return length + struct.pack('<I', masked_crc(length)) + record + struct.pack('<I', masked_crc(record))


def unframe(data: bytes) -> list[bytes]:
    """The records of a file; every checksum must match."""
    records = []
    while data:
        size = struct.unpack_from('<Q', data)[0]
        record = data[12 : 12 + size]
        assert frame(record) == data[: 16 + size]
        records.append(record)
        data = data[16 + size :]
    return records


def examples(path: Path) -> list[dict[str, Any]]:
    """A shard's records, each as its values by key."""
    found = []
    for record in unframe(path.read_bytes()):
        feature = tf.train.Example.FromString(record).features.feature
        found.append({key: getattr(value, value.WhichOneof('kind')).value[0] for key, value in feature.items()})
    return found


def make_record(label: int, name: str | None = None) -> bytes:
    """A serialized example of one of the pictures."""
    names = sorted(path.name for path in IMAGES.glob('colours*.jpg'))
    jpeg = (IMAGES / (name or names[label % len(names)])).read_bytes()
    return tfrecord.example(jpeg, label=label, text='', filename='', height=1, width=1, channels=3)


@pytest.fixture
def records() -> SimpleNamespace:
    """The functions above, for the tests: test modules cannot import each other."""
    return SimpleNamespace(frame=frame, unframe=unframe, examples=examples, make=make_record)


@pytest.fixture
def dataset(tmp_path: Path) -> datasets.Dataset:
    """13 records in 3 shards, labels 0 to 12."""
    for shard in range(SHARDS):
        framed = b''.join(frame(make_record(label)) for label in range(shard, RECORDS, SHARDS))
        (tmp_path / f'train-{shard:05d}-of-{SHARDS:05d}').write_bytes(framed)
    (tmp_path / 'labels.txt').write_text(''.join(f'{label}:class {label}\n' for label in range(RECORDS)))
    return datasets.load('folder', 'train', tmp_path)


@pytest.fixture
def read() -> Callable[..., list[tuple[Any, Any]]]:
    """Reads a dataset's batches: all of them, or the first `count`."""

    def read_batches(dataset: datasets.Dataset, count: int | None = None, **options: Any) -> list[tuple[Any, Any]]:
        defaults: dict[str, Any] = {
            'batch_size': 1,
            'image_size': 32,
            'channels': 3,
            'data_format': 'NHWC',
            'preprocessing': Preprocessing('inception'),
            'is_training': False,
            'seed': 1,
            'num_threads': 2,
            'repeat': count is not None,
        }
        # As where it trains: another one in each worker.
        graph_seed = 100 + options.get('worker', 0)
        if isinstance(options.get('preprocessing'), str):
            options['preprocessing'] = Preprocessing(options['preprocessing'])
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(graph_seed)
            batches = pipeline.batches(dataset, **{**defaults, **options})
            iterator = tf.data.make_initializable_iterator(batches)
            session.run(iterator.initializer)
            following = iterator.get_next()
            found: list[tuple[Any, Any]] = []
            while count is None or len(found) < count:
                try:
                    found.append(session.run(following))
                except tf.errors.OutOfRangeError:
                    break
            return found

    return read_batches
