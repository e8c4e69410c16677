"""Where a checkpoint is: a file, a folder of them, or an archive as slim's page offers it. No TensorFlow here.

A checkpoint of format V1 is one file (`vgg_16.ckpt`); one of V2 is `NAME.index` with `NAME.data-00000-of-00001`. Beside
either there may be `NAME.meta`, a graph, which is not read. A folder in which training saves has a file `checkpoint`
that says which is the newest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from bench.errors import DataError, UsageError, nearest

_FLAG = '--checkpoint_path'
_STATE = 'checkpoint'
_ARCHIVES = ('.tar.gz', '.tgz', '.tar')
# How files begin that gzip, bzip2 and xz compressed, and what a tar archive has where. No checkpoint begins so: V1's
# file and V2's index begin with a zero byte.
_COMPRESSED = (b'\x1f\x8b', b'BZh', b'\xfd7zXZ')
_MAGIC, _MAGIC_AT = b'ustar', 257
# What V2's files, and V1's graph, have after the checkpoint's name.
_PART = re.compile(r'\.(index|meta|data-\d{5}-of-\d{5})$')
# How V1's only file is called in slim's archives and by tf.train.Saver.
_V1 = re.compile(r'\.ckpt(-\d+)?$')


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be read.

    Attributes:
      path: as the user named it.
      prefix: by which TensorFlow reads it: V1's file, or V2's files up to `.index`.
      shown: the prefix as a message names it: within the archive, where that was unpacked to a temporary folder.
    """

    path: str
    prefix: str
    shown: str


def problems(path: str) -> list[str]:
    """Why there is no checkpoint at `path`, as sentences; empty where there is one. An archive is not unpacked."""
    try:
        if _archive(Path(path)) is None:
            _locate(Path(path))
    except UsageError as error:
        return list(error.problems)
    return []


@contextlib.contextmanager
def opened(path: str) -> Iterator[Checkpoint]:
    """The checkpoint that `path` names, readable until the context is left.

    Args:
      path: a V1 file; a V2 prefix or one of its files; a folder, of which the newest is taken, or its file
        `checkpoint`; a tar archive of any name, compressed or not, whose checkpoint is unpacked to a temporary folder
        meanwhile. Where an archive holds several, the name within it
        follows its own: `mobilenet.tgz/ema/model-540000`.

    Raises:
      UsageError: there is none, or more than one.
      DataError: the archive is damaged.
    """
    archive = _archive(Path(path))
    if archive is None:
        prefix = _locate(Path(path))
        yield Checkpoint(path, prefix, shown=prefix)
        return
    with tempfile.TemporaryDirectory(prefix='tf-bench-') as folder:
        _unpack(archive, Path(folder))
        within = Path(path).relative_to(archive).as_posix()
        name = _choose_packed(archive, Path(folder), within)
        yield Checkpoint(path, str(Path(folder) / name), shown=str(archive / name))


def _archive(path: Path) -> Path | None:
    """The archive that the path names, or leads into."""
    for candidate in (path, *path.parents):
        if candidate.is_file():
            return candidate if _is_archive(candidate) else None
    return None


def _is_archive(file: Path) -> bool:
    """Whether the file's content is an archive's: a browser may save one without its extension.

    Raises:
      UsageError: it cannot be read, or is called an archive and is none.
    """
    try:
        with file.open('rb') as opened_file:
            begins = opened_file.read(_MAGIC_AT + len(_MAGIC))
        if begins.startswith(_COMPRESSED) or begins[_MAGIC_AT:] == _MAGIC:
            return not _PART.search(file.name)
        if not file.name.endswith(_ARCHIVES):
            return False
        if tarfile.is_tarfile(file):
            return True
    except OSError as error:
        raise UsageError([f'{_FLAG}={file} cannot be read: {error.strerror or error}.']) from None
    looks = f'it begins with {begins[:15].decode(errors="replace")!r}' if begins else 'it is empty'
    page = ', as a web page does' if begins.lstrip().lower().startswith((b'<!doc', b'<html')) else ''
    raise UsageError([f'{_FLAG}={file} is no tar archive: {looks}{page}. Download it again.'])


def _locate(path: Path) -> str:
    """The prefix of the checkpoint that a file, a prefix or a folder stands for."""
    if path.is_dir():
        return _newest(path)
    if path.name == _STATE and path.is_file() and _state(path):
        return _newest(path.parent)
    prefix = _PART.sub('', str(path))
    if _exists(Path(prefix)):
        return prefix
    if path.exists():
        raise UsageError([f'{_FLAG}={path} is only a part of a checkpoint: {prefix}.index is not there.'])
    raise UsageError([f'{_FLAG}={path}: there is no such checkpoint.{nearest(path.name, _beside(path))}'])


def _beside(path: Path) -> list[str]:
    """The names in the path's folder that could be given instead."""
    beside = [*path.parent.glob('*')]
    others = [found for found in beside if found.name.endswith(_ARCHIVES) or (found / _STATE).is_file()]
    return [found.name for found in (*_prefixes(path.parent, '*'), *others)]


def _exists(prefix: Path) -> bool:
    return Path(f'{prefix}.index').is_file() or prefix.is_file()


def _newest(folder: Path) -> str:
    """The checkpoint that the folder's file `checkpoint` names, or the only one there is."""
    state = folder / _STATE
    if state.is_file():
        named = _state(state)
        # An absolute name is that of the folder in which it was written, of which this one may be a copy.
        candidates = [folder / named, folder / Path(named).name] if named else []
        if named and Path(named).is_absolute():
            candidates.reverse()
        for candidate in candidates:
            if _exists(candidate):
                return str(candidate)
    found = _prefixes(folder, '*')
    if not found:
        raise UsageError([f'{_FLAG}={folder}: this folder holds no checkpoint, no NAME.index and no NAME.ckpt.'])
    if len(found) > 1:
        why = 'no file `checkpoint` names the newest'
        raise UsageError([_several(str(folder), [path.name for path in found], why)])
    return str(found[0])


def _state(file: Path) -> str | None:
    """The newest checkpoint's name, of a folder's file `checkpoint`; None where the file says none."""
    named = re.search(r'^model_checkpoint_path: "(.+)"$', file.read_text(errors='replace'), re.MULTILINE)
    return named and named[1]


def _prefixes(folder: Path, pattern: str) -> list[Path]:
    """The checkpoints among the files that match."""
    files = [path for path in folder.glob(pattern) if path.is_file()]
    second = {Path(_PART.sub('', str(path))) for path in files if path.suffix == '.index'}
    return sorted(second | {path for path in files if _V1.search(path.name)})


def _choose_packed(archive: Path, folder: Path, within: str) -> str:
    """Which of an archive's checkpoints, by its name within it, '.' for the only one."""
    names = [path.relative_to(folder).as_posix() for path in _prefixes(folder, '**/*')]
    if not names:
        raise UsageError([f'{_FLAG}={archive}: this archive holds no checkpoint, no NAME.index and no NAME.ckpt.'])
    if within == '.' and len(names) > 1:
        raise UsageError([_several(str(archive), names, 'the flag does not say which')])
    wanted = names[0] if within == '.' else _PART.sub('', within)
    if wanted not in names:
        raise UsageError([f'{_FLAG}={archive}/{within}: this archive holds {", ".join(names)}.'])
    return wanted


def _several(path: str, names: Sequence[str], why: str) -> str:
    which = ', '.join(names)
    return f'{_FLAG}={path} holds {len(names)} checkpoints, and {why}: {which}. Give {_FLAG}={path}/{names[-1]}'


def _is_read(name: PurePosixPath) -> bool:
    """Whether a file of that name is one of those that restoring reads."""
    return name.suffix != '.meta' and bool(_PART.search(name.name) or _V1.search(name.name))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the checkpoints of an archive, and nothing else of it."""
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = PurePosixPath(member.name)
                if not (member.isreg() and _is_read(name)):
                    continue
                if name.is_absolute() or '..' in name.parts:
                    raise DataError(f'{archive} holds {member.name}, which leads out of it: do not trust this archive.')
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                source = members.extractfile(member)
                assert source is not None, 'a regular file has content'
                with source, target.open('wb') as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        refused = error.strerror if isinstance(error, OSError) else None
        # Where no way of reading an archive succeeds, tarfile tells of each in a line of its own.
        reason = refused or (str(error) if '\n' not in str(error) else 'its content is no tar archive')
        remedy = 'Where there is no room, set TMPDIR to a larger folder' if refused else 'Download it again'
        raise DataError(f'{archive} could not be unpacked to {folder}: {reason.rstrip(".")}. {remedy}.') from None
