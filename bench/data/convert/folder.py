"""`convert --dataset_name=folder`: a folder (or tar archive) of class folders of pictures.

Classes are numbered from 0 in the order of their folders' names and listed in labels.txt, as TF-Slim's flowers are.
The records are those of TF-Slim's ImageNet without synset and boxes. JPEGs are copied as they are; other pictures, and
JPEGs in CMYK, become RGB JPEGs. Byte-identical pictures are all for training or all for validation.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bench import errors
from bench.data import downloads, tfrecord
from bench.data.convert import archives, layouts, shards, sources, splits
from bench.data.convert.encoders import Jpeg
from bench.data.convert.options import ConvertConfig
from bench.data.convert.pictures import Encoded, Files, Members
from bench.data.convert.prepared import Prepared
from bench.screen import say

Array = Any
# As many links to links as Linux follows.
_LINKS = 40
# Offset in its file, bytes, and when it was changed last, in ns, or what tells its archive from another.
_Place = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Listing:
    """Pictures in class folders.

    Attributes:
      pictures: the pictures, in the order of their names.
      classes: names of the classes, sorted.
      labels: the label of each picture, int64 [N].
      changed: when each was changed last, in ns, or what tells the archive that it is in from another, int64 [N].
    """

    pictures: Encoded
    classes: tuple[str, ...]
    labels: Array
    changed: Array


def prepare(config: ConvertConfig, files: Mapping[str, Path], unpacked: Path) -> Prepared:
    """The dataset.

    Raises:
      errors.DataError: fewer than two classes, a class without pictures, none left for training, a broken archive.
    """
    listing = listed(files[sources.FOLDER], unpacked)

    def record(index: int, jpeg: Jpeg) -> bytes:
        label = int(listing.labels[index])
        return tfrecord.example(
            jpeg.data,
            label=label,
            text=listing.classes[label],
            filename=listing.pictures.name(index),
            height=jpeg.height,
            width=jpeg.width,
            channels=jpeg.channels,
        )

    return divided(config, listing, record)


def divided(config: ConvertConfig, listing: Listing, record: Callable[[int, Jpeg], bytes]) -> Prepared:
    """The pictures of class folders divided into training and validation.

    Args:
      record: makes the record of the picture with a number.

    Raises:
      errors.DataError: none is left for training.
    """
    pictures, layout = listing.pictures, layouts.LAYOUTS[config.dataset_name or '']
    groups = splits.twins(pictures)
    count = len(groups)
    train, validation = splits.divide(groups, config.held_out(count), config.seed)
    if not len(train):
        raise errors.DataError(
            f'{len(validation)} pictures for validation leave none of {count} for training. '
            'Give a smaller --validation_fraction.'
        )
    alike = count - len(np.unique(groups))
    if alike:
        are = 'is byte-identical to another' if alike == 1 else 'are byte-identical to others'
        say(f'{errors.number(alike, "picture")} {are}: those stay on the same side of the division.')
    counts = layout.counts(config.num_shards)
    subsets = {
        name: shards.Subset(
            order, layout.names(name, min(counts[name], len(order))), pictures.sizes, shards.jpegs(pictures, record)
        )
        for name, order in (('train', train), ('validation', validation))
        if len(order)
    }
    names = np.array([os.fsencode(pictures.name(index)) for index in range(count)])
    return Prepared(listing.classes, subsets, (names, pictures.sizes, listing.changed))


def listed(source: Path, unpacked: Path) -> Listing:
    """The pictures of a folder or tar archive.

    Args:
      unpacked: where to put what is in an archive that is compressed.

    Raises:
      errors.DataError: fewer than two classes, a class without pictures, or the archive is broken.
    """
    archive = source if source.is_dir() else archives.plain(source, unpacked)
    found = _in_folder(source) if source.is_dir() else _in_archive(archive, source)
    classes = tuple(sorted({name.partition('/')[0] for name in found if '/' in name}))
    if len(classes) < 2:
        what = f'only the class {classes[0]}' if classes else 'no classes'
        raise errors.DataError(f'{source} holds {what}: each of 2 or more needs a folder of pictures.')
    unprintable = [name for name in classes if not name.isprintable()]
    if unprintable:
        raise errors.DataError(f'{source}: the class folder {unprintable[0]!r} needs a name that can be printed.')
    names = sorted(name for name in found if '/' in name and sources.is_picture(name))
    of_class = [name.partition('/')[0] for name in names]
    empty = sorted(set(classes) - set(of_class))
    if empty:
        raise errors.DataError(
            f'{source}: the class folder {empty[0]} holds no pictures (files named '
            f'{", ".join("*" + suffix for suffix in sources.SUFFIXES)}). Put some there, or move it away.'
        )
    others = sorted(name for name in set(found) - set(names) if not name.endswith('/'))
    if others:
        what = 'that is no picture by its name' if len(others) == 1 else 'that are no pictures by their names, such as'
        say(f'Left out {errors.number(len(others), "file")} {what}: {others[0]}')
    offsets, sizes, changed = np.array([found[name] for name in names], np.int64).T
    labels = np.searchsorted(np.array(classes), np.array(of_class))
    if source.is_dir():
        return Listing(Files(source, names, sizes), classes, labels, changed)
    encoded = np.array([os.fsencode(name) for name in names])
    return Listing(Members(archive, source, encoded, offsets, sizes), classes, labels, changed)


def _in_folder(source: Path) -> dict[str, _Place]:
    """Where each file is by its name within the source; the names of class folders end in a slash."""
    found = {f'{folder.name}/': (0, 0, 0) for folder in sources.class_folders(source)}
    for name, state in sources.files_of_classes(source):
        found[name] = 0, state.st_size, state.st_mtime_ns
    return found


def _in_archive(archive: Path, source: Path) -> dict[str, _Place]:
    """Where each file of a tar archive is by its name within the one folder at its top, if there is one."""
    found, links = {}, {}
    changed = downloads.version(source)
    with archive.open('rb', buffering=0) as file:
        for member in archives.members(source, file):
            parts = PurePosixPath(member.name).parts
            if member.isreg():
                found[parts] = member.offset_data, member.size, changed
            elif (member.islnk() or member.issym()) and not _is_hidden(parts):
                # What a hard link leads to is named from the archive's top, and a symbolic link's from its own folder.
                start = '' if member.islnk() else posixpath.dirname(member.name)
                links[parts] = PurePosixPath(posixpath.normpath(posixpath.join(start, member.linkname))).parts
    for parts, target in links.items():
        for _ in range(_LINKS):
            target = links.get(target, target)  # noqa: PLW2901
        if target not in found:
            raise errors.DataError(
                f'{source}, member {"/".join(parts)}, is a link to {"/".join(target)}, which is no file there. '
                'Pack it with what its links lead to: tar --dereference'
            )
        found[parts] = found[target]
    found = {parts: place for parts, place in found.items() if not _is_hidden(parts)}
    tops = {parts[0] for parts in found if len(parts) > 1}
    inside = 1 if len(tops) == 1 else 0
    return {'/'.join(parts[inside:]): place for parts, place in found.items() if len(parts) > inside}


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith('.') for part in parts)
