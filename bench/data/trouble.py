"""Finding the records that cannot be used: to tell what made reading fail, and to leave them out where that is wanted.

Shards are read again for it, several at a time. Each record's frame is walked here, so that one record with a wrong
checksum does not end the search, as it ends TensorFlow's reading of the file.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

# Reads single records anywhere in a file and checks their sums; not among TensorFlow's public names.
from tensorflow.python.lib.io.tf_record import tf_record_random_reader

from bench import errors
from bench.data import frames
from bench.data.datasets import BadRecord, Dataset
from bench.data.preprocessing import pictures
from bench.data.progress import Progress
from bench.machine import cpu
from bench.screen import Screen

Decode = Callable[[bytes], Any]

_SECONDS_BETWEEN_LOOKS = 0.2
_AGAIN = 'Copy or convert it again.'
# Bad records that are written out.
_SHOWN = 20


def explained(error: Exception, dataset: Dataset, screen: Screen) -> errors.DataError:
    """What to tell instead of TensorFlow's error when reading `dataset` failed: the file and the record that caused it.

    The shards are read again to find it, so this takes as long as reading up to there.
    """
    text = getattr(error, 'message', str(error))
    screen.line('Reading failed; looking for the record that caused it.')
    # Decoding takes far longer than reading, so other causes are looked for first.
    found = find(dataset, 1, screen, decode_pictures=False)
    if not found and isinstance(error, tf.errors.InvalidArgumentError):
        found = find(dataset, 1, screen, decode_pictures=True)
    if found:
        return errors.DataError(found[0].text)
    shards = f'{dataset.shards[0].parent} ({len(dataset.shards)} shards)'
    return errors.DataError(f'{shards}: reading failed, though each record is sound on its own: {text}')


def without_bad_records(dataset: Dataset, most: int, screen: Screen) -> Dataset:
    """The dataset without its bad records, each of which is told.

    All records are read and all pictures decoded, once, before anything else.

    Args:
      most: bad records that are tolerated.

    Raises:
      errors.DataError: there are more, or what follows one in its file is lost too.
    """
    screen.line('Looking for bad records; every picture is decoded once.')
    found = find(dataset, most + 1, screen, decode_pictures=True)
    lost = [bad for bad in found if bad.end is None]
    if lost:
        raise errors.DataError(f'{lost[0].text} What follows it in the file is lost too, so it cannot be skipped.')
    if len(found) > most:
        shown = '\n'.join(bad.text for bad in found[:_SHOWN])
        raise errors.DataError(f'More records are bad than --skip_bad_records={most} tolerates:\n{shown}')
    for bad in found:
        screen.line(f'Skipped: {bad.text}')
    return dataclasses.replace(dataset, bad=tuple(found))


def warnings(dataset: Dataset) -> list[dict[str, str]]:
    """For the record of a run: each record that was left out."""
    return [{'code': 'bad_record_skipped', 'text': bad.text} for bad in dataset.bad]


def find(dataset: Dataset, most: int, screen: Screen, *, decode_pictures: bool) -> list[BadRecord]:
    """The first bad records, in the order of the shards.

    Args:
      most: after so many the search ends.
      decode_pictures: decode each record's picture too.
    """
    threads = cpu.usable_cpus()
    reached = [0] * len(dataset.shards)
    stopped = threading.Event()
    found: list[BadRecord] = []
    progress = Progress('checking records', 'MB', 1e-6, screen)
    # One that is gone since the start is told by the search.
    progress.start(0, sum(shard.stat().st_size for shard in dataset.shards if shard.exists()))
    with contextlib.ExitStack() as stack:
        decode = stack.enter_context(_decoder(dataset, threads)) if decode_pictures else None
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(threads))

        def search(number: int) -> list[BadRecord]:
            seen: list[BadRecord] = []
            for bad, end in _records(dataset.shards[number], dataset, decode):
                reached[number] = end
                if bad:
                    seen.append(bad)
                if stopped.is_set() or len(seen) >= most:
                    break
            return seen

        searches = [pool.submit(search, number) for number in range(len(dataset.shards))]
        try:
            told = 0
            for future in searches:
                while not future.done():
                    concurrent.futures.wait([future], _SECONDS_BETWEEN_LOOKS)
                    before, told = told, sum(reached)
                    progress.advance(told - before)
                found += future.result()
                if len(found) >= most:
                    break
        finally:
            stopped.set()
            for future in searches:
                future.cancel()
    return found[:most]


@contextlib.contextmanager
def _decoder(dataset: Dataset, threads: int) -> Iterator[Decode]:
    """A function that decodes a picture as the pipeline does, and may be called by several threads."""
    graph = tf.Graph()
    with graph.as_default():
        encoded = tf.placeholder(tf.string, [])
        if dataset.specification.jpeg:
            picture: pictures.Picture = pictures.Jpeg(encoded, 3, exact=True)
        else:
            picture = pictures.any_format(encoded, 3)
        # Its shape alone is fetched: the pixels would have to be copied.
        shape = tf.shape(picture.whole())
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=threads)
    with contextlib.closing(tf.Session(graph=graph, config=config)) as session:
        yield session.make_callable(shape, [encoded])


def _records(shard: Path, dataset: Dataset, decode: Decode | None) -> Iterator[tuple[BadRecord | None, int]]:
    """Each record of a shard: what is bad about it, or None; and the byte behind it."""
    try:
        size = shard.stat().st_size
        reader = tf_record_random_reader(str(shard))
        with shard.open('rb', buffering=0) as file:
            index = offset = 0
            while offset < size:
                file.seek(offset)
                header = file.read(frames.HEADER)
                length = frames.record_length(header)
                end = size if length is None else offset + length + frames.FRAME
                if length is None or end > size:
                    yield _bad_frame(shard, index, offset, size, header), size
                    return
                text = _trouble_at(reader, offset, dataset, decode)
                place = f'{shard}, record {index} at byte {offset}: '
                yield BadRecord(shard, index, offset, end, place + text) if text else None, end
                index, offset = index + 1, end
    except (OSError, tf.errors.OpError) as error:
        yield BadRecord(shard, 0, 0, None, f'{shard} cannot be read: {error}'), 0


def _bad_frame(shard: Path, index: int, offset: int, size: int, header: bytes) -> BadRecord:
    """What is wrong where no whole record begins."""
    place = f'{shard}, record {index} at byte {offset}'
    if len(header) < frames.HEADER:
        text = f'{place}: the file is truncated: it ends {len(header)} bytes into the record. {_AGAIN}'
        return BadRecord(shard, index, offset, size, text)
    length = frames.record_length(header)
    if length is not None:
        end = offset + length + frames.FRAME
        text = f'{place}: the file is truncated: the record ends at byte {end}, and the file at {size}. {_AGAIN}'
        return BadRecord(shard, index, offset, size, text)
    if index == 0 and header[:2] == b'\x1f\x8b':
        text = f'{shard} is compressed by gzip, and shards are read as they are. Unpack it with gunzip.'
    elif index == 0 and int.from_bytes(header[:8], 'little') > size:
        text = f'{shard} is not a TFRecord file: it begins with {header[:8]!r}, no length of a record. {_AGAIN}'
    else:
        text = f'{place}: the checksum (CRC) of its length does not match, so the file is damaged. {_AGAIN}'
    return BadRecord(shard, index, offset, None, text)


def _trouble_at(reader: Any, offset: int, dataset: Dataset, decode: Decode | None) -> str | None:
    try:
        record, _ = reader.read(offset)
    except tf.errors.DataLossError:
        return f'its checksum (CRC) does not match, so the file is damaged. {_AGAIN}'
    return _trouble_in_record(record, dataset, decode)


def _trouble_in_record(record: bytes, dataset: Dataset, decode: Decode | None) -> str | None:
    specification = dataset.specification
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return 'it is not a tf.train.Example, as slim writes them.'
    for key, kind in ((specification.image_key, 'bytes_list'), (specification.label_key, 'int64_list')):
        count = len(getattr(feature[key], kind).value) if key in feature else 0
        if count != 1:
            keys = ', '.join(sorted(name for name in feature if name != key)) or 'no keys'
            return f'it must have one value ({kind}) under the key {key!r}, and has {count}; it has {keys}.'
    label = feature[specification.label_key].int64_list.value[0]
    if label not in dataset.labels:
        offset = f' with --labels_offset={dataset.labels_offset}' if dataset.labels_offset else ''
        return (
            f'its label is {label}, and the labels of {dataset.name} are {dataset.labels.start} to '
            f'{dataset.labels.stop - 1}{offset}. Is this another dataset than --data_name says?'
        )
    return _trouble_in_picture(feature[specification.image_key].bytes_list.value[0], dataset, decode)


def _trouble_in_picture(encoded: bytes, dataset: Dataset, decode: Decode | None) -> str | None:
    if decode is None:
        return None
    if dataset.specification.jpeg and not encoded.startswith(b'\xff\xd8'):
        return f'its picture is not a JPEG: it begins with {encoded[:8]!r}.'
    try:
        decode(encoded)
    except tf.errors.InvalidArgumentError:
        kind = 'JPEG' if encoded.startswith(b'\xff\xd8') else 'picture'
        return f'its picture is a broken {kind} of {len(encoded)} bytes, which cannot be decoded.'
    return None
