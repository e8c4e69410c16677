"""What is told of a folder of shards before anything is read."""

from __future__ import annotations

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


def test_two_sets_of_shards_are_not_mixed(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00001', 'train-00000-of-00002', 'train-00001-of-00002')
    told = only_problem('imagenet', 'train', tmp_path)
    assert 'train-*-of-00001' in told and 'train-*-of-00002' in told


def test_load_raises_all_problems_together(tmp_path: Path) -> None:
    shards(tmp_path, 'train-00000-of-00002')
    with pytest.raises(errors.DataError) as raised:
        datasets.load('folder', 'train', tmp_path)
    assert 'train-00001-of-00002' in str(raised.value) and 'labels.txt' in str(raised.value)
