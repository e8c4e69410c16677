"""Batches from shards: complete, repeatable, in the layout asked for; and what is told where a shard is damaged."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bench import errors
from bench.data import pipeline
from bench.data.datasets import Dataset

Read = Callable[..., list[tuple[Any, Any]]]


def labels(batches: list[tuple[Any, Any]]) -> list[int]:
    return [int(label) for _, batch in batches for label in batch]


def test_evaluation_reads_each_record_once_in_the_order_of_the_shards(dataset: Dataset, read: Read) -> None:
    assert labels(read(dataset)) == [0, 3, 6, 9, 12, 1, 4, 7, 10, 2, 5, 8, 11]


def test_a_training_epoch_has_every_record_once_and_shuffled(dataset: Dataset, read: Read) -> None:
    found = labels(read(dataset, is_training=True, repeat=False))
    assert sorted(found) == list(range(13))
    assert found != labels(read(dataset))


def test_epochs_follow_each_other_whole_and_in_different_orders(dataset: Dataset, read: Read) -> None:
    found = labels(read(dataset, 39, is_training=True))
    epochs = [found[start : start + 13] for start in (0, 13, 26)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_that_is_not_full_is_left_out(dataset: Dataset, read: Read) -> None:
    assert [len(batch) for _, batch in read(dataset, batch_size=5)] == [5, 5]


@pytest.mark.parametrize('preprocessing', ['inception', 'vgg', 'cifarnet'])
def test_a_seed_repeats_order_and_distortions_whatever_the_threads(
    dataset: Dataset, read: Read, preprocessing: str
) -> None:
    options: dict[str, Any] = {'is_training': True, 'batch_size': 4, 'preprocessing': preprocessing}
    first = read(dataset, 6, seed=7, num_threads=1, **options)
    again = read(dataset, 6, seed=7, num_threads=4, **options)
    other = read(dataset, 6, seed=8, num_threads=4, **options)
    assert labels(first) == labels(again) != labels(other)
    for (images, _), (images_again, _), (images_other, _) in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(images, images_again)
        assert abs(images - images_other).max() > 0.01


def test_a_record_is_distorted_otherwise_in_every_epoch(dataset: Dataset, read: Read) -> None:
    by_label: dict[int, list[Any]] = {}
    for images, label in read(dataset, 26, is_training=True):
        by_label.setdefault(int(label[0]), []).append(images)
    assert all(abs(first - second).max() > 0.01 for first, second in by_label.values())


@pytest.mark.parametrize('is_training', [False, True])
@pytest.mark.parametrize(('preprocessing', 'channels'), [('inception', 3), ('vgg', 3), ('cifarnet', 3), ('lenet', 1)])
def test_nchw_is_nhwc_transposed(
    dataset: Dataset, read: Read, preprocessing: str, channels: int, is_training: bool
) -> None:
    options = {'preprocessing': preprocessing, 'channels': channels, 'batch_size': 3, 'is_training': is_training}
    nhwc, nhwc_labels = read(dataset, 1, **options)[0]
    nchw, nchw_labels = read(dataset, 1, data_format='NCHW', **options)[0]
    assert nhwc.shape == (3, 32, 32, channels) and nchw.shape == (3, channels, 32, 32)
    assert (nhwc.dtype, nhwc_labels.dtype) == (np.float32, np.int32)
    np.testing.assert_allclose(nchw, nhwc.transpose(0, 3, 1, 2), atol=1e-5)
    np.testing.assert_array_equal(nchw_labels, nhwc_labels)


@pytest.mark.parametrize(('preprocessing', 'low', 'high'), [('inception', -1, 1), ('lenet', -1, 1), ('vgg', -124, 152)])
def test_images_are_in_the_range_that_the_network_was_published_with(
    dataset: Dataset, read: Read, preprocessing: str, low: float, high: float
) -> None:
    for is_training in (False, True):
        images = np.concatenate(
            [images for images, _ in read(dataset, 13, preprocessing=preprocessing, is_training=is_training)]
        )
        assert low <= images.min() < (low + high) / 2 - (high - low) / 4
        assert high >= images.max() > (low + high) / 2 + (high - low) / 4


def told(dataset: Dataset, read: Read, **options: Any) -> str:
    """What trouble() says of the error that reading the dataset raises."""
    with pytest.raises(pipeline.ERRORS) as raised:
        read(dataset, batch_size=2, **options)
    trouble = pipeline.trouble(raised.value, dataset)
    assert isinstance(trouble, errors.DataError)
    return str(trouble)


def damage(path: Path, how: str) -> None:
    """Damages a shard of whole records."""
    data = bytearray(path.read_bytes())
    second = int.from_bytes(data[:8], 'little') + 16
    if how == 'truncated':
        data = data[: second + 200]
    elif how == 'a bit of the data':
        data[second + 400] ^= 4
    elif how == 'a bit of the length':
        data[second + 1] ^= 4
    elif how == 'text':
        data = bytearray(b'label,file\n0,daisy.jpg\n' * 30)
    elif how == 'gzip':
        data = bytearray(gzip.compress(data))
    path.write_bytes(data)


@pytest.mark.parametrize('is_training', [False, True])
@pytest.mark.parametrize(
    ('how', 'words'),
    [
        ('truncated', ['record 1 at byte', 'truncated']),
        ('a bit of the data', ['record 1 at byte', 'CRC']),
        ('a bit of the length', ['record 1 at byte', 'CRC']),
        ('text', ['not a TFRecord', 'label,fi']),
        ('gzip', ['gzip']),
    ],
)
def test_a_damaged_shard_is_named_with_the_record_and_the_damage(
    dataset: Dataset, read: Read, how: str, words: list[str], is_training: bool
) -> None:
    shard = dataset.shards[1]
    offset = int.from_bytes(shard.read_bytes()[:8], 'little') + 16
    damage(shard, how)
    text = told(dataset, read, is_training=is_training)
    assert str(shard) in text
    assert all(word in text for word in words), text
    assert 'at byte' not in text or f'at byte {offset}:' in text


def test_a_flipped_bit_in_the_first_record_is_not_taken_for_another_format(dataset: Dataset, read: Read) -> None:
    data = bytearray(dataset.shards[0].read_bytes())
    data[500] ^= 1
    dataset.shards[0].write_bytes(data)
    assert 'record 0 at byte 0: its checksum' in told(dataset, read)


def example(records: SimpleNamespace, change: Callable[[Any], None]) -> bytes:
    """A record whose features were changed."""
    changed = tf.train.Example.FromString(records.make(0))
    change(changed.features.feature)
    return changed.SerializeToString()


def set_bytes(feature: Any, data: bytes) -> None:
    feature['image/encoded'].bytes_list.value[0] = data


@pytest.mark.parametrize('preprocessing', ['inception', 'lenet'])
@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda feature: feature.pop('image/encoded'), ['image/encoded', 'it has image/channels']),
        (lambda feature: feature.pop('image/class/label'), ['image/class/label']),
        (lambda feature: feature['image/class/label'].int64_list.value.append(1), ['image/class/label', 'has 2']),
        (lambda feature: set_bytes(feature, b'no picture'), ['not a JPEG', 'no pictu']),
        (lambda feature: set_bytes(feature, b''), ['not a JPEG']),
        (
            lambda feature: set_bytes(feature, feature['image/encoded'].bytes_list.value[0][:700]),
            ['broken JPEG of 700 bytes'],
        ),
    ],
)
def test_a_bad_record_is_named_with_its_file_number_and_place(
    dataset: Dataset,
    read: Read,
    records: SimpleNamespace,
    change: Callable[[Any], None],
    words: list[str],
    preprocessing: str,
) -> None:
    shard = dataset.shards[2]
    offset = shard.stat().st_size
    shard.write_bytes(shard.read_bytes() + records.frame(example(records, change)))
    text = told(dataset, read, preprocessing=preprocessing, channels=1 if preprocessing == 'lenet' else 3)
    assert f'{shard}, record 4 at byte {offset}: ' in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize('is_training', [False, True])
@pytest.mark.parametrize('label', [13, -1, 2**40])
def test_a_label_outside_the_classes_never_trains(
    dataset: Dataset, read: Read, records: SimpleNamespace, label: int, is_training: bool
) -> None:
    shard = dataset.shards[0]
    offset = shard.stat().st_size
    shard.write_bytes(shard.read_bytes() + records.frame(records.make(label)))
    text = told(dataset, read, is_training=is_training)
    assert f'{shard}, record 5 at byte {offset}: its label is {label}, and the labels of folder are 0 to 12' in text


def test_a_record_that_is_no_example_is_named(dataset: Dataset, read: Read, records: SimpleNamespace) -> None:
    shard = dataset.shards[0]
    shard.write_bytes(shard.read_bytes() + records.frame(b'\xff\xff no example'))
    assert f'{shard}, record 5' in told(dataset, read)


def test_an_error_without_a_cause_in_the_shards_is_passed_on(dataset: Dataset) -> None:
    error = tf.errors.ResourceExhaustedError(None, None, 'out of memory')
    text = str(pipeline.trouble(error, dataset))
    assert 'out of memory' in text and str(dataset.shards[0].parent) in text
