"""`convert --dataset_name=mnist`: MNIST's four files to the two of TF-Slim's download_and_convert_mnist.

The files are in the format that yann.lecun.com/exdb/mnist describes: a number that tells the kind, the lengths of the
dimensions, all as 4 bytes with the highest first, and then the values, a byte each. Pictures keep their order. Label 6
is called six; TF-Slim's labels.txt says size.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench import errors
from bench.data import specifications
from bench.data.convert import layouts, shards
from bench.data.convert.options import ConvertConfig
from bench.data.convert.prepared import Prepared

Array = Any

_CLASSES = specifications.get('mnist').label_names or ()
_PREFIXES = {'train': 'train', 'test': 't10k'}


def prepare(config: ConvertConfig, files: Mapping[str, Path], unpacked: Path) -> Prepared:  # noqa: ARG001
    """The dataset.

    Raises:
      errors.DataError: a file is truncated, damaged, or not MNIST's.
    """
    subsets, listing = {}, []
    for subset, prefix in _PREFIXES.items():
        images_file, labels_file = files[f'{prefix}-images-idx3-ubyte.gz'], files[f'{prefix}-labels-idx1-ubyte.gz']
        images, labels = read(images_file, 3), read(labels_file, 1)
        if images.shape[1:] != (28, 28) or labels.max(initial=0) >= len(_CLASSES):
            raise errors.DataError(
                f'{images_file} and {labels_file} do not hold pictures of 28 x 28 with labels 0 to 9.'
            )
        if len(images) != len(labels):
            raise errors.DataError(
                f'{images_file} holds {len(images)} pictures and {labels_file} {len(labels)} labels: they do not '
                'belong together.'
            )
        subsets[subset] = shards.of_pixels(images[..., np.newaxis], labels, layouts.LAYOUTS['mnist'].names(subset, 1))
        listing += [images, labels]
    return Prepared(_CLASSES, subsets, tuple(listing))


def read(path: Path, dimensions: int) -> Array:
    """The values of a file, uint8, with so many dimensions.

    Raises:
      errors.DataError: the file is truncated, damaged, or another.
    """
    try:
        with gzip.open(path) as file:
            data = file.read()
    except EOFError as error:
        raise errors.DamagedError(
            f'{path} is truncated: its last bytes are missing. Download or copy it again.'
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise errors.DamagedError(f'{path} is not compressed by gzip, or it is damaged: {error}.') from error
    start = 4 + 4 * dimensions
    # 8: unsigned bytes.
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < start:
        raise errors.DamagedError(f'{path} is not the file of MNIST that it is called: it begins with {data[:4]!r}.')
    shape = np.frombuffer(data, '>u4', dimensions, offset=4).astype(np.int64)
    if len(data) - start != shape.prod() or not len(data) > start:
        raise errors.DamagedError(
            f'{path} should hold {" x ".join(map(str, shape))} values, and holds {len(data) - start}. '
            'Download or copy it again.'
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
