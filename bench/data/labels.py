"""Names of a dataset's classes, and the command `labels` that prints them: from labels.txt in the dataset's folder,
from what is known of the dataset, or downloaded, which is done only where it is asked for (--fetch).

ImageNet's are made as TF-Slim's datasets/imagenet.py makes them, of the same two files of its repository: 0 is the
background, and 1 to 1000 have the words of the synsets in the order of imagenet_lsvrc_2015_synsets.txt.
Knows nothing of TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import errors
from bench.data import datasets, downloads, specifications
from bench.machine.capabilities import Capabilities
from bench.options import option

SYNSETS = 'imagenet_lsvrc_2015_synsets.txt'
WORDS = 'imagenet_metadata.txt'
_BACKGROUND = 'background'


@dataclasses.dataclass(frozen=True)
class LabelsConfig:
    """Whose names to print."""

    data_name: str = option(
        'imagenet',
        f'The dataset: {", ".join(specifications.names())}, or a JSON file that describes it.',
        positional=True,
        aliases=('dataset_name',),
    )
    data_dir: str | None = option(
        None, f'Folder of its shards, whose {datasets.LABELS_FILE} is read.', aliases=('dataset_dir',)
    )
    fetch: bool = option(False, "Download the names of imagenet's classes.")
    download_dir: str | None = option(None, 'Folder to keep what is downloaded.')
    mirror: str | None = option(
        None,
        'Address of a folder with the published files, to download from instead; TF_BENCH_MIRROR in the environment '
        'does the same.',
    )

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """Names that are not known and cannot be fetched, and flags that would have no effect."""
        try:
            known = self.known()
        except errors.DataError as error:
            return str(error).splitlines()
        found = []
        if known is None and self.data_name != 'imagenet':
            found.append(
                f'The names of the classes of {self.data_name} are in {datasets.LABELS_FILE} beside the shards: name '
                'their folder with --data_dir.'
            )
        elif known is None and not self.fetch:
            found.append(
                f"The names of imagenet's classes are not here. Name a folder with {datasets.LABELS_FILE} with "
                '--data_dir, or give --fetch to download them.'
            )
        if known is not None and self.fetch:
            found.append(f'--fetch has no effect: the names of {self.data_name} are known. Leave it out.')
        for name in ('download_dir', 'mirror'):
            if getattr(self, name) is not None and not self.fetch:
                found.append(f'--{name} has no effect without --fetch; leave it out.')
        return found

    def known(self) -> tuple[str, ...] | None:
        """The names by label, where they are known without a download.

        Raises:
          errors.DataError: there is no such dataset or folder, or labels.txt is not what it should be.
        """
        names = specifications.get(self.data_name).label_names
        if self.data_dir is None:
            return names
        folder = Path(self.data_dir)
        if not folder.is_dir():
            raise errors.DataError(f'--data_dir={folder}: there is no such folder. Name the folder with the shards.')
        path = folder / datasets.LABELS_FILE
        return datasets.read_labels(path) if path.exists() else names


def run(config: LabelsConfig, words: Sequence[str]) -> int:  # noqa: ARG001  (every command is given its words)
    """Prints the names in the form of labels.txt.

    Raises:
      errors.DataError: they cannot be downloaded.
    """
    names = config.known()
    if names is None:
        with contextlib.ExitStack() as stack:
            folder = config.download_dir or stack.enter_context(tempfile.TemporaryDirectory(prefix='tf-bench-'))
            # Standard output is for the names.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            names = fetched(downloads.folder(folder), config.mirror)
    print(''.join(f'{label}:{name}\n' for label, name in enumerate(names)), end='')
    return 0


def fetched(folder: Path, mirror: str | None) -> tuple[str, ...]:
    """The names of ImageNet's classes by label, from files that are downloaded to a folder unless they are there.

    Args:
      mirror: address of a folder to download from instead of the published one.

    Raises:
      errors.DataError: a file cannot be downloaded.
    """
    published = {file.name: file for file in downloads.PUBLISHED['imagenet']}
    return imagenet(*(downloads.fetch(published[name], folder, mirror) for name in (SYNSETS, WORDS)))


def imagenet(synsets_file: Path, words_file: Path) -> tuple[str, ...]:
    """The names of ImageNet's classes by label.

    Raises:
      errors.DataError: a file is not what it should be.
    """
    lines = words_file.read_text(encoding='utf-8', errors='replace').splitlines()
    words = {synset: words for synset, tab, words in (line.partition('\t') for line in lines) if tab}
    wanted = synsets(synsets_file)
    unknown = [synset for synset in wanted if synset not in words]
    if unknown:
        raise errors.DataError(f'{words_file} has no words for {unknown[0]}, a synset of {synsets_file}.')
    return (_BACKGROUND, *(words[synset] for synset in wanted))


def synsets(path: Path) -> list[str]:
    """The synsets of a file, one a line.

    Raises:
      errors.DataError: a line is no synset.
    """
    lines = path.read_text(encoding='utf-8', errors='replace').split()
    wrong = [line for line in lines if not re.fullmatch(r'n\d{8}', line)]
    if wrong or not lines:
        raise errors.DataError(
            f'{path}: lines such as n01440764 are expected, and found {wrong[0] if wrong else ""!r}.'
        )
    return lines
