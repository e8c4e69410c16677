"""From TFRecord shards to batches that a network takes: the tf.data pipeline of training, evaluation and timing.

What is computed for each picture is only what must be: parsing, decoding the part that is wanted, resizing. The rest
(mirroring, colours, normalization, the change of layout) is one XLA-compiled function of the whole batch, which reads
and writes each value once; as TensorFlow operations it would take as long as the decoding.

All of that runs on threads of the pipeline's own, as many as there are processors, next to the threads that compute
the step: whichever has work takes the processors, so that none is idle while there is work of either kind. What the
pipeline may do ahead of the step is bounded (a batch that is being filled, one that is being finished, two that
wait), so that beside a slow step it soon rests.

The order is deterministic in training too: with the number of calls in flight a small multiple of the threads,
keeping the order costs nothing that could be measured, and a seed repeats a run exactly. Random numbers are stateless
functions of the seed and of the picture's place in the stream, so threads cannot exchange them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from bench import errors
from bench.data import preprocessing as families
from bench.data import tfrecord
from bench.data.datasets import Dataset
from bench.data.preprocessing import Preprocessing, colours, pictures

Tensor = Any

# Shards read at the same time.
_INTERLEAVED = 8
# Records held for shuffling: 110 MB of ImageNet. Its shards were shuffled when they were written.
_SHUFFLED = 1024
_PREFETCHED = 2
# Of a file that are read at once: TensorFlow's own number.
_READ_BYTES = 256 * 1024
# Added to a seed, so that mirroring does not depend on the colours drawn with that seed.
_ANOTHER_SEED = (1 << 32, 0)

# What a session raises where reading fails: TensorFlow quotes a record that it cannot parse, which may be no text.
ERRORS = (tf.errors.OpError, UnicodeDecodeError)


def batches(
    dataset: Dataset,
    *,
    batch_size: int,
    image_size: int,
    channels: int,
    data_format: str,
    preprocessing: Preprocessing,
    is_training: bool,
    seed: int,
    num_threads: int,
    repeat: bool = True,
    cache: str | None = None,
    worker: int = 0,
    workers: int = 1,
) -> Any:
    """A tf.data.Dataset of (images, labels).

    Args:
      dataset: what to read.
      image_size: height and width of the images.
      channels: of the images; pictures are converted.
      data_format: 'NHWC' or 'NCHW'.
      preprocessing: what is done to the pictures.
      is_training: shuffle and distort; otherwise the records come in the order of the shards.
      seed: of order and distortions; the same seed gives the same batches.
      num_threads: of the pipeline's own.
      repeat: begin again after the last record; every record comes once in each pass.
      cache: keep what the first pass read in memory for the others: 'encoded', the records, or 'decoded', the pixels
        of whole pictures. Shards then keep the order in which the first pass read them, as records do not.
      worker, workers: which of so many equal processes this is. Each record goes to exactly one of them: by shards,
        or by records where there are fewer shards than workers.

    Returns:
      Batches of images, float32 [N, H, W, C] or [N, C, H, W], and labels, int32 [N]. A last batch that is not full is
      left out.

    Raises:
      errors.DataError: no record is left to be read.
    """
    family = families.module(preprocessing.family)
    seen = family if is_training else families.module(preprocessing.eval_method or preprocessing.family)
    specification = dataset.specification
    # More calls than a batch has pictures let the next batch begin before the last picture of this one is ready. No
    # more of them run at the same time than there are threads.
    calls = max(batch_size + 1, 2 * num_threads)

    def place(index: Tensor) -> Tensor:
        # Among the elements of all workers, so that no two draw the same chances.
        return index if workers == 1 else index * workers + worker

    def picture_of(record: Tensor) -> tuple[pictures.Picture, Tensor]:
        encoded, label = tfrecord.parse(record, specification.image_key, specification.label_key)
        if specification.jpeg:
            return pictures.Jpeg(encoded, channels, exact=not is_training), label
        return pictures.any_format(encoded, channels), label

    def decode(record: Tensor) -> tuple[Tensor, Tensor]:
        picture, label = picture_of(record)
        return picture.whole(), label

    def crop(index: Tensor, element: Any) -> tuple[Tensor, Tensor]:
        picture, label = (pictures.Pixels(element[0]), element[1]) if cache == 'decoded' else picture_of(element)
        resize = pictures.resizer(preprocessing.resize_method, index % batch_size)
        if is_training:
            return seen.crop_training(picture, image_size, tf.stack([seed, place(index)]), resize), label
        return seen.crop_evaluation(picture, image_size, resize), label

    @tf.function(jit_compile=True, autograph=False)
    def compiled(images: Tensor, batch_seed: Tensor) -> Tensor:
        if is_training:
            images = _distorted(images, batch_seed, family, preprocessing)
        images = family.normalize(images)
        return tf.transpose(images, [0, 3, 1, 2]) if data_format == 'NCHW' else images

    def finish(index: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        inside = tf.reduce_all((labels >= dataset.labels.start) & (labels < dataset.labels.stop))
        with tf.control_dependencies([tf.Assert(inside, ['label outside the classes:', labels], summarize=batch_size)]):
            labels = tf.cast(labels - dataset.labels_offset, tf.int32)
        # The second number is negative, so that no picture's seed is a batch's too.
        return compiled(images, tf.stack([seed, -1 - place(index)])), labels

    elements = _records(dataset, worker, workers, seed, is_training=is_training)
    if cache == 'decoded':
        elements = elements.map(decode, num_parallel_calls=2 * num_threads)
    if cache is not None:
        elements = elements.cache()
    if is_training:
        elements = elements.shuffle(_SHUFFLED, seed=seed + 1)
    if repeat:
        elements = elements.repeat()
    cropped = elements.enumerate().map(crop, num_parallel_calls=calls)
    whole = cropped.batch(batch_size, drop_remainder=True).enumerate()
    return whole.map(finish, num_parallel_calls=1).prefetch(_PREFETCHED).with_options(_options(num_threads))


def position(iterator: Any) -> Any:
    """An iterator's exact position, for a tf.train.Saver: restored, the iterator goes on with the same next batch.

    It holds the records that wait in the pipeline, those for shuffling among them: 110 MB of ImageNet, and with a
    cache all that is in it.
    """
    return tf.data.experimental.make_saveable_from_iterator(iterator)


def _distorted(images: Tensor, seed: Tensor, family: Any, preprocessing: Preprocessing) -> Tensor:
    """A training batch mirrored and with its colours changed."""
    if family.MIRRORED:
        images = pictures.mirror(images, seed + _ANOTHER_SEED)
    if preprocessing.distortions is None:
        return family.distort(images, seed)
    return colours.distort(images, seed) if preprocessing.distortions else images


def _records(dataset: Dataset, worker: int, workers: int, seed: int, *, is_training: bool) -> Any:
    """A worker's serialized examples, each once: shards shuffled for training, in their order otherwise."""
    by_shards = workers <= len(dataset.shards)
    segments = _segments(dataset, worker, workers) if by_shards else _segments(dataset, 0, 1)
    if not segments:
        raise errors.DataError(f'{dataset.shards[0].parent}: no record of {dataset.subset} is left to be read.')
    files, offsets, counts = zip(*segments, strict=True)
    pieces = tf.data.Dataset.from_tensor_slices((list(files), np.array(offsets, np.int64), np.array(counts, np.int64)))
    if is_training:
        pieces = pieces.shuffle(len(segments), seed=seed)
        # As many calls as read ahead; more would only hold more records.
        records = pieces.interleave(_read, cycle_length=_INTERLEAVED, num_parallel_calls=2)
    else:
        records = pieces.flat_map(_read)
    return records if by_shards else records.shard(workers, worker)


def _segments(dataset: Dataset, worker: int, workers: int) -> list[tuple[str, int, int]]:
    """What to read: file, first byte, and number of records or -1 for all up to the file's end."""
    found = []
    for shard in dataset.shards[worker::workers]:
        index = offset = 0
        for bad in sorted((bad for bad in dataset.bad if bad.shard == shard), key=lambda bad: bad.index):
            assert bad.end is not None, 'what nothing can be read behind is never skipped'
            found.append((str(shard), offset, bad.index - index))
            index, offset = bad.index + 1, bad.end
        if offset < shard.stat().st_size:
            found.append((str(shard), offset, -1))
    return [segment for segment in found if segment[2]]


def _read(file: Tensor, offset: Tensor, count: Tensor) -> Any:
    """A segment's records."""
    # tf.data.TFRecordDataset has no offset.
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=file, compression_type='', buffer_size=_READ_BYTES, byte_offsets=offset
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(count)


def _options(num_threads: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = num_threads
    # Operations on one picture are too small to be shared between threads.
    options.threading.max_intra_op_parallelism = 1
    # Nothing is left to tune: every parallel call above has a fixed number.
    options.autotune.enabled = False
    return options
