"""What `convert` can be asked for, and what is wrong with it as far as that can be seen without reading the source.

Knows nothing of TensorFlow, so that a wrong command line is answered at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import errors
from bench.data import downloads
from bench.data.convert import layouts, report, sources, workplace
from bench.machine.capabilities import Capabilities
from bench.options import option

# Datasets whose pictures are divided here; the others are published divided.
_DIVIDED = ('flowers', 'folder')
# TF-Slim's number.
FLOWERS_FOR_VALIDATION = 350


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """What to convert to TFRecord shards, and where to."""

    dataset_name: str | None = option(
        None,
        f'What the source is: {", ".join(layouts.LAYOUTS)}. The last is a folder (or tar archive) of a folder of '
        'pictures for each class.',
        aliases=('data_name',),
    )
    dataset_dir: str | None = option(None, 'Folder for the shards; made where it is missing.', aliases=('data_dir',))
    source: str | None = option(
        None,
        'Where the dataset is: its archive, the folder that holds its files, or an address. Without it flowers, '
        'cifar10 and mnist are downloaded from where they are published.',
    )
    mirror: str | None = option(
        None,
        'Address of a folder with the published files, to download from instead; TF_BENCH_MIRROR in the environment '
        'does the same.',
    )
    download_dir: str | None = option(
        None, 'Folder to keep what is downloaded; without it that is deleted once it is converted.'
    )
    validation_fraction: float | None = option(
        None,
        'How much of flowers or a folder, chosen by chance, makes the validation subset. Where not given: 350 pictures '
        'of flowers, as in TF-Slim, and 0.1 of a folder.',
        minimum=0,
        maximum=0.9,
    )
    num_shards: int | None = option(
        None,
        'Files of the training subset, at most; validation gets its share. Where not given: imagenet 1024 and 128, '
        'flowers 5 and 5, as in TF-Slim; folder 8 and 8.',
        minimum=1,
        maximum=99_999,
    )
    seed: int = option(0, 'Of order and choice for validation; the same seed gives the same files.', minimum=0)
    skip_bad_records: int = option(0, 'Broken pictures to leave out, each told, before conversion fails.', minimum=0)
    partial: bool = option(False, 'Convert what is there of cifar10, though batches of it are missing.')

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """What is not given, cannot be used, or would have no effect."""
        name = self.dataset_name
        if name is None:
            return [f'--dataset_name is not given: one of {", ".join(layouts.LAYOUTS)}.']
        if name not in layouts.LAYOUTS:
            known = ', '.join(layouts.LAYOUTS)
            return [f'--dataset_name={name}: one of {known} is expected.{errors.nearest(name, layouts.LAYOUTS)}']
        found = self._without_effect(name)
        if self.dataset_dir is None:
            found.append('--dataset_dir is not given: name the folder for the shards.')
            return found + sources.problems(name, self.source)
        try:
            if self.done():
                return found
        except errors.DataError as error:
            return [*found, str(error)]
        return found + sources.problems(name, self.source) + self._dataset_dir_problems(name, Path(self.dataset_dir))

    def done(self) -> bool:
        """Whether the folder holds what is asked for already.

        Raises:
          errors.DataError: a folder of the source cannot be read.
        """
        assert self.dataset_name is not None and self.dataset_dir is not None
        out = Path(self.dataset_dir)
        earlier = report.read(out)
        if earlier is None:
            # A conversion that was stopped between its last shard and its report is to be finished.
            complete = layouts.complete(self.dataset_name, out) and not workplace.was_placing(out)
            return self.num_shards is None and complete
        return not self._differences(earlier) and not workplace.damaged(out)

    def local(self) -> dict[str, Path]:
        """The files in --source by their published names; none where it is not here."""
        if self.source is None or not Path(self.source).exists():
            return {}
        return sources.local(self.dataset_name or '', Path(self.source))

    def wanted(self) -> dict[str, Any]:
        """What decides the bytes of the shards, besides the source."""
        layout = layouts.LAYOUTS[self.dataset_name or '']
        return {
            'dataset_name': self.dataset_name,
            'validation_fraction': self._fraction(),
            'num_shards': layout.counts(self.num_shards)['train'],
            'seed': self.seed,
        }

    def held_out(self, pictures: int) -> int:
        """How many of so many pictures are for validation."""
        fraction = self._fraction()
        return FLOWERS_FOR_VALIDATION if fraction is None else round(pictures * fraction)

    def _fraction(self) -> float | None:
        if self.validation_fraction is None and self.dataset_name == 'folder':
            return 0.1
        return self.validation_fraction

    def _differences(self, earlier: dict[str, Any]) -> list[str]:
        """Flags in which this conversion is another than that of the report."""
        wanted = self.wanted()
        files = self.local()
        if files:
            wanted['source_digest'] = sources.digest(files)
        return [flag.removesuffix('_digest') for flag, value in wanted.items() if earlier.get(flag) != value]

    def _without_effect(self, name: str) -> list[str]:
        found = []
        if self.validation_fraction is not None and name not in _DIVIDED:
            found.append(f'--validation_fraction has no effect on {name}, which is published divided; leave it out.')
        if layouts.LAYOUTS[name].fixed and self.num_shards is not None:
            found.append(f'--num_shards has no effect on {name}, a file a subset in TF-Slim; leave it out.')
        if layouts.LAYOUTS[name].fixed and self.seed:
            found.append(f'--seed has no effect on {name}, which keeps its published order; leave it out.')
        if self.partial and name != 'cifar10':
            found.append(f'--partial has no effect on {name}; leave it out.')
        is_here = self.source is not None and not downloads.is_address(self.source)
        if self.mirror is not None and self.source is not None and name != 'imagenet':
            found.append(f'--mirror has no effect with --source={self.source}; leave one of them out.')
        if self.download_dir is not None and is_here and name != 'imagenet':
            found.append(f'--download_dir has no effect with --source={self.source}; leave it out.')
        if self.mirror is not None and not downloads.is_address(self.mirror):
            found.append(f'--mirror={self.mirror}: an address is expected, such as http://HOST/FOLDER.')
        return found

    def _dataset_dir_problems(self, name: str, out: Path) -> list[str]:
        if name in _DIVIDED:
            pictures = next(iter(self.local().values()), None)
            if pictures is not None and pictures.is_dir() and out.resolve().is_relative_to(pictures.resolve()):
                return [f'--dataset_dir={out} is in --source, where folders are classes. Name one elsewhere.']
        if out.exists() and not out.is_dir():
            return [f'--dataset_dir={out} is a file. Name a folder for the shards.']
        earlier = report.read(out)
        if earlier is not None:
            flags = ' and '.join(f'--{flag}' for flag in self._differences(earlier))
            if not flags:  # something of it is damaged, and will be converted again
                return []
            if earlier.get('source') == self.source:
                flags = flags.replace('--source', 'content of --source')
            return [
                f'--dataset_dir={out} holds {earlier.get("dataset_name")}, converted with another {flags}. '
                'Name an empty folder, or delete what this one holds.'
            ]
        if workplace.was_placing(out):
            return []
        present = layouts.converted(out)
        return [f'--dataset_dir={out} holds {present[0]} already. Name an empty folder.'] if present else []
