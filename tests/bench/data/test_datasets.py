"""What is told of a folder of shards before anything is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import errors
from bench.data import datasets


def shards(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b'x')


def only_problem(name: str, subset: str, folder: Path) -> str:
    found = datasets.problems(name, subset, folder)
    assert len(found) == 1, found
    return found[0]


def test_specifications_do_not_load_tensorflow() -> None:
    code = 'import sys, bench.data.datasets; sys.exit("tensorflow" in sys.modules or "numpy" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False, cwd=Path(__file__).parents[3]).returncode == 0


@pytest.mark.parametrize('suffix', ['', '.tfrecord'])
def test_only_the_subset_is_read_in_the_order_of_its_names(tmp_path: Path, suffix: str) -> None:
    names = [f'train-{index:05d}-of-00011{suffix}' for index in range(11)]
    shards(tmp_path, *reversed(names), f'validation-00000-of-00001{suffix}', 'train-00000-of-00011.idx', 'README')
    dataset = datasets.load('imagenet', 'train', tmp_path)
    assert [path.name for path in dataset.shards] == names
    assert (dataset.num_classes, dataset.num_samples, dataset.labels) == (1001, 1281167, range(1001))
    assert datasets.load('imagenet', 'validation', tmp_path).num_samples == 50000


@pytest.mark.parametrize(
    ('name', 'files', 'sizes', 'first', 'last'),
    [
        (
            'flowers',
            [f'flowers_{{}}_{index:05d}-of-00005.tfrecord' for index in range(5)],
            {'train': 3320, 'validation': 350},
            'daisy',
            'tulips',
        ),
        ('cifar10', ['cifar10_{}.tfrecord'], {'train': 50000, 'test': 10000}, 'airplane', 'truck'),
        ('mnist', ['mnist_{}.tfrecord'], {'train': 60000, 'test': 10000}, 'zero', 'nine'),
    ],
)
def test_what_slims_converters_write_is_found_by_slims_names(
    tmp_path: Path, name: str, files: list[str], sizes: dict[str, int], first: str, last: str
) -> None:
    shards(tmp_path, *(file.format(subset) for subset in sizes for file in files))
    for subset, size in sizes.items():
        dataset = datasets.load(name, subset, tmp_path)
        assert [path.name for path in dataset.shards] == [file.format(subset) for file in files]
        assert dataset.num_samples == size
        assert dataset.label_names is not None and len(dataset.label_names) == dataset.num_classes
        assert (dataset.label_names[0], dataset.label_names[-1]) == (first, last)


@pytest.mark.parametrize(
    ('name', 'subset', 'words'),
    [
        ('imagenet', 'test', 'imagenet has train and validation'),
        ('cifar10', 'validation', 'cifar10 has train and test'),
        ('mnist', 'tarin', 'Did you mean train'),
    ],
)
def test_a_subset_that_the_dataset_does_not_have_is_told_with_those_it_has(
    tmp_path: Path, name: str, subset: str, words: str
) -> None:
    assert words in only_problem(name, subset, tmp_path)


def test_shards_of_another_dataset_are_told_with_its_name(tmp_path: Path) -> None:
    shards(tmp_path, 'mnist_train.tfrecord', 'mnist_test.tfrecord')
    assert '--data_name=mnist' in only_problem('imagenet', 'train', tmp_path)


def test_a_folder_with_names_of_other_classes_is_not_taken_for_imagenet(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    (tmp_path / 'labels.txt').write_text('0:daisy\n1:rose\n')
    told = only_problem('imagenet', 'train', tmp_path)
    assert 'names 2 classes' in told and '1001' in told and '--data_name=folder' in told


def test_names_of_imagenets_classes_are_those_of_its_folder(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    assert datasets.load('imagenet', 'train', tmp_path).label_names is None
    (tmp_path / 'labels.txt').write_text(''.join(f'{label}:class {label}\n' for label in range(1001)))
    assert datasets.load('imagenet', 'train', tmp_path).label_names[281] == 'class 281'  # type: ignore[index]


def test_an_offset_leaves_the_labels_that_networks_of_1000_classes_have(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    dataset = datasets.load('imagenet', 'train', tmp_path, labels_offset=1)
    assert (dataset.labels, dataset.num_outputs) == (range(1, 1001), 1000)


def test_a_users_own_dataset_needs_a_json_file_alone(tmp_path: Path) -> None:
    shards(tmp_path, 'birds_train_b.tfrecord', 'birds_train_a.tfrecord', 'birds_test_a.tfrecord', 'notes.txt')
    path = tmp_path / 'spec.json'
    path.write_text(json.dumps({'splits': {'train': 90, 'test': None}, 'files': 'birds_%s_*.tfrecord', 'classes': 7}))
    dataset = datasets.load(str(path), 'train', tmp_path)
    assert [shard.name for shard in dataset.shards] == ['birds_train_a.tfrecord', 'birds_train_b.tfrecord']
    assert (dataset.name, dataset.num_classes, dataset.num_samples) == ('spec', 7, 90)
    assert datasets.load(str(path), 'test', tmp_path).num_samples is None


def test_a_shard_that_was_cut_is_told_before_anything_begins(dataset: datasets.Dataset) -> None:
    assert datasets.damage(dataset) == []
    shard = dataset.shards[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole + whole[:7])
    (told,) = datasets.damage(dataset)
    assert str(shard) in told and f'ends 7 bytes into the record at byte {len(whole)}' in told


@pytest.mark.parametrize('name', ['birds.json', 'conversion.json'])
def test_a_shard_that_was_cut_between_records_is_told_where_their_number_is_known(
    dataset: datasets.Dataset, tmp_path: Path, name: str
) -> None:
    if name == 'birds.json':
        (tmp_path / name).write_text(json.dumps({'splits': {'train': 13}, 'classes': 13}))
        data_name = str(tmp_path / name)
    else:
        report = {'dataset_name': 'folder', 'pictures': {'train': 13, 'validation': 0}, 'shards': {'train': []}}
        (tmp_path / name).write_text(json.dumps(report))
        data_name = 'folder'
    assert datasets.load(data_name, 'train', tmp_path).num_samples == 13
    assert datasets.damage(datasets.load(data_name, 'train', tmp_path)) == []
    shard = dataset.shards[2]
    data = shard.read_bytes()
    shard.write_bytes(data[: 16 + int.from_bytes(data[:8], 'little')])
    (told,) = datasets.damage(datasets.load(data_name, 'train', tmp_path))
    assert 'hold 10 records' in told and 'says 13' in told and name in told


@pytest.mark.parametrize('count', ['many', '13', -13, True, 12.5, None, [13], 0])
def test_what_is_no_number_of_pictures_in_a_conversions_report_is_taken_for_one(
    dataset: datasets.Dataset, tmp_path: Path, count: object
) -> None:
    report = {'dataset_name': 'folder', 'pictures': {'train': count, 'test': 7}, 'shards': {'train': []}}
    (tmp_path / 'conversion.json').write_text(json.dumps(report))
    assert datasets.problems('folder', 'train', tmp_path) == []
    found = datasets.load('folder', 'train', tmp_path)
    assert found.num_samples is None
    assert datasets.damage(found) == []


@pytest.mark.parametrize('count', [12, 14, 10**4])
def test_a_conversions_report_that_counts_otherwise_than_its_shards_is_believed(
    dataset: datasets.Dataset, tmp_path: Path, count: int
) -> None:
    report = {'dataset_name': 'folder', 'pictures': {'train': count}, 'shards': {'train': []}}
    (tmp_path / 'conversion.json').write_text(json.dumps(report))
    (told,) = datasets.damage(datasets.load('folder', 'train', tmp_path))
    assert f'hold 13 records, and {tmp_path / "conversion.json"} says {count}.' in told


def test_classes_of_a_folder_are_those_of_its_labels_file(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    (tmp_path / 'labels.txt').write_text('0:daisy\n1:rose: wild\n2:tulip\n')
    assert datasets.load('folder', 'train', tmp_path).num_classes == 3
    assert datasets.read_labels(tmp_path / 'labels.txt') == ('daisy', 'rose: wild', 'tulip')


@pytest.mark.parametrize('text', ['0:daisy\n2:rose\n', 'daisy\nrose\n', '0:daisy\n\n1:rose\n', '0:daisy\n', ''])
def test_a_labels_file_that_would_shift_classes_is_refused(tmp_path: Path, text: str) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    (tmp_path / 'labels.txt').write_text(text)
    assert 'labels.txt' in only_problem('folder', 'train', tmp_path)


def test_a_missing_labels_file_is_told_with_the_other_kind_of_dataset(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    assert '--data_name=imagenet' in only_problem('folder', 'train', tmp_path)


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    assert 'no such folder' in only_problem('imagenet', 'train', tmp_path / 'nothing')


def test_a_shard_instead_of_its_folder_is_told_with_the_folder(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001')
    assert f'--data_dir={tmp_path}' in only_problem('imagenet', 'train', tmp_path / 'train-00000-of-00001')


def test_an_empty_folder_is_told_with_the_command_that_fills_it(tmp_path: Path) -> None:
    told = only_problem('imagenet', 'train', tmp_path)
    assert 'train-*-of-*' in told and 'empty' in told and 'run_benchmark.py convert' in told


def test_a_folder_of_something_else_is_told_with_what_it_holds(tmp_path: Path) -> None:
    shards(tmp_path, 'holiday.jpg')
    assert 'holiday.jpg' in only_problem('imagenet', 'train', tmp_path)


def test_another_subset_is_offered_where_the_wanted_one_is_missing(tmp_path: Path) -> None:
    shards(tmp_path, 'validation-00000-of-00001')
    assert '--data_subset=validation' in only_problem('imagenet', 'train', tmp_path)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00004', 'train-00002-of-00004')
    told = only_problem('imagenet', 'train', tmp_path)
    assert 'train-00001-of-00004, train-00003-of-00004' in told and '2 of 00004' not in told


def test_an_empty_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00002')
    (tmp_path / 'train-00001-of-00002').touch()
    assert 'empty: train-00001-of-00002' in only_problem('imagenet', 'train', tmp_path)


def test_a_link_to_nothing_is_not_told_as_a_lack_of_permission(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00002')
    (tmp_path / 'train-00001-of-00002').symlink_to(tmp_path / 'moved')
    told = only_problem('imagenet', 'train', tmp_path)
    assert 'links to shards that are not there: train-00001-of-00002' in told and 'chmod' not in told


def test_two_sets_of_shards_are_not_mixed(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001', 'train-00000-of-00002', 'train-00001-of-00002')
    told = only_problem('imagenet', 'train', tmp_path)
    assert 'train-*-of-00001' in told and 'train-*-of-00002' in told


def test_load_raises_all_problems_together(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00002')
    with pytest.raises(errors.DataError) as raised:
        datasets.load('folder', 'train', tmp_path)
    assert 'train-00001-of-00002' in str(raised.value) and 'labels.txt' in str(raised.value)
