"""A user's own dataset as a JSON file: what is taken from it, and what is told of one that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import errors
from bench.data import specifications


def written(folder: Path, content: Any) -> str:
    path = folder / 'birds.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_every_field_of_a_json_file_is_taken(tmp_path: Path) -> None:
    found = specifications.get(
        written(
            tmp_path,
            {
                'splits': {'train': 9000, 'test': None},
                'files': 'birds_%s_*.tfrecord',
                'labels': ['finch', 'tit', 'wren'],
                'pictures': 'any',
                'image_key': 'picture',
                'label_key': 'kind',
            },
        )
    )
    assert (found.name, dict(found.sizes), found.num_classes) == ('birds', {'train': 9000, 'test': None}, 3)
    assert (found.label_names, found.files) == (('finch', 'tit', 'wren'), ('birds_%s_*.tfrecord',))
    assert (found.jpeg, found.image_key, found.label_key) == (False, 'picture', 'kind')
    assert found.counted_in == str(tmp_path / 'birds.json')


def test_what_a_json_file_leaves_out_is_as_in_slims_imagenet(tmp_path: Path) -> None:
    found = specifications.get(written(tmp_path, {'splits': {'train': None}, 'classes': 200}))
    imagenet = specifications.get('imagenet')
    assert (found.files, found.image_key, found.label_key, found.jpeg) == (
        imagenet.files,
        imagenet.image_key,
        imagenet.label_key,
        imagenet.jpeg,
    )
    assert (found.num_classes, found.label_names) == (200, None)
    assert specifications.get(written(tmp_path, {'splits': {'train': None}})).num_classes is None


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('{"splits": ', ['is not JSON']),
        ([1], ['object']),
        ({}, ['splits is missing']),
        ({'splits': {'train': 0}}, ['splits is {"train": 0}']),
        ({'splits': {'train': True}}, ['splits is']),
        ({'splits': ['train']}, ['splits is']),
        ({'splits': {'train': 1}, 'clases': 3}, ["'clases'", 'Did you mean classes']),
        ({'splits': {'train': 1}, 'classes': 1}, ['classes is 1']),
        ({'splits': {'train': 1}, 'classes': 3, 'labels': ['a', 'b']}, ['classes is 3', 'labels names 2']),
        ({'splits': {'train': 1}, 'labels': ['a', '']}, ['labels is']),
        ({'splits': {'train': 1}, 'files': 'train.tfrecord'}, ['files is', '%s']),
        ({'splits': {'train': 1}, 'files': '../%s'}, ['files is', 'without folders']),
        ({'splits': {'train': 1}, 'pictures': 'png'}, ['"jpeg" or "any"']),
        ({'splits': {'train': 1}, 'image_key': 5, 'label_key': ''}, ['image_key is 5', 'label_key is ""']),
        ({'splits': {'train': 1}, 'label_key': 'image/encoded'}, ['image_key and label_key are both "image/encoded"']),
    ],
)
def test_a_wrong_json_file_is_told_with_its_name_and_all_that_is_wrong(
    tmp_path: Path, content: Any, words: list[str]
) -> None:
    name = written(tmp_path, content)
    with pytest.raises(errors.DataError) as raised:
        specifications.get(name)
    assert all(line.startswith(f'--data_name={name}') for line in str(raised.value).splitlines())
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_json_file_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match='cannot be read'):
        specifications.get(str(tmp_path / 'nothing.json'))


def test_an_unknown_dataset_is_told_with_the_nearest() -> None:
    with pytest.raises(errors.DataError, match='Did you mean flowers'):
        specifications.get('flower')
