"""Batches from shards: complete, repeatable, in the layout asked for, whatever the pictures' format."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from bench.data import datasets, pipeline
from bench.data.datasets import Dataset
from bench.data.preprocessing import Preprocessing

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


@pytest.mark.parametrize('is_training', [False, True])
@pytest.mark.parametrize('workers', [2, 3, 5])
def test_workers_read_every_record_once_between_them(
    dataset: Dataset, read: Read, workers: int, is_training: bool
) -> None:
    # 3 shards: two workers share them, three have one each, five share the records.
    parts = [
        labels(read(dataset, is_training=is_training, repeat=False, worker=worker, workers=workers))
        for worker in range(workers)
    ]
    assert all(parts)
    assert sorted(label for part in parts for label in part) == list(range(13))


def test_workers_draw_different_chances(dataset: Dataset, read: Read, records: SimpleNamespace) -> None:
    # The same picture for both of them.
    dataset.shards[0].write_bytes(2 * records.frame(records.make(0)))
    alone = dataclasses.replace(dataset, shards=dataset.shards[:1])
    (first,), (second,) = (read(alone, 1, is_training=True, worker=worker, workers=2) for worker in range(2))
    (again,) = read(alone, 1, is_training=True, worker=1, workers=2)
    np.testing.assert_array_equal(second[0], again[0])
    assert abs(first[0] - second[0]).max() > 0.01


@pytest.mark.parametrize('cache', ['encoded', 'decoded'])
@pytest.mark.parametrize('preprocessing', ['inception', 'vgg', 'cifarnet'])
def test_a_cache_changes_nothing_in_evaluation(dataset: Dataset, read: Read, cache: str, preprocessing: str) -> None:
    options: dict[str, Any] = {'preprocessing': preprocessing, 'batch_size': 13}
    plain = read(dataset, 2, **options)
    cached = read(dataset, 2, cache=cache, **options)
    for (images, numbers), (images_cached, numbers_cached) in zip(plain, cached, strict=True):
        np.testing.assert_array_equal(numbers, numbers_cached)
        np.testing.assert_allclose(images, images_cached, atol=1e-5)


@pytest.mark.parametrize('cache', ['encoded', 'decoded'])
def test_cached_epochs_need_no_shards_and_are_shuffled_and_distorted_anew(dataset: Dataset, cache: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        following = made(dataset, session, cache=cache, batch_size=13)[1]
        epochs = [session.run(following) for _ in range(3)]
        for shard in dataset.shards:
            shard.unlink()
        # More than can have been read ahead.
        epochs += [session.run(following) for _ in range(20)]
    for images, numbers in epochs:
        assert sorted(numbers) == list(range(13))
        assert np.isfinite(images).all()
    assert len({tuple(numbers) for _, numbers in epochs}) == 23
    by_label = [images[np.argsort(numbers)] for images, numbers in epochs]
    assert all(abs(by_label[-1][label] - by_label[-2][label]).max() > 0.01 for label in range(13))


def made(dataset: Dataset, session: tf.Session, **options: Any) -> tuple[Any, Any]:
    """A training pipeline in the current graph: its iterator, begun, and the tensors of its next batch."""
    shared: dict[str, Any] = {'image_size': 32, 'channels': 3, 'data_format': 'NHWC', 'seed': 3, 'num_threads': 2}
    batches = pipeline.batches(
        dataset, preprocessing=Preprocessing('inception'), is_training=True, **{'batch_size': 4, **shared, **options}
    )
    iterator = tf.data.make_initializable_iterator(batches)
    session.run(iterator.initializer)
    return iterator, iterator.get_next()


@pytest.mark.parametrize(
    ('done', 'begun', 'cache'), [(0, False, None), (2, True, None), (7, False, None), (2, True, 'encoded')]
)
def test_a_restored_position_goes_on_with_the_same_batches(
    dataset: Dataset, tmp_path: Path, done: int, begun: bool, cache: str | None
) -> None:
    path = str(tmp_path / 'position')
    with tf.Graph().as_default(), tf.Session() as session:
        iterator, following = made(dataset, session, cache=cache)
        for _ in range(done):
            session.run(following)
        tf.train.Saver([pipeline.position(iterator)]).save(session, path, write_meta_graph=False)
        wanted = [session.run(following) for _ in range(5)]
    with tf.Graph().as_default(), tf.Session() as session:
        iterator, following = made(dataset, session, cache=cache)
        if begun:
            session.run(following)
        tf.train.Saver([pipeline.position(iterator)]).restore(session, path)
        found = [session.run(following) for _ in range(5)]
    assert labels(found) == labels(wanted)
    for (images, _), (images_wanted, _) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(images, images_wanted)


def test_an_offset_is_subtracted_from_labels(dataset: Dataset, read: Read, records: SimpleNamespace) -> None:
    shard = dataset.shards[0]
    shard.write_bytes(records.frame(records.make(1)) + records.frame(records.make(12)))
    alone = dataclasses.replace(dataset, shards=(shard,), labels_offset=1)
    assert labels(read(alone)) == [0, 11]
    shard.write_bytes(records.frame(records.make(0)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        read(alone)


def one_picture(tmp_path: Path, records: SimpleNamespace, pixels: Any, kind: str, **keys: str) -> Dataset:
    """A dataset of one picture in some format, described by a JSON file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    example = tf.train.Example()
    feature = example.features.feature
    feature[keys.get('image_key', 'image/encoded')].bytes_list.value.append(file.getvalue())
    feature[keys.get('label_key', 'image/class/label')].int64_list.value.append(1)
    (tmp_path / 'own_all.tfrecord').write_bytes(records.frame(example.SerializeToString()))
    fields = ', '.join(f'"{key}": "{value}"' for key, value in keys.items())
    path = tmp_path / 'own.json'
    path.write_text(
        '{"splits": {"all": 1}, "files": "own_%s.tfrecord", "classes": 2, "pictures": "any"'
        + (f', {fields}' if fields else '')
        + '}'
    )
    return datasets.load(str(path), 'all', tmp_path)


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'JPEG'])
@pytest.mark.parametrize('is_training', [False, True])
def test_pictures_of_other_formats_are_read_by_every_family(
    tmp_path: Path, read: Read, records: SimpleNamespace, kind: str, is_training: bool
) -> None:
    pixels = np.full((40, 50, 3), (200, 100, 50), np.uint8)
    dataset = one_picture(tmp_path, records, pixels, kind)
    for family, wanted in (('inception', 2 * np.array([200, 100, 50]) / 255 - 1), ('vgg', [76.3, -16.8, -53.9])):
        preprocessing = Preprocessing(family, distortions=False)
        ((images, numbers),) = read(dataset, preprocessing=preprocessing, is_training=is_training, repeat=False)
        assert list(numbers) == [1]
        np.testing.assert_allclose(images[0], np.broadcast_to(wanted, (32, 32, 3)), atol=2.1)


def test_pixels_of_a_png_are_those_that_were_written(tmp_path: Path, read: Read, records: SimpleNamespace) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, [28, 28], np.uint8)
    dataset = one_picture(tmp_path, records, pixels, 'PNG', image_key='picture', label_key='kind')
    ((images, _),) = read(dataset, preprocessing='lenet', image_size=28, channels=1)
    np.testing.assert_allclose(images[0, :, :, 0], (pixels - 128.0) / 128, atol=1e-6)


def test_without_distortions_colours_are_not_changed(tmp_path: Path, read: Read, records: SimpleNamespace) -> None:
    dataset = one_picture(tmp_path, records, np.full((40, 50, 3), (200, 100, 50), np.uint8), 'PNG')
    seen = {
        distortions: np.concatenate(
            [
                images
                for images, _ in read(
                    dataset, 8, is_training=True, preprocessing=Preprocessing('inception', distortions=distortions)
                )
            ]
        )
        for distortions in (None, False, True)
    }
    assert np.ptp(seen[False], axis=0).max() < 1e-6
    assert np.ptp(seen[None], axis=0).max() > 0.05
    # Hue alone moves the largest colour away from red.
    assert (seen[None].argmax(-1) == 0).all()
    hues = seen[True].reshape(-1, 3)
    order = np.argsort(hues, axis=-1)
    assert len({tuple(row) for row in order}) > 1


def test_an_evaluation_method_takes_that_familys_part_and_keeps_the_networks_range(
    dataset: Dataset, read: Read
) -> None:
    (inception, vgg, mixed) = (
        read(dataset, 1, preprocessing=preprocessing, batch_size=4)[0][0]
        for preprocessing in ('inception', 'vgg', Preprocessing('inception', eval_method='vgg'))
    )
    means = np.array([123.68, 116.78, 103.94])
    np.testing.assert_allclose(mixed * 127.5 + 127.5, vgg + means, atol=1e-3)
    assert abs(mixed - inception).max() > 0.1


def test_round_robin_resizes_by_the_place_in_the_batch(dataset: Dataset, read: Read) -> None:
    def resized(method: str) -> Any:
        preprocessing = Preprocessing('inception', resize_method=method)
        return read(dataset, 2, preprocessing=preprocessing, batch_size=5, image_size=24)

    found = resized('round_robin')
    methods = ('nearest', 'bilinear', 'bicubic', 'area')
    each = [resized(method) for method in methods]
    for batch in range(2):
        for place in range(5):
            np.testing.assert_allclose(found[batch][0][place], each[place % 4][batch][0][place], atol=1e-5)
            assert abs(each[0][batch][0][place] - each[1][batch][0][place]).max() > 0.01
