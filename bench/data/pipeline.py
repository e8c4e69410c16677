"""From TFRecord shards to batches that a network takes: the tf.data pipeline of training, evaluation and timing.

Each picture is parsed, decoded as far as is wanted, resized and mirrored by itself. Changes of colour and of the layout
are one XLA-compiled function of the whole batch, normalization included, which reads and writes each value once; as
TensorFlow operations they would take as long as the decoding. Where there are none of them, pictures are normalized
one by one as well: while they are in the processor's cache that costs a fraction of another pass over the batch.

All of that runs on threads of the pipeline's own, as many as there are processors, next to the threads that compute
the step: whichever has work takes the processors, so that none is idle while there is work of either kind. What the
pipeline may do ahead of the step is bounded (a batch that is being filled, one that is being finished, two that
wait), so that beside a slow step it soon rests.

The order is deterministic in training too: with the number of calls in flight a small multiple of the threads,
keeping the order costs nothing that could be measured, and a seed repeats a run exactly. Random numbers are stateless
functions of the seed and of the picture's place in the stream, so threads cannot exchange them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
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

# No Python `if` depends on a tensor here, so that AutoGraph has nothing to rewrite.
_as_written = tf.autograph.experimental.do_not_convert

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
    work = _Work(
        dataset, batch_size, image_size, channels, data_format, preprocessing, is_training, seed, cache, worker, workers
    )
    with _graph_seed(seed):
        elements = _records(dataset, worker, workers, seed, is_training=is_training)
        if cache == 'decoded':
            elements = elements.map(work.decode, num_parallel_calls=2 * num_threads)
        if cache is not None:
            elements = elements.cache()
        if is_training:
            elements = elements.shuffle(_SHUFFLED, seed=seed + 1)
    if repeat:
        elements = elements.repeat()
    # More calls than a batch has pictures let the next batch begin before the last picture of this one is ready. No
    # more of them run at the same time than there are threads.
    calls = max(batch_size + 1, 2 * num_threads)
    pictures_done = elements.enumerate().map(work.crop, num_parallel_calls=calls)
    whole = pictures_done.batch(batch_size, drop_remainder=True).enumerate()
    return whole.map(work.finish, num_parallel_calls=1).prefetch(_PREFETCHED).with_options(_options(num_threads))


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is computed for each picture and for each batch; the fields are the arguments of `batches`."""

    dataset: Dataset
    batch_size: int
    image_size: int
    channels: int
    data_format: str
    preprocessing: Preprocessing
    is_training: bool
    seed: int
    cache: str | None
    worker: int
    workers: int

    @property
    def family(self) -> Any:
        """The module of the preprocessing."""
        return families.module(self.preprocessing.family)

    @property
    def distorting(self) -> Any:
        """The module that changes colours, or None."""
        if not self.is_training or self.preprocessing.distortions is False:
            return None
        return colours if self.preprocessing.distortions else self.family

    @property
    def by_batch(self) -> bool:
        """Whether pixels are changed in whole batches."""
        return self.data_format == 'NCHW' or (self.distorting is not None and self.distorting.CHANCES > 0)

    @_as_written
    def decode(self, record: Tensor) -> tuple[Tensor, Tensor]:
        """A record's whole picture and label."""
        picture, label = self._picture(record)
        return picture.whole(), label

    @_as_written
    def crop(self, index: Tensor, element: Any) -> tuple[Tensor, Tensor]:
        """The image and the label of an element, a record or what `decode` made of it, at a place in the stream."""
        picture: pictures.Picture
        if self.cache == 'decoded':
            picture, label = pictures.Pixels(element[0]), element[1]
        else:
            picture, label = self._picture(element)
        resize = pictures.resizer(self.preprocessing.resize_method, index % self.batch_size)
        if self.is_training:
            picture_seed = tf.stack([self.seed, self._place(index)])
            image = self.family.crop_training(picture, self.image_size, picture_seed, resize)
        else:
            seen = families.module(self.preprocessing.eval_method or self.preprocessing.family)
            image = seen.crop_evaluation(picture, self.image_size, resize)
        return image if self.by_batch else self.family.normalize(image[tf.newaxis])[0], label

    @_as_written
    def finish(self, index: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch as the network takes it."""
        images, labels = batch
        allowed = self.dataset.labels
        inside = tf.reduce_all((labels >= allowed.start) & (labels < allowed.stop))
        told = ['label outside the classes:', labels]
        with tf.control_dependencies([tf.Assert(inside, told, summarize=self.batch_size)]):
            labels = tf.cast(labels - self.dataset.labels_offset, tf.int32)
        if not self.by_batch:
            return images, labels
        # The second number is negative, so that no picture's seed is a batch's too. Drawn here, because in the
        # compiled function they would be drawn anew for every pixel.
        batch_seed = tf.stack([self.seed, -1 - self._place(index)])
        count = self.distorting.CHANCES if self.distorting is not None else 0
        chances = tf.random.stateless_uniform([count, self.batch_size, 1, 1, 1], batch_seed)
        return self._compiled()(images, chances), labels

    def _place(self, index: Tensor) -> Tensor:
        # Among the elements of all workers, so that no two draw the same chances.
        return index if self.workers == 1 else index * self.workers + self.worker

    def _picture(self, record: Tensor) -> tuple[pictures.Picture, Tensor]:
        specification = self.dataset.specification
        encoded, label = tfrecord.parse(record, specification.image_key, specification.label_key)
        if specification.jpeg:
            return pictures.Jpeg(encoded, self.channels, exact=not self.is_training), label
        return pictures.any_format(encoded, self.channels), label

    def _compiled(self) -> Any:
        """The function of a batch that XLA compiles."""

        @tf.function(jit_compile=True, autograph=False)
        def compiled(images: Tensor, chances: Tensor) -> Tensor:
            if self.distorting is not None:
                images = self.distorting.distort(images, chances)
            images = self.family.normalize(images)
            return tf.transpose(images, [0, 3, 1, 2]) if self.data_format == 'NCHW' else images

        return compiled


def position(iterator: Any) -> Any:
    """An iterator's exact position, for a tf.train.Saver: restored, the iterator goes on with the same next batch.

    It holds the records that wait in the pipeline, those for shuffling among them: 110 MB of ImageNet, and with a
    cache all that is in it.
    """
    return tf.data.experimental.make_saveable_from_iterator(iterator)


@contextlib.contextmanager
def _graph_seed(seed: int) -> Iterator[None]:
    """Makes the order one of this seed alone.

    The graph's own is another in each worker. Mixed into the order of the shards, it would give them other records to
    share, of which some would then go to several workers and some to none.
    """
    graph = tf.get_default_graph()
    graph.seed, earlier = seed, graph.seed
    try:
        yield
    finally:
        graph.seed = earlier


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


@_as_written
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
