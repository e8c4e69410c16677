"""Writing shards: pictures become records in threads, records become shards in order, one shard after the other.

Threads are enough for all cores, because decoding, encoding, reading and the checksums of records are done outside of
Python's lock; and unlike processes they end with the program, also where that is killed. At most a few chunks of
pictures for each thread are in memory at a time, so memory does not depend on the size of the dataset.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from bench import errors
from bench.data import tfrecord
from bench.data.convert.encoders import Encoders, Jpeg
from bench.data.convert.pictures import Encoded
from bench.data.convert.workplace import Workplace
from bench.data.progress import Progress

Array = Any
Examples = Callable[[Encoders, Array], list[bytes | errors.DataError]]

# Of one chunk, which is one piece of work of a thread.
_BYTES = 1 << 22
_PICTURES = 256
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Subset:
    """A part of a dataset and the shards that it becomes.

    Attributes:
      order: the numbers of its pictures in the order of the records, int64 [M].
      shards: names of the files; each has the same number of records, or one more.
      sizes: about how many bytes of memory each picture takes, int64 [N].
      examples: makes the records of some pictures, given by their numbers; what cannot be is a DataError in its place.
    """

    order: Array
    shards: tuple[str, ...]
    sizes: Array
    examples: Examples

    def of_shard(self, index: int) -> Array:
        """The numbers of the pictures of one shard."""
        count, shards = len(self.order), len(self.shards)
        return self.order[count * index // shards : count * (index + 1) // shards]


def jpegs(pictures: Encoded, record: Callable[[int, Jpeg], bytes]) -> Examples:
    """What makes records of encoded pictures, given what makes the record of a picture's number and JPEG."""

    def examples(encoders: Encoders, indices: Array) -> list[bytes | errors.DataError]:
        found: list[bytes | errors.DataError] = []
        for index in map(int, indices):
            data = pictures.read(index)
            try:
                found.append(record(index, encoders.jpeg(data)))
            except errors.DataError as error:
                found.append(errors.DataError(f'{pictures.place(index)}: {error}'))
        return found

    return examples


def of_pixels(images: Array, labels: Array, shards: tuple[str, ...]) -> Subset:
    """A subset of pixels, uint8 [N, H, W, C], in their order, with the records of TF-Slim's MNIST and CIFAR-10."""
    count, height, width, channels = images.shape

    def examples(encoders: Encoders, indices: Array) -> list[bytes | errors.DataError]:
        return [
            tfrecord.serialized(tfrecord.basic(png, 'png', int(labels[index]), height, width))
            for index, png in zip(indices, encoders.pngs(images[indices]), strict=True)
        ]

    return Subset(np.arange(count), shards, np.full(count, height * width * channels), examples)


def write(subsets: Iterable[Subset], place: Workplace, *, threads: int, tolerated: int) -> None:
    """Writes the shards that are not finished yet.

    Args:
      tolerated: how many broken pictures to leave out.

    Raises:
      errors.DataError: more pictures are broken, or a shard cannot be written. Finished shards are kept.
    """
    subsets = list(subsets)
    pieces = [(subset, index) for subset in subsets for index in range(len(subset.shards))]
    done = sum(len(subset.of_shard(index)) for subset, index in pieces if place.is_done(subset.shards[index]))
    todo = [(subset, index) for subset, index in pieces if not place.is_done(subset.shards[index])]
    # Also those that an earlier try left out: they are told again, and tolerated or not.
    broken = [text for name in (subset.shards[index] for subset, index in pieces) for text in place.left_out(name)]
    with contextlib.ExitStack() as stack:
        encoders = stack.enter_context(Encoders(threads))
        progress = stack.enter_context(Progress('converting', 'pictures'))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(threads))
        stack.callback(pool.shutdown, cancel_futures=True)
        progress.start(done, sum(len(subset.order) for subset in subsets))
        if done:
            are = 'picture is' if done == 1 else 'pictures are'
            progress.line(f'{done} {are} in shards that are finished already: going on after them.')
        for text in broken[:tolerated]:
            progress.line(f'left out: {text}')
        chunks = ((shard, chunk) for shard in todo for chunk in _chunks(*shard))
        results = _in_order(pool, lambda item: item[0][0].examples(encoders, item[1]), chunks, 2 * threads)
        for subset, index in todo:
            _write_shard(subset, index, results, place, progress, broken, tolerated)
    if len(broken) > tolerated:
        raise errors.DataError(_all_broken(broken, tolerated, complete=True))


def _write_shard(
    subset: Subset,
    index: int,
    results: Iterator[list[bytes | errors.DataError]],
    place: Workplace,
    progress: Progress,
    broken: list[str],
    tolerated: int,
) -> None:
    """Writes one shard; one that lacks more pictures than may be is not kept."""
    name, left = subset.shards[index], len(subset.of_shard(index))
    before = len(broken)
    try:
        with tf.io.TFRecordWriter(str(place.part(name))) as writer:
            while left:
                found = next(results)
                for example in found:
                    if isinstance(example, bytes):
                        writer.write(example)
                    else:
                        broken.append(str(example))
                        if len(broken) <= tolerated:
                            progress.line(f'left out: {example}')
                left -= len(found)
                progress.advance(len(found))
                if len(broken) > tolerated + _SHOWN:
                    raise errors.DataError(_all_broken(broken, tolerated, complete=False))
        if len(broken) == before or len(broken) <= tolerated:
            place.keep(name, broken[before:])
    except (OSError, tf.errors.OpError) as error:
        # TensorFlow's is the path, a semicolon and the system's words.
        message = error.message.rpartition('; ')[2] if isinstance(error, tf.errors.OpError) else error.strerror
        raise errors.DataError(
            f'{place.part(name)} cannot be written: {message}. Finished shards are kept: when it can be, repeat the '
            'command, and it goes on after them.'
        ) from error
    finally:
        place.part(name).unlink(missing_ok=True)


def _chunks(subset: Subset, index: int) -> Iterator[Array]:
    """The pictures of a shard in pieces of work."""
    pictures = subset.of_shard(index)
    starts = np.cumsum(subset.sizes[pictures]) // _BYTES
    cuts = np.flatnonzero(np.diff(starts)) + 1
    for piece in np.split(pictures, cuts):
        yield from np.split(piece, range(_PICTURES, len(piece), _PICTURES))


def _in_order(
    pool: concurrent.futures.Executor, function: Callable[[Any], Any], items: Iterable[Any], ahead: int
) -> Iterator[Any]:
    """Results in the order of `items`, with at most `ahead` of them computed or waiting to be."""
    waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _all_broken(broken: Sequence[str], tolerated: int, *, complete: bool) -> str:
    """What is broken, and what to do; where the search for more ended there, nobody knows how many there are."""
    more = f'\nand {len(broken) - _SHOWN} more.' if len(broken) > _SHOWN else ''
    allowed = f', and --skip_bad_records={tolerated} allows fewer' if tolerated else ''
    least = '' if complete else 'At least '
    first = f'{least}{len(broken)} of the pictures cannot be converted{allowed}:'
    last = f'Repair or remove them, or give --skip_bad_records={len(broken)} to leave so many out.'
    if not complete:
        last = (
            'The search ended there. Repair or remove them, or leave them out by --skip_bad_records=N with a larger N; '
            'with the number of all pictures, each broken one is told.'
        )
    return '\n'.join([first, *broken[:_SHOWN]]) + f'{more}\n{last}'
