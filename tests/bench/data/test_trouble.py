"""Which record is told where reading fails, and how bad ones are left out."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow.compat.v1 as tf

from bench import errors
from bench.data import pipeline, trouble
from bench.data.datasets import Dataset
from bench.screen import Screen

Read = Callable[..., list[tuple[Any, Any]]]


def told(dataset: Dataset, read: Read, **options: Any) -> str:
    """What explained() says of the error that reading the dataset raises."""
    with pytest.raises(pipeline.ERRORS) as raised:
        read(dataset, batch_size=2, **options)
    explained = trouble.explained(raised.value, dataset, Screen())
    assert isinstance(explained, errors.DataError)
    return str(explained)


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


def test_a_shard_that_disappears_is_named(dataset: Dataset, read: Read) -> None:
    shard = dataset.shards[1]
    broken = tf.errors.NotFoundError(None, None, f'{shard}; No such file or directory')
    shard.unlink()
    text = str(trouble.explained(broken, dataset, Screen()))
    assert text.startswith(f'{shard} cannot be read: ') and 'No such file' in text


def test_a_record_that_is_no_example_is_named(dataset: Dataset, read: Read, records: SimpleNamespace) -> None:
    shard = dataset.shards[0]
    shard.write_bytes(shard.read_bytes() + records.frame(b'\xff\xff no example'))
    assert f'{shard}, record 5' in told(dataset, read)


def test_an_error_without_a_cause_in_the_shards_is_passed_on(dataset: Dataset) -> None:
    error = tf.errors.ResourceExhaustedError(None, None, 'out of memory')
    text = str(trouble.explained(error, dataset, Screen()))
    assert 'out of memory' in text and str(dataset.shards[0].parent) in text


def labels(batches: list[tuple[Any, Any]]) -> list[int]:
    return [int(label) for _, batch in batches for label in batch]


@pytest.fixture
def spoiled(dataset: Dataset, records: SimpleNamespace) -> Dataset:
    """13 records in 3 shards; those of labels 3, 1, 4 and 11 are bad in four ways."""
    for number, path in enumerate(dataset.shards):
        kept = [records.frame(record) for record in records.unframe(path.read_bytes())]
        if number == 0:
            # Label 3: a flipped bit of the data.
            kept[1] = kept[1][:300] + bytes([kept[1][300] ^ 1]) + kept[1][301:]
        elif number == 1:
            # Labels 1 and 4: a broken JPEG, and a label outside of the classes.
            kept[0] = records.frame(example(records, lambda feature: set_bytes(feature, b'\xff\xd8\xff no picture')))
            kept[1] = records.frame(records.make(99))
        else:
            # Label 11: cut.
            kept[-1] = kept[-1][:-30]
        path.write_bytes(b''.join(kept))
    return dataset


WHOLE = [0, 2, 5, 6, 7, 8, 9, 10, 12]


@pytest.mark.parametrize('most', [4, 9])
def test_bad_records_are_left_out_and_each_is_told(
    spoiled: Dataset, read: Read, capsys: pytest.CaptureFixture[str], most: int
) -> None:
    dataset = trouble.without_bad_records(spoiled, most, Screen())
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith('Skipped: ')]
    wanted = [
        (0, 1, 'CRC'),
        (1, 0, 'broken JPEG'),
        (1, 1, 'its label is 99'),
        (2, 3, 'truncated'),
    ]
    assert len(told) == len(wanted)
    for line, (shard, index, word) in zip(told, wanted, strict=True):
        assert f'{spoiled.shards[shard]}, record {index} at byte ' in line and word in line
    assert [warning['text'] for warning in trouble.warnings(dataset)] == [line[len('Skipped: ') :] for line in told]
    assert sorted(labels(read(dataset))) == WHOLE
    epochs = labels(read(dataset, 18, is_training=True))
    assert sorted(epochs[:9]) == sorted(epochs[9:]) == WHOLE
    parts = [labels(read(dataset, worker=worker, workers=2)) for worker in range(2)]
    assert sorted(label for part in parts for label in part) == WHOLE


def test_more_bad_records_than_are_tolerated_fail(spoiled: Dataset) -> None:
    with pytest.raises(errors.DataError) as raised:
        trouble.without_bad_records(spoiled, 3, Screen())
    assert '--skip_bad_records=3' in str(raised.value) and str(raised.value).count(', record ') == 4


def test_a_damaged_length_cannot_be_skipped_because_all_behind_it_would_be_lost(dataset: Dataset) -> None:
    damage(dataset.shards[1], 'a bit of the length')
    with pytest.raises(errors.DataError, match='What follows it in the file is lost too'):
        trouble.without_bad_records(dataset, 100, Screen())


def test_sound_records_are_all_kept(dataset: Dataset, read: Read) -> None:
    kept = trouble.without_bad_records(dataset, 1, Screen())
    assert kept.bad == () and trouble.warnings(kept) == []
    assert labels(read(kept)) == labels(read(dataset))


def test_a_dataset_of_which_nothing_is_left_is_told(dataset: Dataset, read: Read, records: SimpleNamespace) -> None:
    for shard in dataset.shards:
        shard.write_bytes(records.frame(records.make(99)))
    with pytest.raises(errors.DataError, match='no record of train is left'):
        read(trouble.without_bad_records(dataset, 3, Screen()))
