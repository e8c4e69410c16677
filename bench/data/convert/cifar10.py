"""`convert --dataset_name=cifar10`: cifar-10-python.tar.gz to the two files of TF-Slim's download_and_convert_cifar10.

The archive holds Python pickles. A pickle can run any program, so only what arrays are made of is let in. Pictures
keep their order.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bench import errors
from bench.data import downloads, specifications
from bench.data.convert import archives, layouts, shards
from bench.data.convert.options import ConvertConfig
from bench.data.convert.prepared import Prepared

Array = Any

_CLASSES = specifications.get('cifar10').label_names or ()
_BATCHES = {'train': tuple(f'data_batch_{number}' for number in range(1, 6)), 'test': ('test_batch',)}


def prepare(config: ConvertConfig, files: Mapping[str, Path], unpacked: Path) -> Prepared:
    """The dataset.

    Raises:
      errors.DataError: the archive is truncated, damaged, not CIFAR-10's, or without --partial not all of it.
    """
    (source,) = (files[file.name] for file in downloads.PUBLISHED['cifar10'])
    found = _batches(source, unpacked)
    missing = [name for names in _BATCHES.values() for name in names if name not in found]
    lacking = f'it holds no {" and no ".join(missing)}'
    if any(all(name in missing for name in names) for names in _BATCHES.values()):
        raise errors.DamagedError(f'{source} is not cifar-10-python.tar.gz: {lacking}.')
    if missing and not config.partial:
        raise errors.DataError(
            f'{source} is not all of CIFAR-10: {lacking}. Get it again, or give --partial to convert what is there.'
        )
    subsets, listing = {}, []
    for subset, names in _BATCHES.items():
        batches = [found[name] for name in names if name in found]
        images = np.concatenate([pixels for pixels, _ in batches])
        labels = np.concatenate([numbers for _, numbers in batches])
        subsets[subset] = shards.of_pixels(images, labels, layouts.LAYOUTS['cifar10'].names(subset, 1))
        listing += [images, labels]
    return Prepared(_CLASSES, subsets, tuple(listing))


def _batches(source: Path, unpacked: Path) -> dict[str, tuple[Array, Array]]:
    """Pixels, uint8 [N, 32, 32, 3], and labels, int64 [N], of the batches in an archive, by name."""
    found = {}
    archive = archives.plain(source, unpacked)
    with archive.open('rb', buffering=0) as file:
        for member in archives.members(source, file):
            name = PurePosixPath(member.name).name
            if any(name in names for names in _BATCHES.values()):
                file.seek(member.offset_data)
                found[name] = _batch(file.read(member.size), f'{source}, member {member.name}')
    return found


def _batch(data: bytes, place: str) -> tuple[Array, Array]:
    try:
        batch = _Unpickler(io.BytesIO(data), encoding='bytes').load()
        pixels, labels = (batch[key] if key in batch else batch[key.decode()] for key in (b'data', b'labels'))
        # A row is the red plane, the green and the blue, each row by row.
        images = np.asarray(pixels, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        numbers = np.asarray(labels, np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise errors.DataError(f'{place} is not a batch of CIFAR-10: {error}.') from error
    if not 0 < len(images) == len(numbers) or not set(numbers.tolist()) <= set(range(len(_CLASSES))):
        raise errors.DataError(f'{place}: {len(images)} pictures and {len(numbers)} labels from 0 to 9 are expected.')
    return images, numbers


class _Unpickler(pickle.Unpickler):
    """Reads arrays, and nothing that runs."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ('ndarray', 'dtype') and module == 'numpy':
            return getattr(np, name)
        if name == '_reconstruct' and module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f'it asks for {module}.{name}, which no array needs')
