"""What is known of a dataset before its files are looked at: subsets and sizes, classes, keys, names of files.

The published datasets are here, as TF-Slim has them (github.com/tensorflow/models, research/slim/datasets). A user's
own is a JSON file, named by --data_name=FILE.json, with these fields, of which `splits` alone must be there:

    splits     number of pictures of each subset, or null where it is not known: {"train": 9000, "test": null}
    files      names of the shards, %s standing for the subset: "birds_%s_*.tfrecord"; ImageNet's where not given
    classes    how many there are; where neither they nor labels are given, as many as labels.txt beside the shards has
    labels     names of the classes, from label 0 on
    pictures   "jpeg" (decoded no further than is wanted), or "any": JPEG, PNG, GIF or BMP
    image_key, label_key    where picture and label are in a record; slim's keys where not given

Knows nothing of TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import errors

_NUMBERED = ('%s-?????-of-?????', '%s-?????-of-?????.tfrecord')


@dataclasses.dataclass(frozen=True)
class Specification:
    """A dataset, wherever its files are.

    Attributes:
      name: what people call it.
      sizes: pictures of each subset; None where that isn't known.
      num_classes: labels are 0 to num_classes - 1; None for as many as labels.txt has lines.
      label_names: of the classes, where they are known without labels.txt.
      files: patterns of the shards' names, of which one must fit; %s stands for the subset.
      image_key, label_key: of the features in a record.
      jpeg: that all pictures are JPEGs.
      counted_in: the file that tells the sizes of these very shards; None where they are those of a publication.
    """

    name: str
    sizes: Mapping[str, int | None]
    num_classes: int | None
    label_names: tuple[str, ...] | None = None
    files: tuple[str, ...] = _NUMBERED
    image_key: str = 'image/encoded'
    label_key: str = 'image/class/label'
    jpeg: bool = True
    counted_in: str | None = None


_CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
_DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')

_PUBLISHED = {
    # 1000 classes and label 0, 'background', which the published networks keep and no picture has.
    'imagenet': Specification('imagenet', {'train': 1_281_167, 'validation': 50_000}, 1001),
    'flowers': Specification(
        'flowers',
        {'train': 3320, 'validation': 350},
        5,
        ('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips'),
        # Slim writes an underscore before the number; with a hyphen the files are just as clear.
        files=('flowers_%s_?????-of-?????.tfrecord', 'flowers_%s-?????-of-?????.tfrecord'),
    ),
    'cifar10': Specification(
        'cifar10', {'train': 50_000, 'test': 10_000}, 10, _CIFAR10, files=('cifar10_%s.tfrecord',), jpeg=False
    ),
    'mnist': Specification(
        'mnist', {'train': 60_000, 'test': 10_000}, 10, _DIGITS, files=('mnist_%s.tfrecord',), jpeg=False
    ),
    'folder': Specification('folder', {'train': None, 'validation': None}, None),
}


def names() -> tuple[str, ...]:
    """The published datasets, and `folder`: what `convert` makes of a folder of class folders."""
    return tuple(_PUBLISHED)


def get(name: str) -> Specification:
    """The specification of that name, or in that JSON file.

    Raises:
      errors.DataError: there is none, or the file is not as it should be; all that is wrong, a sentence a line.
    """
    if name in _PUBLISHED:
        return _PUBLISHED[name]
    if name.endswith('.json'):
        return _read(Path(name))
    hint = errors.nearest(name, names())
    raise errors.DataError(
        f'--data_name={name}: the datasets are {", ".join(names())}; a JSON file that describes your own is named '
        f'FILE.json.{hint}'
    )


def _is_size(value: Any) -> bool:
    return value is None or (type(value) is int and value > 0)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_splits(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(name and _is_size(size) for name, size in value.items())


def _is_labels(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 2 and all(_is_text(name) for name in value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'splits': (_is_splits, 'the number of pictures (or null) of each subset: {"train": 9000, "test": null}'),
    'files': (
        lambda value: _is_text(value) and value.count('%s') == 1 and '/' not in value,
        'names with %s for the subset and without folders: "birds_%s_*.tfrecord"',
    ),
    'classes': (lambda value: type(value) is int and value >= 2, 'a whole number from 2 on'),
    'labels': (_is_labels, 'a list of 2 names of classes or more'),
    'pictures': (lambda value: value in ('jpeg', 'any'), '"jpeg" or "any"'),
    'image_key': (_is_text, 'a text'),
    'label_key': (_is_text, 'a text'),
}


def _read(path: Path) -> Specification:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise errors.DataError(f'--data_name={path}: the file cannot be read: {error.strerror}.') from error
    except ValueError as error:
        raise errors.DataError(f'--data_name={path} is not JSON: {error}.') from error
    found = _problems(values)
    if found:
        raise errors.DataError('\n'.join(f'--data_name={path}: {problem}' for problem in found))
    labels = tuple(values['labels']) if 'labels' in values else None
    return Specification(
        name=path.stem,
        sizes=values['splits'],
        num_classes=values.get('classes', len(labels) if labels else None),
        label_names=labels,
        files=(values['files'],) if 'files' in values else _NUMBERED,
        image_key=values.get('image_key', Specification.image_key),
        label_key=values.get('label_key', Specification.label_key),
        jpeg=values.get('pictures', 'jpeg') == 'jpeg',
        counted_in=str(path),
    )


def _problems(values: Any) -> list[str]:
    """What is wrong with the content of a JSON file."""
    if not isinstance(values, dict):
        return [f'an object with {", ".join(_FIELDS)} is expected.']
    found = [
        f'there is no field {name!r}; there are {", ".join(_FIELDS)}.{errors.nearest(name, _FIELDS)}'
        for name in values
        if name not in _FIELDS
    ]
    for name, (is_right, expected) in _FIELDS.items():
        if name in values and not is_right(values[name]):
            found.append(f'{name} is {json.dumps(values[name])}, and must be {expected}.')
    if 'splits' not in values:
        found.append(f'splits is missing: {_FIELDS["splits"][1]}.')
    image_key, label_key = (values.get(key, getattr(Specification, key)) for key in ('image_key', 'label_key'))
    if image_key == label_key:
        found.append(f'image_key and label_key are both {json.dumps(image_key)}; they must differ.')
    if not found and 'labels' in values and values.get('classes', len(values['labels'])) != len(values['labels']):
        found.append(f'classes is {values["classes"]}, and labels names {len(values["labels"])}. Leave out classes.')
    return found
