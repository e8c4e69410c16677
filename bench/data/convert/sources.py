"""Where a dataset's files are: found in --source, or downloaded. Knows nothing of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.data import downloads

FLOWERS = 'flower_photos.tgz'
IMAGENET_TRAIN = 'ILSVRC2012_img_train.tar'
IMAGENET_VALIDATION = 'ILSVRC2012_img_val.tar'
# The one file of ImageNet that nobody needs.
IMAGENET_BOXES = 'imagenet_2012_bounding_boxes.csv'
FOLDER = 'folder'


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


def size(files: Mapping[str, Path]) -> int:
    """Bytes of all files, those in folders included."""
    paths = [path for file in files.values() for path in (file.rglob('*') if file.is_dir() else (file,))]
    return sum(path.stat().st_size for path in paths if path.is_file())


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
