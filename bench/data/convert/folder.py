"""`convert --dataset_name=folder`: a folder of class folders of pictures to TFRecord shards that `benchmark` reads.

The shards are in the layout of slim's ImageNet (bench/data/tfrecord.py). Classes are numbered from 0 in the order of
their folders' names and listed in labels.txt, as slim's flowers are. JPEGs are copied as they are; other pictures, and
JPEGs in CMYK, become RGB JPEGs of quality 100, as in slim's ImageNet converter. The same source and seed give the
same bytes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import io
import itertools
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tensorflow.compat.v1 as tf
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import errors
from bench.config import ConvertConfig
from bench.data import datasets, tfrecord
from bench.machine import cpu

Item = TypeVar('Item')
Result = TypeVar('Result')

_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
_QUALITY = 100
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class _Picture:
    path: Path
    label: int
    text: str


def run(config: ConvertConfig, words: Sequence[str]) -> int:  # noqa: ARG001  (every command is given its words)
    """Converts and tells what was written.

    Raises:
      errors.DataError: a class without pictures, broken pictures, or shards that cannot be written. No shard is left.
    """
    # `problems` of the config refused to go on without them.
    assert config.source is not None and config.data_dir is not None
    source, out = Path(config.source), Path(config.data_dir)
    classes, pictures = _find_pictures(source)
    random.Random(config.seed).shuffle(pictures)
    count = round(len(pictures) * config.validation_fraction)
    subsets = {'train': pictures[count:], 'validation': pictures[:count]}
    if not subsets['train']:
        raise errors.DataError(
            f'--validation_fraction={config.validation_fraction} leaves none of {len(pictures)} pictures for training.'
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        # In a folder of its own first: no program takes half a dataset for a whole one.
        with tempfile.TemporaryDirectory(dir=out, prefix='.unfinished-') as unfinished:
            _write(Path(unfinished), classes, subsets, config.num_shards)
            for path in sorted(Path(unfinished).iterdir()):
                path.replace(out / path.name)
    except (OSError, tf.errors.OpError) as error:
        raise errors.DataError(f'--data_dir={out}: the shards cannot be written: {error}') from error
    done = ' and '.join(f'{len(chosen)} for {subset}' for subset, chosen in subsets.items() if chosen)
    print(f'Wrote {len(pictures)} pictures of {len(classes)} classes to {out}: {done}.')
    return 0


def _find_pictures(source: Path) -> tuple[list[str], list[_Picture]]:
    """Names of the classes, and all pictures in a fixed order."""
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith('.'))
    pictures: list[_Picture] = []
    others: list[Path] = []
    for label, folder in enumerate(folders):
        files = sorted(path for path in folder.rglob('*') if path.is_file() and not path.name.startswith('.'))
        found = [path for path in files if path.suffix.lower() in _SUFFIXES]
        if not found:
            raise errors.DataError(
                f'{folder} holds no pictures (files named {", ".join("*" + suffix for suffix in _SUFFIXES)}). '
                'Each folder in --source is a class: put pictures there, or move the folder away.'
            )
        pictures += [_Picture(path, label, folder.name) for path in found]
        others += [path for path in files if path.suffix.lower() not in _SUFFIXES]
    if others:
        print(f'Left out {len(others)} files that are no pictures by their names, such as {others[0]}.')
    return [folder.name for folder in folders], pictures


def _write(folder: Path, classes: list[str], subsets: dict[str, list[_Picture]], num_shards: int) -> None:
    """Writes labels.txt and all shards to `folder`."""
    labels = ''.join(f'{label}:{name}\n' for label, name in enumerate(classes))
    (folder / datasets.LABELS_FILE).write_text(labels, encoding='utf-8')
    threads = cpu.usable_cpus()
    # Only broken pictures are caught, so that one run tells of all of them.
    broken: list[str] = []
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=threads)) as session:
        encoded = tf.placeholder(tf.string, [])
        check = session.make_callable(tf.shape(tf.io.decode_jpeg(encoded)), [encoded])

        def convert(picture: _Picture) -> bytes | str:
            try:
                return _example(picture, check)
            except errors.DataError as error:
                return str(error)

        with _progress(sum(map(len, subsets.values()))) as advance:
            for subset, pictures in subsets.items():
                count = min(num_shards, len(pictures))
                results = _in_order(convert, pictures, threads)
                for index in range(count):
                    size = len(pictures) * (index + 1) // count - len(pictures) * index // count
                    with tf.io.TFRecordWriter(str(folder / datasets.shard_name(subset, index, count))) as writer:
                        for _ in range(size):
                            result = next(results)
                            if isinstance(result, str):
                                broken.append(result)
                            else:
                                writer.write(result)
                            advance()
    if broken:
        more = f'\nand {len(broken) - _SHOWN} more.' if len(broken) > _SHOWN else ''
        raise errors.DataError('\n'.join(broken[:_SHOWN]) + more)


def _example(picture: _Picture, check: Callable[[bytes], Any]) -> bytes:
    """The serialized example of a picture.

    Args:
      check: decodes a JPEG as the input pipeline will.

    Raises:
      errors.DataError: it cannot be decoded.
    """
    try:
        data = picture.path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            channels = 1 if image.mode == 'L' else 3
            # MPO is a JPEG with further pictures behind it, as telephones write them.
            if image.format not in ('JPEG', 'MPO') or image.mode not in ('RGB', 'L'):
                channels, buffer = 3, io.BytesIO()
                image.convert('RGB').save(buffer, 'JPEG', quality=_QUALITY)
                data = buffer.getvalue()
        check(data)
    except tf.errors.InvalidArgumentError as error:
        raise errors.DataError(f'{picture.path}: the picture is broken: TensorFlow cannot decode it.') from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise errors.DataError(f'{picture.path}: the picture is broken or cannot be read: {error}') from error
    return tfrecord.example(
        data,
        label=picture.label,
        text=picture.text,
        filename=f'{picture.text}/{picture.path.name}',
        height=height,
        width=width,
        channels=channels,
    )


def _in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Results in the order of `items`, computed by threads, with only a few of them waiting in memory."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each of `total` pictures; shows a bar on a terminal, a line a tenth elsewhere."""
    columns = TextColumn('converting'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    numbers = itertools.count(1)
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task('', total=total)

        def advance() -> None:
            done = next(numbers)
            bar.advance(task)
            if bar.disable and done * 10 // total > (done - 1) * 10 // total:
                print(f'converting: {done} of {total} pictures', flush=True)

        yield advance
