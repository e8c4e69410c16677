"""Names of the files that each dataset becomes: those of TF-Slim's converters and readers
(github.com/tensorflow/models, research/slim/datasets). Knows nothing of TensorFlow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from bench.data.datasets import LABELS_FILE

_SHARD = re.compile(r'.*\d{5}-of-\d{5}(\.tfrecord)?|.*\.tfrecord')


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shards of one dataset.

    Attributes:
      pattern: name of a shard, with {subset}, {index} and {count} to fill in.
      shards: how many shards TF-Slim makes of each subset, training first.
      fixed: that the names have no room for another number of shards.
    """

    pattern: str
    shards: Mapping[str, int]
    fixed: bool = False

    def names(self, subset: str, count: int) -> tuple[str, ...]:
        """The names of a subset's shards."""
        return tuple(self.pattern.format(subset=subset, index=index, count=count) for index in range(count))

    def counts(self, num_shards: int | None) -> dict[str, int]:
        """Shards of each subset where the training set gets `num_shards`: in the proportion of TF-Slim's numbers."""
        most = max(self.shards.values())
        wanted = num_shards or most
        return {subset: max(1, round(wanted * count / most)) for subset, count in self.shards.items()}


LAYOUTS = {
    'imagenet': Layout('{subset}-{index:05d}-of-{count:05d}', {'train': 1024, 'validation': 128}),
    # An underscore before the number, where ImageNet has a hyphen: TF-Slim's reader looks for flowers_train_*.tfrecord.
    'flowers': Layout('flowers_{subset}_{index:05d}-of-{count:05d}.tfrecord', {'train': 5, 'validation': 5}),
    'cifar10': Layout('cifar10_{subset}.tfrecord', {'train': 1, 'test': 1}, fixed=True),
    'mnist': Layout('mnist_{subset}.tfrecord', {'train': 1, 'test': 1}, fixed=True),
    'folder': Layout('{subset}-{index:05d}-of-{count:05d}', {'train': 8, 'validation': 8}),
}


def complete(dataset: str, folder: Path) -> bool:
    """Whether a folder holds everything that TF-Slim's own converter writes for a dataset."""
    layout = LAYOUTS[dataset]
    names = [name for subset, count in layout.shards.items() for name in layout.names(subset, count)]
    return dataset != 'folder' and all((folder / name).is_file() for name in names)


def converted(folder: Path) -> list[str]:
    """Names of the files in a folder that belong to a dataset of any kind."""
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in present if name == LABELS_FILE or _SHARD.fullmatch(name)]
