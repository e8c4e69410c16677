"""The datasets that can be read: how many classes and channels, which files, and what is wrong with a folder of them.

Names of shards (`train-00000-of-01024`), label numbering and labels.txt are those of TF-Slim's datasets
(github.com/tensorflow/models, research/slim/datasets). Nothing here imports TensorFlow or reads a shard, so that a
wrong folder is told before anything slow begins.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from bench import errors

LABELS_FILE = 'labels.txt'
_SHARD = re.compile(r'(?P<subset>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<suffix>(\.tfrecord)?)')
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One subset of one dataset, as files to read.

    Attributes:
      name: the dataset's name.
      subset: 'train' or 'validation'.
      num_classes: classes; labels are 0 to num_classes - 1.
      channels: channels of the pictures.
      num_samples: pictures in the subset as published, or None where that isn't known without reading them.
      shards: the TFRecord files, sorted by name.
    """

    name: str
    subset: str
    num_classes: int
    channels: int
    num_samples: int | None
    shards: tuple[Path, ...]

    @property
    def labels(self) -> range:
        """The labels that a record may have."""
        return range(self.num_classes)


@dataclasses.dataclass(frozen=True)
class _Specification:
    """What is known of a dataset without looking at its files."""

    num_classes: int | None  # None: as many as labels.txt says
    channels: int
    num_samples: Mapping[str, int]


_SPECIFICATIONS = {
    # 1000 classes and label 0, 'background', which the published networks keep and no picture has.
    'imagenet': _Specification(1001, 3, {'train': 1281167, 'validation': 50000}),
    'folder': _Specification(None, 3, {}),
}


def names() -> tuple[str, ...]:
    """The values that --data_name may have."""
    return tuple(_SPECIFICATIONS)


def load(name: str, subset: str, data_dir: Path) -> Dataset:
    """The dataset `name` in `data_dir`.

    Raises:
      errors.DataError: with all of `problems`.
    """
    found = problems(name, subset, data_dir)
    if found:
        raise errors.DataError('\n'.join(found))
    specification = _SPECIFICATIONS[name]
    num_classes = specification.num_classes
    if num_classes is None:
        num_classes = len(read_labels(data_dir / LABELS_FILE))
    shards = tuple(sorted(path for path in data_dir.iterdir() if _is_shard_of(path.name, subset)))
    return Dataset(name, subset, num_classes, specification.channels, specification.num_samples.get(subset), shards)


def problems(name: str, subset: str, data_dir: Path) -> list[str]:
    """All that is wrong with `data_dir` and can be seen without reading shards, each as a sentence."""
    if name not in _SPECIFICATIONS:
        return [f'--data_name={name}: the datasets are {", ".join(names())}.{errors.nearest(name, names())}']
    if not data_dir.exists():
        return [f'--data_dir={data_dir}: there is no such folder. Name the folder with the TFRecord shards.']
    if not data_dir.is_dir():
        return [f'--data_dir={data_dir} is a file. Name the folder that holds the shards: --data_dir={data_dir.parent}']
    try:
        present = sorted(path.name for path in data_dir.iterdir())
    except OSError as error:
        return [f'--data_dir={data_dir} cannot be listed: {error.strerror}. Name a folder that you may read.']
    found = _shard_problems(subset, data_dir, present)
    if _SPECIFICATIONS[name].num_classes is None:
        found += _labels_problems(name, data_dir)
    return found


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names by label, from lines such as `0:daisy`.

    Raises:
      errors.DataError: there is no such file, or its labels aren't 0, 1, 2, ... in this order.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.DataError(f'{path}: the class names cannot be read ({error}).') from error
    for label, line in enumerate(lines):
        if not re.fullmatch(rf'{label}:.+', line):
            raise errors.DataError(
                f'{path}, line {label + 1}: expected `{label}:` and the name of a class, and found {line!r}.'
            )
    if len(lines) < 2:
        raise errors.DataError(f'{path}: it names {len(lines)} classes, and there must be 2 at least.')
    return tuple(line.partition(':')[2] for line in lines)


def converted(folder: Path) -> list[str]:
    """Names of the files in a folder that belong to a dataset."""
    present = sorted(path.name for path in folder.iterdir())
    return [name for name in present if name == LABELS_FILE or _SHARD.fullmatch(name)]


def shard_name(subset: str, index: int, count: int) -> str:
    """The name of a subset's shard, such as 'train-00000-of-01024'."""
    return f'{subset}-{index:05d}-of-{count:05d}'


def _is_shard_of(name: str, subset: str) -> bool:
    match = _SHARD.fullmatch(name)
    return match is not None and match['subset'] == subset


def _shard_problems(subset: str, data_dir: Path, present: list[str]) -> list[str]:
    matches = [match for match in map(_SHARD.fullmatch, present) if match]
    shards = [match for match in matches if match['subset'] == subset]
    if not shards:
        return [_no_shards(subset, data_dir, present, sorted({match['subset'] for match in matches}))]
    sets = sorted({(match['count'], match['suffix']) for match in shards})
    if len(sets) > 1:
        kinds = ' and '.join(f'{subset}-*-of-{count}{suffix}' for count, suffix in sets)
        return [f'--data_dir={data_dir} holds several sets of shards: {kinds}. Keep one and move the others away.']
    count, suffix = sets[0]
    wanted = [shard_name(subset, index, int(count)) + suffix for index in range(int(count))]
    missing = sorted(set(wanted) - set(present))
    surplus = sorted({match.string for match in shards} - set(wanted))
    empty = [name for name in sorted(set(wanted) & set(present)) if _size(data_dir / name) == 0]
    unreadable = [name for name in sorted(set(wanted) & set(present)) if not os.access(data_dir / name, os.R_OK)]
    found = []
    if missing:
        found.append(
            f'--data_dir={data_dir}: {len(missing)} of {int(count)} shards are missing: {_few(missing)}. '
            'Convert or copy the dataset again.'
        )
    if surplus:
        found.append(f'--data_dir={data_dir}: there is no such shard of {int(count)}: {_few(surplus)}. Move it away.')
    if empty:
        found.append(f'--data_dir={data_dir}: these shards are empty: {_few(empty)}. Convert or copy them again.')
    if unreadable:
        found.append(f'--data_dir={data_dir}: no permission to read {_few(unreadable)}. Try: chmod +r')
    return found


def _no_shards(subset: str, data_dir: Path, present: list[str], subsets: list[str]) -> str:
    text = f'--data_dir={data_dir}: no shards named {subset}-*-of-* or {subset}-*-of-*.tfrecord; '
    if subsets:
        return text + ' or '.join(f'there are {other}-*-of-*: try --data_subset={other}' for other in subsets) + '.'
    holds = f'it holds {_few(present)}.' if present else 'the folder is empty.'
    return (
        f'{text}{holds} Name a folder of shards in --data_dir, or make one: '
        f'run_benchmark.py convert --dataset_name=folder --source=FOLDER_OF_CLASS_FOLDERS --dataset_dir={data_dir}'
    )


def _labels_problems(name: str, data_dir: Path) -> list[str]:
    if not (data_dir / LABELS_FILE).is_file():
        return [
            f'--data_dir={data_dir}: there is no {LABELS_FILE}, from which --data_name={name} takes the classes; '
            '`run_benchmark.py convert` writes it. If these are ImageNet shards, give --data_name=imagenet.'
        ]
    try:
        read_labels(data_dir / LABELS_FILE)
    except errors.DataError as error:
        return [str(error)]
    return []


def _size(path: Path) -> int | None:
    """Bytes of a file, or None where it cannot be told (a link to nothing)."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _few(items: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f' and {len(items) - _SHOWN} more' if len(items) > _SHOWN else ''
    return ', '.join(items[:_SHOWN]) + more
