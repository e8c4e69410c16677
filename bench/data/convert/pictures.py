"""Where a dataset's pictures are read from: files, members of a tar archive, or an array of pixels.

They are read in any order and by several threads at once, so nothing is held open between two pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from bench import errors

Array = Any


class Encoded(Protocol):
    """Encoded pictures.

    Attributes:
      sizes: bytes of each, int64 [N].
    """

    @property
    def sizes(self) -> Array: ...

    def name(self, index: int) -> str:
        """The picture's name within the source, such as 'daisy/1.jpg'."""

    def place(self, index: int) -> str:
        """What to call the picture in an error."""

    def read(self, index: int, start: int = 0) -> bytes:
        """The picture's bytes from `start` on.

        Raises:
          errors.DataError: they cannot be read, or there are fewer than when the source was listed.
        """


@dataclasses.dataclass(frozen=True)
class Files:
    """Pictures in files: `names` are relative to `root`."""

    root: Path
    names: Sequence[str]
    sizes: Array

    def name(self, index: int) -> str:
        return self.names[index]

    def place(self, index: int) -> str:
        return str(self.root / self.names[index])

    def read(self, index: int, start: int = 0) -> bytes:
        return _read(self.root / self.names[index], start, int(self.sizes[index]) - start, self.place(index))


@dataclasses.dataclass(frozen=True)
class Members:
    """Pictures in a tar archive, wherever in it: also in archives that are members of it.

    `names` are bytes [N] in an array of fixed width, because a million Python strings would take 100 MB; `source` is
    what people know the archive by, where `archive` is an unpacked copy of it.
    """

    archive: Path
    source: Path
    names: Array
    offsets: Array
    sizes: Array

    def name(self, index: int) -> str:
        return self.names[index].decode(errors='surrogateescape')

    def place(self, index: int) -> str:
        return f'{self.source}, member {self.name(index)}'

    def read(self, index: int, start: int = 0) -> bytes:
        offset, size = int(self.offsets[index]), int(self.sizes[index])
        return _read(self.archive, offset + start, size - start, self.place(index))


def _read(path: Path, offset: int, size: int, place: str) -> bytes:
    try:
        with path.open('rb', buffering=0) as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise errors.DataError(f'{place} cannot be read: {error.strerror}.') from error
    if len(data) != size:
        raise errors.DataError(f'{place} is shorter than when the source was listed. Is it being changed?')
    return data
