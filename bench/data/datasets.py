"""A folder of shards as a dataset: which files are read, what is known of them, and what is wrong with the folder.

What a dataset is wherever it lies (subsets, classes, names of files) is in specifications.py. Nothing here imports
TensorFlow or reads records, so that a wrong folder is told before anything slow begins; and nothing is ever written,
so that the folder may be read-only.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

from bench import errors
from bench.data import frames, specifications
from bench.data.convert import report
from bench.data.specifications import Specification

LABELS_FILE = 'labels.txt'
_NUMBERED = re.compile(r'(?P<head>.*)(?P<index>\d{5})-of-(?P<count>\d{5})(?P<tail>.*)')
_SHOWN = 5
# Records whose number is compared with the one that is told: counting these takes a second at the most.
_COUNTED = 100_000


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used.

    Attributes:
      shard: its file.
      index: its number in the file, from 0 on.
      offset: the byte that it begins at.
      end: the byte behind it; None where nothing tells how long it is, so that what follows is lost too.
      text: what is wrong, with file and record.
    """

    shard: Path
    index: int
    offset: int
    end: int | None
    text: str


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One subset of one dataset, as files to read.

    Attributes:
      specification: what is known of it wherever it lies.
      subset: which one.
      num_classes: labels in the records are 0 to num_classes - 1.
      shards: the TFRecord files, sorted by name.
      label_names: of the classes, where they are known.
      labels_offset: what is subtracted from a record's label; records with lower labels are wrong.
      bad: records that are left out.
    """

    specification: Specification
    subset: str
    num_classes: int
    shards: tuple[Path, ...]
    label_names: tuple[str, ...] | None = None
    labels_offset: int = 0
    bad: tuple[BadRecord, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.specification.name

    @property
    def num_samples(self) -> int | None:
        """Pictures in the subset, where the specification tells."""
        return self.specification.sizes[self.subset]

    @property
    def labels(self) -> range:
        """The labels that a record may have."""
        return range(self.labels_offset, self.num_classes)

    @property
    def num_outputs(self) -> int:
        """Classes that a network must tell apart."""
        return len(self.labels)


def load(name: str, subset: str, data_dir: Path, labels_offset: int = 0) -> Dataset:
    """The dataset `name` in `data_dir`.

    Args:
      name: of a published dataset, or of a JSON file (specifications.py).

    Raises:
      errors.DataError: with all of `problems`.
    """
    found = problems(name, subset, data_dir)
    if found:
        raise errors.DataError('\n'.join(found))
    specification = _counted(specifications.get(name), data_dir)
    listed = _listed_labels(data_dir)
    # labels.txt is checked where nothing else tells the number of classes.
    return Dataset(
        specification=specification,
        subset=subset,
        num_classes=specification.num_classes or len(listed or ()),
        shards=tuple(data_dir / name for name in _shards_of(specification, subset, _present(data_dir))),
        label_names=listed or specification.label_names,
        labels_offset=labels_offset,
    )


def problems(name: str, subset: str, data_dir: Path) -> list[str]:
    """All that is wrong with `data_dir` and can be seen without reading shards, each as a sentence."""
    try:
        specification = specifications.get(name)
    except errors.DataError as error:
        return str(error).splitlines()
    if not data_dir.exists():
        return [f'--data_dir={data_dir}: there is no such folder. Name the folder with the TFRecord shards.']
    if not data_dir.is_dir():
        return [f'--data_dir={data_dir} is a file. Name the folder that holds the shards: --data_dir={data_dir.parent}']
    try:
        present = _present(data_dir)
    except OSError as error:
        return [f'--data_dir={data_dir} cannot be listed: {error.strerror}. Name a folder that you may read.']
    if subset not in specification.sizes:
        known = list(specification.sizes)
        return [f'--data_subset={subset}: {name} has {" and ".join(known)}.{errors.nearest(subset, known)}']
    return _shard_problems(specification, subset, data_dir, present) + _labels_problems(specification, data_dir)


def damage(dataset: Dataset) -> list[str]:
    """Shards that end within a record, each as a sentence; and shards that lack records, if their number is known.

    Reads the end of each shard. Records are counted where conversion.json or a user's own JSON file tells how many
    there are, and these are not over 100,000, which takes a second at the most.
    """
    found = [problem for problem in map(frames.tail_problem, dataset.shards) if problem]
    if found:
        return [f'{problem} Copy or convert it again.' for problem in found]
    size = dataset.num_samples
    teller = dataset.specification.counted_in
    if teller is None or size is None or size > _COUNTED:
        return []
    counts = [frames.count(shard) for shard in dataset.shards]
    present = sum(count or 0 for count in counts)
    # Where a shard is damaged otherwise, reading it tells how and where.
    if None in counts or present == size:
        return []
    return [
        f'The shards of {dataset.subset} in {dataset.shards[0].parent} hold {present} records, and {teller} says '
        f'{size}. Convert or copy them again, or correct the number there.'
    ]


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
        raise errors.DataError(f'{path} names {"one class" if lines else "no class"}, and there must be 2 at least.')
    return tuple(line.partition(':')[2] for line in lines)


def few(items: Sequence[str], most: int = _SHOWN) -> str:
    """The first words of a list, and how many more there are."""
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return ', '.join(items[:most]) + more


def _present(data_dir: Path) -> list[str]:
    return sorted(path.name for path in data_dir.iterdir())


def _shards_of(specification: Specification, subset: str, present: list[str]) -> list[str]:
    patterns = [pattern.replace('%s', subset) for pattern in specification.files]
    return [name for name in present if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _shard_problems(specification: Specification, subset: str, data_dir: Path, present: list[str]) -> list[str]:
    shards = _shards_of(specification, subset, present)
    if not shards:
        return [_no_shards(specification, subset, data_dir, present)]
    matches = [_NUMBERED.fullmatch(name) for name in shards]
    sets = sorted({(match['head'], match['count'], match['tail']) if match else ('', '', '') for match in matches})
    if len(sets) > 1:
        kinds = ' and '.join(f'{head}*-of-{count}{tail}' if count else 'others' for head, count, tail in sets)
        return [f'--data_dir={data_dir} holds several sets of shards: {kinds}. Keep one and move the others away.']
    head, count, tail = sets[0]
    wanted = [f'{head}{index:05d}-of-{count}{tail}' for index in range(int(count))] if count else shards
    missing = sorted(set(wanted) - set(shards))
    surplus = sorted(set(shards) - set(wanted))
    # `convert --skip_bad_records` writes such shards where it left out all pictures of one.
    written = (report.read(data_dir) or {}).get('bytes', {})
    empty = [name for name in shards if _size(data_dir / name) == 0 and written.get(name) != 0]
    gone = [name for name in shards if not (data_dir / name).exists()]
    unreadable = [name for name in shards if name not in gone and not os.access(data_dir / name, os.R_OK)]
    found = []
    if missing:
        found.append(
            f'--data_dir={data_dir}: {len(missing)} of {int(count)} shards are missing: {few(missing)}. '
            'Convert or copy the dataset again.'
        )
    if surplus:
        found.append(f'--data_dir={data_dir}: there is no such shard of {int(count)}: {few(surplus)}. Move it away.')
    if empty:
        found.append(f'--data_dir={data_dir}: these shards are empty: {few(empty)}. Convert or copy them again.')
    if gone:
        found.append(f'--data_dir={data_dir}: these are links to shards that are not there: {few(gone)}.')
    if unreadable:
        found.append(f'--data_dir={data_dir}: no permission to read {few(unreadable)}. Try: chmod +r')
    return found


def _no_shards(specification: Specification, subset: str, data_dir: Path, present: list[str]) -> str:
    patterns = ' or '.join(pattern.replace('%s', subset).replace('?????', '*') for pattern in specification.files)
    text = f'--data_dir={data_dir}: no shards named {patterns}; '
    subsets = [other for other in specification.sizes if _shards_of(specification, other, present)]
    if subsets:
        return text + ' or '.join(f'there are those of {other}: try --data_subset={other}' for other in subsets) + '.'
    others = [
        name
        for name in specifications.names()
        if any(_shards_of(specifications.get(name), known, present) for known in specifications.get(name).sizes)
    ]
    if others:
        return text + 'what it holds are shards of ' + ' or '.join(f'--data_name={name}' for name in others) + '.'
    holds = f'it holds {few(present)}.' if present else 'the folder is empty.'
    return (
        f'{text}{holds} Name a folder of shards in --data_dir, or make one: '
        f'run_benchmark.py convert --dataset_name=folder --source=FOLDER_OF_CLASS_FOLDERS --dataset_dir={data_dir}'
    )


def _labels_problems(specification: Specification, data_dir: Path) -> list[str]:
    known = specification.num_classes
    if known is not None:
        listed = _listed_labels(data_dir)
        if listed is None or len(listed) == known:
            return []
        return [
            f'{data_dir / LABELS_FILE} names {len(listed)} classes, and {specification.name} has {known}. '
            'Is it another dataset? What `convert --dataset_name=folder` wrote is read with --data_name=folder.'
        ]
    if not (data_dir / LABELS_FILE).is_file():
        return [
            f'--data_dir={data_dir}: there is no {LABELS_FILE}, from which --data_name={specification.name} takes the '
            'classes; `run_benchmark.py convert` writes it. If these are ImageNet shards, give --data_name=imagenet.'
        ]
    try:
        read_labels(data_dir / LABELS_FILE)
    except errors.DataError as error:
        return [str(error)]
    return []


def _listed_labels(data_dir: Path) -> tuple[str, ...] | None:
    """The names in labels.txt; None where there is none, or where it is something else."""
    try:
        return read_labels(data_dir / LABELS_FILE)
    except errors.DataError:
        return None


def _counted(specification: Specification, data_dir: Path) -> Specification:
    """The specification with the numbers of pictures that `convert` left beside the shards, where it did."""
    found = report.read(data_dir)
    if found is None or found.get('dataset_name') != specification.name or not isinstance(found.get('pictures'), dict):
        return specification
    sizes = {
        subset: count if type(count) is int and count > 0 else None
        for subset, count in found['pictures'].items()
        if subset in specification.sizes
    }
    return dataclasses.replace(
        specification, sizes={**specification.sizes, **sizes}, counted_in=str(data_dir / report.NAME)
    )


def _size(path: Path) -> int | None:
    """Bytes of a file, or None where it cannot be told (a link to nothing)."""
    try:
        return path.stat().st_size
    except OSError:
        return None
