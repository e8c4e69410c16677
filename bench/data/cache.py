"""Whether a dataset fits in memory, told before it is read into it.

Knows nothing of TensorFlow.
"""

from __future__ import annotations

import io

from bench.data import frames
from bench.data.datasets import Dataset
from bench.machine import memory

KINDS = ('encoded', 'decoded')

# Of the memory that is free: the rest is for the network and for batches on their way.
_SHARE = 0.75
# Records of each of so many shards, from which the size of the decoded pictures is estimated.
_SHARDS = 16
_RECORDS = 8
_MAGIC = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF8')


def problems(dataset: Dataset, kind: str, channels: int) -> list[str]:
    """Why a cache would not fit, as a sentence; empty where it would.

    Args:
      kind: 'encoded', the records as they are in the shards, or 'decoded', the pictures' pixels.
      channels: of the decoded pictures.
    """
    import psutil

    encoded = sum(shard.stat().st_size for shard in dataset.shards)
    needed = encoded if kind == 'encoded' else round(encoded * _growth(dataset, channels))
    free = min(psutil.virtual_memory().available, memory.usable_bytes())
    if needed <= _SHARE * free:
        return []
    text = (
        f'--cache_data={kind} would hold {"about " if kind == "decoded" else ""}{_size(needed)} in memory, and of the '
        f'{_size(free)} that are free here {_size(_SHARE * free)} may be used for it.'
    )
    other = f' Use --cache_data=encoded, which takes {_size(encoded)}.' if encoded <= _SHARE * free else ''
    return [text + (other or ' Leave the flag out: shards are read again in every epoch.')]


def _growth(dataset: Dataset, channels: int) -> float:
    """Bytes of decoded pictures for each byte of records, from a sample; 1 where it holds no pictures."""
    from PIL import Image

    encoded = decoded = 0
    step = -(-len(dataset.shards) // _SHARDS)
    for shard in dataset.shards[::step]:
        for record in frames.first_records(shard, _RECORDS):
            begins = [begin for begin in map(record.find, _MAGIC) if begin >= 0]
            for begin in begins:
                try:
                    with Image.open(io.BytesIO(record[begin:])) as image:
                        decoded += image.width * image.height * channels
                except (OSError, SyntaxError, ValueError):
                    continue
                encoded += len(record) + frames.FRAME
                break
    return decoded / encoded if encoded else 1.0


def _size(number: float) -> str:
    for unit, factor in (('GiB', 2**30), ('MiB', 2**20)):
        if number >= factor:
            return f'{number / factor:.1f} {unit}'
    return f'{number / 2**10:.1f} KiB'
