"""From TFRecord shards to batches that a network takes: the tf.data pipeline of training, evaluation and timing.

What is computed for each picture is only what must be: parsing, decoding the part that is wanted, resizing. The rest
(colours, normalization, the change of layout) is one XLA-compiled function of the whole batch, which reads and writes
each value once; as TensorFlow operations it would take as long as the decoding.

The order is deterministic in training too: with the number of calls in flight a small multiple of the threads,
keeping the order costs nothing that could be measured, and a seed repeats a run exactly. Random numbers are stateless
functions of the seed and of the picture's place in the stream, so threads cannot exchange them.
"""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bench import errors
from bench.data import preprocessing as families
from bench.data import tfrecord
from bench.data.datasets import Dataset

Tensor = Any

# Shards read at the same time.
_INTERLEAVED = 8
# Records held for shuffling: 110 MB of ImageNet. Its shards were shuffled when they were written.
_SHUFFLED = 1024
_PREFETCHED = 2

# What a session raises where reading fails: TensorFlow quotes a record that it cannot parse, which may be no text.
ERRORS = (tf.errors.OpError, UnicodeDecodeError)


def batches(
    dataset: Dataset,
    *,
    batch_size: int,
    image_size: int,
    channels: int,
    data_format: str,
    preprocessing: str,
    is_training: bool,
    seed: int,
    num_threads: int,
    repeat: bool = True,
) -> Any:
    """A tf.data.Dataset of (images, labels).

    Args:
      dataset: what to read.
      image_size: height and width of the images.
      channels: of the images; pictures are converted.
      data_format: 'NHWC' or 'NCHW'.
      preprocessing: family of the preprocessing.
      is_training: shuffle and distort; otherwise the records come in the order of the shards.
      seed: of order and distortions; the same seed gives the same batches.
      num_threads: of the pipeline's own.
      repeat: begin again after the last record; every record comes once in each pass.

    Returns:
      Batches of images, float32 [N, H, W, C] or [N, C, H, W], and labels, int32 [N]. A last batch that is not full is
      left out.

    Raises:
      errors.UsageError: there is no such preprocessing.
    """
    family = families.family(preprocessing)

    def crop(index: Tensor, record: Tensor) -> tuple[Tensor, Tensor]:
        encoded, label = tfrecord.parse(record)
        if is_training:
            return family.crop_training(encoded, image_size, channels, tf.stack([seed, index])), label
        return family.crop_evaluation(encoded, image_size, channels), label

    @tf.function(jit_compile=True, autograph=False)
    def compiled(images: Tensor, place: Tensor) -> Tensor:
        if is_training:
            images = family.distort(images, place)
        images = family.normalize(images)
        return tf.transpose(images, [0, 3, 1, 2]) if data_format == 'NCHW' else images

    def finish(index: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        inside = tf.reduce_all((labels >= dataset.labels.start) & (labels < dataset.labels.stop))
        with tf.control_dependencies([tf.Assert(inside, ['label outside the classes:', labels], summarize=batch_size)]):
            labels = tf.cast(labels, tf.int32)
        # The second number is negative, so that no picture's seed is a batch's too.
        return compiled(images, tf.stack([seed, -1 - index])), labels

    records = _records(dataset, is_training, seed)
    if repeat:
        records = records.repeat()
    cropped = records.enumerate().map(crop, num_parallel_calls=2 * num_threads)
    whole = cropped.batch(batch_size, drop_remainder=True).enumerate()
    return whole.map(finish, num_parallel_calls=1).prefetch(_PREFETCHED).with_options(_options(num_threads))


def trouble(error: Exception, dataset: Dataset) -> errors.DataError:
    """What to tell instead of TensorFlow's error when reading `dataset` failed: the file and the record that caused it.

    The shards are read again to find it, so this takes as long as reading up to there.
    """
    text = getattr(error, 'message', str(error))
    # Decoding takes far longer than reading, so other causes are looked for first.
    found = tfrecord.find_trouble(dataset, decode_pictures=False)
    if not found and isinstance(error, tf.errors.InvalidArgumentError):
        found = tfrecord.find_trouble(dataset, decode_pictures=True)
    if found:
        return errors.DataError(found)
    shards = f'{dataset.shards[0].parent} ({len(dataset.shards)} shards)'
    return errors.DataError(f'{shards}: reading failed, though each record is sound on its own: {text}')


def _records(dataset: Dataset, is_training: bool, seed: int) -> Any:
    """Serialized examples, each once: shards and records shuffled for training, in the shards' order otherwise."""
    shards = [str(shard) for shard in dataset.shards]
    if not is_training:
        return tf.data.TFRecordDataset(shards)
    files = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed=seed)
    records = files.interleave(
        tf.data.TFRecordDataset, cycle_length=min(_INTERLEAVED, len(shards)), num_parallel_calls=2
    )
    return records.shuffle(_SHUFFLED, seed=seed + 1)


def _options(num_threads: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = num_threads
    # Operations on one picture are too small to be shared between threads.
    options.threading.max_intra_op_parallelism = 1
    # Nothing is left to tune: every parallel call above has a fixed number.
    options.autotune.enabled = False
    return options
