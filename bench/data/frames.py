"""How records lie in a TFRecord file, read without TensorFlow: whether the file ends where a record ends.

In front of a record's data are its length (8 bytes, little-endian) and the length's masked CRC-32C (4 bytes); behind
it is the data's (4 bytes), as tensorflow/core/lib/io/record_writer.h says. TensorFlow's reader takes a file that was
cut within those first 12 bytes for one that ends there, so that must be looked for beforehand. A file that was cut
exactly between two records cannot be told from a shorter one: only the number of its records can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HEADER = 12
# All that is around the data of a record.
FRAME = 16

# How much of a file's end is searched for a record's beginning: first, at the most, and its growth.
_REACH = 1 << 18
_FURTHEST = 1 << 26
_GROWTH = 8

_ZEROS = re.compile(rb'\0{4,}')

_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        values.append(value)
    return tuple(values)


_TABLE = _table()


def record_length(header: bytes) -> int | None:
    """Bytes of a record's data, from the 12 bytes in front of it; None where their checksum does not match."""
    if len(header) < HEADER:
        return None
    crc = 0xFFFFFFFF
    for byte in header[:8]:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    # The mask: rotated and offset, so that a checksum of checksums doesn't become trivial.
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return int.from_bytes(header[:8], 'little') if masked == int.from_bytes(header[8:12], 'little') else None


def tail_problem(path: Path) -> str | None:
    """What is wrong where the file ends; None where a record ends there, or reading itself will tell.

    Takes one read of the file's last 256 KiB, more where records are longer.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        offset = _record_near_end(file, size)
        while offset is not None and offset < size:
            file.seek(offset)
            header = file.read(HEADER)
            if len(header) < HEADER:
                return f'{path} is truncated: it ends {size - offset} bytes into the record at byte {offset}.'
            length = record_length(header)
            if length is None:
                return None
            end = offset + length + FRAME
            if end > size:
                return f'{path} is truncated: the record at byte {offset} ends at byte {end}, and the file at {size}.'
            offset = end
    return None


def count(path: Path) -> int | None:
    """Number of records; None where something between them is damaged."""
    number = end = 0
    for offset, length in _places(path):
        number, end = number + 1, offset + length + FRAME
    return number if end == path.stat().st_size else None


def first_records(path: Path, most: int) -> Iterator[bytes]:
    """The data of the first records, up to the first that is damaged; their checksums are not looked at."""
    with path.open('rb') as file:
        for number, (offset, length) in enumerate(_places(path)):
            if number == most:
                return
            file.seek(offset + HEADER)
            yield file.read(length)


def _places(path: Path) -> Iterator[tuple[int, int]]:
    """(offset, bytes of data) of each record, up to the first that is damaged."""
    size = path.stat().st_size
    offset = 0
    # Unbuffered: of a hundred kilobytes, 12 bytes are wanted.
    with path.open('rb', buffering=0) as file:
        while offset < size:
            file.seek(offset)
            length = record_length(file.read(HEADER))
            if length is None or offset + length + FRAME > size:
                return
            yield offset, length
            offset += length + FRAME


def _record_near_end(file: BinaryIO, size: int) -> int | None:
    """Where a record begins, as near to the end as one is found; None where none is within reach."""
    reach = _REACH
    while True:
        start = max(0, size - reach)
        if start == 0:
            return 0
        file.seek(start)
        place = _first_header(file.read(size - start))
        if place is not None:
            return start + place
        if reach >= _FURTHEST:
            return None
        reach *= _GROWTH


def _first_header(data: bytes) -> int | None:
    """Where the first header in the data is."""
    # Lengths under 4 GiB have four zeros in their upper half; the checksum makes a chance hit 2^-32 of those.
    for zeros in _ZEROS.finditer(data):
        # Further within them, the lower half would be zeros too. A damaged file may have millions of them.
        for place in range(max(4, zeros.start()), min(zeros.start() + 4, zeros.end() - 3)):
            if record_length(data[place - 4 : place - 4 + HEADER]):
                return place - 4
    return None
