"""`convert --dataset_name=imagenet`: the archives of ILSVRC 2012 to the shards of TF-Slim's build_imagenet_data.

The archive for training is a tar of 1000 tars, one a class. Its headers are read once, to know at which byte each
picture is; pictures are then read where they are, in the shuffled order of the shards, and nothing is unpacked. That
index takes about 50 MB for the 1,281,167 pictures.

Labels are 1 to 1000 in the order of imagenet_lsvrc_2015_synsets.txt; 0 is the background, which no picture has. A
picture for validation has the synset of the line of its number. Boxes come from the file that TF-Slim's
process_bounding_boxes writes, where it is there.
"""

from __future__ import annotations

import array
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bench import errors
from bench.data import labels as label_names
from bench.data import tfrecord
from bench.data.convert import archives, layouts, shards, sources, splits
from bench.data.convert.encoders import Jpeg
from bench.data.convert.options import ConvertConfig
from bench.data.convert.pictures import Members
from bench.data.convert.prepared import Prepared
from bench.data.progress import Progress
from bench.screen import say

Array = Any

_VALIDATION_SYNSETS = 'imagenet_2012_validation_synset_labels.txt'
_VALIDATION_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.JPEG')


def prepare(config: ConvertConfig, files: Mapping[str, Path], unpacked: Path) -> Prepared:  # noqa: ARG001
    """The dataset: of the two subsets those whose archive is there.

    Raises:
      errors.DataError: an archive is truncated, damaged, or another; a text file is not what it should be.
    """
    synsets = label_names.synsets(files[label_names.SYNSETS])
    texts = label_names.imagenet(files[label_names.SYNSETS], files[label_names.WORDS])
    boxes = _Boxes(files.get(sources.IMAGENET_BOXES))
    layout, counts = layouts.LAYOUTS['imagenet'], layouts.LAYOUTS['imagenet'].counts(config.num_shards)
    subsets: dict[str, shards.Subset] = {}
    listing: list[Array] = []
    for subset, archive in (('train', sources.IMAGENET_TRAIN), ('validation', sources.IMAGENET_VALIDATION)):
        if archive not in files:
            say(f'{archive} is not in --source: {subset} is left out.')
            continue
        if subset == 'train':
            pictures, labels = _training(files[archive], synsets)
            classes = len(np.unique(labels))
            if classes < len(synsets):
                say(f'{archive} is not all of ImageNet: it has pictures of {classes} of {len(synsets)} classes.')
        else:
            pictures, labels = _validation(files[archive], synsets, files[_VALIDATION_SYNSETS])
            whole = len(label_names.synsets(files[_VALIDATION_SYNSETS]))
            if len(labels) < whole:
                say(f'{archive} is not all of ImageNet: it has {len(labels)} of {whole} pictures.')
        order = splits.shuffled(len(labels), config.seed)
        names = layout.names(subset, min(counts[subset], len(order)))
        records = _Records(pictures, labels, ('', *synsets), texts, boxes)
        subsets[subset] = shards.Subset(order, names, pictures.sizes, shards.jpegs(pictures, records.record))
        changed = np.array([files[archive].stat().st_mtime_ns])
        listing += [pictures.names, pictures.sizes, labels, changed]
    return Prepared(texts, subsets, (*listing, *boxes.arrays))


class _Records:
    """Makes the records of a subset."""

    def __init__(
        self, pictures: Members, labels: Array, synsets: tuple[str, ...], texts: tuple[str, ...], boxes: _Boxes
    ) -> None:
        self._pictures = pictures
        self._labels = labels
        self._synsets = synsets
        self._texts = texts
        self._boxes = boxes

    def record(self, index: int, jpeg: Jpeg) -> bytes:
        """The record of a picture's number and JPEG, with the features of TF-Slim's converter and no others.

        Colours are always said to be RGB in 3 channels, of grey pictures too, because that is how they are read.
        """
        label = int(self._labels[index])
        boxes = self._boxes.of(self._pictures.names[index])
        corners = {
            f'image/object/bbox/{corner}': boxes[:, column]
            for column, corner in enumerate(('xmin', 'ymin', 'xmax', 'ymax'))
        }
        return tfrecord.serialized(
            {
                **tfrecord.basic(jpeg.data, 'JPEG', label, jpeg.height, jpeg.width),
                **corners,
                'image/object/bbox/label': np.full(len(boxes), label),
                tfrecord.COLORSPACE: b'RGB',
                tfrecord.CHANNELS: 3,
                'image/class/synset': self._synsets[label].encode(),
                tfrecord.TEXT: self._texts[label].encode(),
                tfrecord.FILENAME: self._pictures.names[index],
            }
        )


class _Boxes:
    """Bounding boxes by the name of the picture.

    Raises:
      errors.DataError: a line is not a name and four numbers.
    """

    def __init__(self, path: Path | None) -> None:
        names: list[bytes] = []
        corners = array.array('f')
        for number, line in enumerate(path.read_bytes().splitlines() if path else (), 1):
            if not line.strip():
                continue
            name, *numbers = line.split(b',')
            try:
                xmin, ymin, xmax, ymax = map(float, numbers)
                if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
                    raise ValueError('not finite')
            except ValueError as error:
                raise errors.DataError(
                    f'{path}, line {number}: a name and four finite numbers are expected, and found {line!r}.'
                ) from error
            names.append(name)
            corners.extend((xmin, ymin, xmax, ymax))
        order = np.argsort(np.array(names, np.bytes_), kind='stable')
        self._names = np.array(names, np.bytes_)[order]
        self._corners = np.array(corners, np.float32).reshape(-1, 4)[order]

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Names, bytes [B], sorted, and corners, float32 [B, 4]."""
        return self._names, self._corners

    def of(self, name: bytes) -> Array:
        """(xmin, ymin, xmax, ymax) of each box of a picture in parts of its width and height, float32 [M, 4]."""
        return self._corners[slice(*(np.searchsorted(self._names, name, side) for side in ('left', 'right')))]


def _training(archive: Path, synsets: list[str]) -> tuple[Members, Array]:
    """The pictures of the tar of tars and their labels."""
    label_of = {synset: label for label, synset in enumerate(synsets, 1)}
    found = _Index()
    with archive.open('rb', buffering=0) as file, Progress(f'listing {archive.name}', 'pictures') as progress:
        for class_tar in archives.members(archive, file):
            synset, suffix = PurePosixPath(class_tar.name).stem, PurePosixPath(class_tar.name).suffix
            if not class_tar.isreg() and suffix != '.tar':
                continue
            if suffix != '.tar' or synset not in label_of:
                raise errors.DataError(
                    f'{archive} holds {class_tar.name}, and {sources.IMAGENET_TRAIN} holds a tar archive for each '
                    f'synset of {label_names.SYNSETS}, such as {synsets[0]}.tar. Is it another archive?'
                )
            for member in archives.members(archive, file, class_tar):
                found.add(member, label_of[synset])
                progress.advance(1)
    return found.members(archive)


def _validation(archive: Path, synsets: list[str], labels_file: Path) -> tuple[Members, Array]:
    """The pictures of the archive for validation and their labels."""
    label_of = {synset: label for label, synset in enumerate(synsets, 1)}
    of_picture = label_names.synsets(labels_file)
    unknown = sorted(set(of_picture) - set(synsets))
    if unknown:
        raise errors.DataError(f'{labels_file} has the synset {unknown[0]}, which {label_names.SYNSETS} has not.')
    found = _Index()
    with archive.open('rb', buffering=0) as file, Progress(f'listing {archive.name}', 'pictures') as progress:
        for member in archives.members(archive, file):
            if not member.isreg():
                continue
            match = _VALIDATION_NAME.fullmatch(PurePosixPath(member.name).name)
            if not match or not 0 < int(match[1]) <= len(of_picture):
                raise errors.DataError(
                    f'{archive} holds {member.name}, and {sources.IMAGENET_VALIDATION} holds pictures called '
                    f'ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_{len(of_picture):08d}.JPEG. Is it another archive?'
                )
            found.add(member, label_of[of_picture[int(match[1]) - 1]])
            progress.advance(1)
    return found.members(archive)


class _Index:
    """Where pictures are in an archive, as little as that takes in memory."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._numbers = array.array('q')

    def add(self, member: Any, label: int) -> None:
        """Notes a member, a tarfile.TarInfo, if it is a file."""
        if member.isreg():
            self._names.append(os.fsencode(PurePosixPath(member.name).name))
            self._numbers.extend((member.offset_data, member.size, label))

    def members(self, archive: Path) -> tuple[Members, Array]:
        """The pictures in the order of labels and names, and their labels, int64 [N].

        Raises:
          errors.DataError: there are none.
        """
        if not self._names:
            raise errors.DataError(f'{archive} holds no pictures.')
        names = np.array(self._names)
        self._names.clear()
        offsets, sizes, labels = np.array(self._numbers).reshape(-1, 3).T
        order = np.lexsort((names, labels))
        return Members(archive, archive, names[order], offsets[order], sizes[order]), labels[order]
