"""Where a dataset's files are: found in --source, or downloaded. Knows nothing of TensorFlow."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from bench import errors
from bench.data import downloads

FLOWERS = 'flower_photos.tgz'
IMAGENET_TRAIN = 'ILSVRC2012_img_train.tar'
IMAGENET_VALIDATION = 'ILSVRC2012_img_val.tar'
# The one file of ImageNet that nobody needs.
IMAGENET_BOXES = 'imagenet_2012_bounding_boxes.csv'
FOLDER = 'folder'
# Of pictures in class folders.
SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def problems(name: str, source: str | None) -> list[str]:
    """What keeps --source from being that of the dataset `name`, each as a sentence."""
    if source is None:
        return _NOT_GIVEN.get(name, [])
    if downloads.is_address(source):
        if name == 'imagenet':
            return [f'--source={source}: imagenet is read from a folder. Download its archives into one.']
        if not all(file.name for file in downloads.at(name, source)):
            return [f'--source={source} names no file.']
        return []
    path = Path(source)
    if not path.exists():
        return [f'--source={source}: there is no such file or folder.']
    if name in ('imagenet', 'mnist') and not path.is_dir():
        return [f'--source={source} is a file. Name the folder that holds it and the others of {name}.']
    return _folder_problems(name, path) if path.is_dir() else []


def local(name: str, source: Path) -> dict[str, Path]:
    """The files of a source that is here, by the names that they are published by.

    The pictures of `folder`, and of flowers that were unpacked, are one entry: the folder that holds the class folders.
    """
    if name == 'folder':
        return {FOLDER: source}
    wanted = [file.name for file in downloads.PUBLISHED[name]]
    if source.is_file():
        return {wanted[0]: source}
    if name == 'imagenet':
        wanted += [IMAGENET_TRAIN, IMAGENET_VALIDATION, IMAGENET_BOXES]
    if name == 'flowers' and not (source / FLOWERS).is_file():
        unpacked = source / 'flower_photos'
        return {FLOWERS: unpacked if unpacked.is_dir() else source}
    return {file: source / file for file in wanted if (source / file).is_file()}


def find(name: str, source: str | None, mirror: str | None, folder: Path) -> dict[str, Path]:
    """The files of a dataset, of which those that are not in `source` are downloaded to `folder`.

    Raises:
      errors.DataError: a file cannot be downloaded.
    """
    if source is not None and downloads.is_address(source):
        names = [file.name for file in downloads.PUBLISHED.get(name, ())] or [FOLDER]
        return {
            key: downloads.fetch(file, folder, None)
            for key, file in zip(names, downloads.at(name, source), strict=True)
        }
    found = local(name, Path(source)) if source is not None else {}
    missing = [file for file in downloads.PUBLISHED.get(name, ()) if file.name not in found]
    return found | {file.name: downloads.fetch(file, folder, mirror) for file in missing}


def digest(files: Mapping[str, Path]) -> str:
    """A text that differs where files, or the pictures in class folders, have other names or lengths.

    Raises:
      errors.DataError: a folder cannot be read.
    """
    found = []
    for key, path in files.items():
        if path.is_dir():
            places = files_of_classes(path)
            found += [(os.fsencode(name), state.st_size) for name, state in places if is_picture(name)]
        else:
            found.append((os.fsencode(key), path.stat().st_size))
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()


def is_picture(name: str) -> bool:
    """Whether a file in a class folder is one, by its name."""
    return Path(name).suffix.lower() in SUFFIXES


def files_of_classes(source: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files of the class folders that are not hidden: the name of each within the source, and its state.

    Raises:
      errors.DataError: something cannot be read, or a link leads to a folder that it is in.
    """
    for folder in class_folders(source):
        for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
            if Path(place).parent.resolve().is_relative_to(Path(place).resolve()):
                raise errors.DataError(f'{place} is a link to a folder that it is in. Remove it.')
            folders[:] = [name for name in folders if not name.startswith('.')]
            for path in (Path(place, name) for name in files if not name.startswith('.')):
                try:
                    state = path.stat()
                except OSError as error:
                    _refuse(error)
                if stat.S_ISREG(state.st_mode):
                    yield path.relative_to(source).as_posix(), state


def _refuse(error: OSError) -> NoReturn:
    raise errors.DataError(
        f'{error.filename} cannot be read: {error.strerror}. Mend that, or move it out of the class folders.'
    ) from error


def class_folders(path: Path) -> list[Path]:
    """The folders that are classes, sorted by name."""
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith('.'))


_NOT_GIVEN = {
    'imagenet': [
        f'--source is not given: name the folder that holds {IMAGENET_TRAIN} and {IMAGENET_VALIDATION}. No program '
        'can download them: register at https://www.image-net.org and download them there.'
    ],
    'folder': ['--source is not given: name the folder (or tar archive) that holds a folder of pictures a class.'],
}


def _folder_problems(name: str, path: Path) -> list[str]:
    """What a folder lacks to be the source of a dataset."""
    found = local(name, path)
    if name == 'imagenet':
        if IMAGENET_TRAIN in found or IMAGENET_VALIDATION in found:
            return []
        return [f'--source={path} holds neither {IMAGENET_TRAIN} nor {IMAGENET_VALIDATION}. Name the folder with them.']
    if name in ('folder', 'flowers'):
        (place,) = found.values()
        classes = class_folders(place) if place.is_dir() else []
        if len(classes) > 1 or place.is_file():
            return []
        what = f'only the folder {classes[0].name}' if classes else 'no folders'
        wanted = 'each of 2 or more classes needs one, with its pictures'
        if name == 'flowers':
            wanted = f'{FLOWERS} is wanted, or the five folders that are in it'
        return [f'--source={path} holds {what}: {wanted}.']
    missing = [file.name for file in downloads.PUBLISHED[name] if file.name not in found]
    if missing:
        return [
            f'--source={path} does not hold {", ".join(missing)}. Name the folder that does, or leave the flag out.'
        ]
    return []
