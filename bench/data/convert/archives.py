"""Tar archives as they are published: what is in them and at which byte, without unpacking.

A truncated archive is an error. Python's tarfile takes one that ends between two members for a whole one, so the block
of zeros is looked for that ends every archive.
"""

from __future__ import annotations

import gzip
import math
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bench import errors
from bench.data.progress import Progress

_BLOCK = 512
_CHUNK = 1 << 20
_AGAIN = 'Download or copy it again.'


def members(archive: Path, file: BinaryIO, inner: tarfile.TarInfo | None = None) -> Iterator[tarfile.TarInfo]:
    """The members of a plain tar archive; their offset_data is from the beginning of the file.

    Args:
      archive: the file's path.
      file: the file, open without a buffer; it may be moved between two members.
      inner: the member of the archive whose members are wanted, where it is itself a tar archive.

    Raises:
      errors.DataError: it is no tar archive, or it is truncated.
    """
    place, start, end = f'{archive}', 0, math.inf
    if inner is not None:
        place, start, end = f'{archive}, member {inner.name},', inner.offset_data, inner.offset_data + inner.size
    try:
        file.seek(start)
        with tarfile.open(fileobj=file, mode='r:') as tar:
            while (member := tar.next()) is not None:
                # tarfile remembers all members, which would be a gigabyte for a million pictures.
                tar.members.clear()  # type: ignore[attr-defined]
                if member.offset_data + member.size > end:
                    break
                yield member
            file.seek(tar.offset)
            if tar.offset > end or file.read(_BLOCK) != bytes(_BLOCK):
                raise errors.DamagedError(f'{place} is truncated at byte {tar.offset} or damaged there. {_AGAIN}')
    except tarfile.ReadError as error:
        if 'unexpected end' in str(error):
            raise errors.DamagedError(f'{place} is truncated: {error}. {_AGAIN}') from error
        raise errors.DamagedError(f'{place} is not a tar archive, or it is damaged: {error}.') from error


def plain(archive: Path, unpacked: Path) -> Path:
    """The archive itself where it is a plain tar; where it is compressed by gzip, a copy of it that is not.

    Raises:
      errors.DataError: it is truncated or damaged, or the copy cannot be written.
    """
    with archive.open('rb') as file:
        if file.read(2) != b'\x1f\x8b':
            return archive
    try:
        with (
            archive.open('rb') as file,
            gzip.open(file) as source,
            unpacked.open('wb') as target,
            Progress(f'unpacking {archive.name}', 'MB', 1e-6) as progress,
        ):
            progress.start(0, archive.stat().st_size)
            read = 0
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                before, read = read, file.tell()
                progress.advance(read - before)
    except EOFError as error:
        raise errors.DamagedError(f'{archive} is truncated: its last bytes are missing. {_AGAIN}') from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise errors.DamagedError(f'{archive} is damaged: {error}. {_AGAIN}') from error
    return unpacked
