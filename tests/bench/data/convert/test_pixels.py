"""MNIST and CIFAR-10: every pixel and label in its order, as PNGs that are byte for byte TF-Slim's."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import tf_slim as slim
from PIL import Image

from bench import errors
from bench.data import downloads

# What the fixtures of these names are.
Convert = Callable[..., Any]

BASIC = {f'image/{key}' for key in ('encoded', 'format', 'class/label', 'height', 'width')}


@pytest.fixture
def digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (570, 28, 28)).astype(np.uint8)
    labels = np.arange(570, dtype=np.uint8) % 10
    return {'train': (images[:530], labels[:530]), 't10k': (images[530:], labels[530:])}


@pytest.fixture
def batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    random = np.random.RandomState(1)
    names = (*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch')
    return {
        name: (random.randint(0, 256, (8, 32, 32, 3)).astype(np.uint8), [(index + 3) % 10 for index in range(8)])
        for name in names
    }


def check(out: Path, name: str, images: np.ndarray, labels: list[int], reader: SimpleNamespace) -> None:
    """A file's records are these images, [N, H, W, C], and labels."""
    examples = reader.examples(out / name)
    assert [example['image/class/label'][0] for example in examples] == labels
    with tf.Graph().as_default(), tf.Session() as session:
        pixels = tf.placeholder(tf.uint8, [None, None, None])
        slims = session.make_callable(tf.image.encode_png(pixels), [pixels])
        for example, image in zip(examples, images, strict=True):
            assert set(example) == BASIC and example['image/format'] == [b'png']
            assert (example['image/height'][0], example['image/width'][0]) == image.shape[:2]
            decoded = np.asarray(Image.open(io.BytesIO(example['image/encoded'][0])))
            assert (decoded.reshape(image.shape) == image).all()
            assert example['image/encoded'][0] == slims(image)


def test_mnist(
    tmp_path: Path,
    digits: dict[str, tuple[np.ndarray, np.ndarray]],
    convert: Convert,
    reader: SimpleNamespace,
    archives: SimpleNamespace,
) -> None:
    out = tmp_path / 'out'
    files = convert('mnist', archives.mnist(tmp_path / 'mnist', digits), out)
    assert set(files) == {'mnist_train.tfrecord', 'mnist_test.tfrecord', 'labels.txt', 'conversion.json'}
    assert files['labels.txt'].decode().split() == [
        '0:zero', '1:one', '2:two', '3:three', '4:four', '5:five', '6:six', '7:seven', '8:eight', '9:nine'
    ]  # fmt: skip
    for prefix, name in (('train', 'mnist_train.tfrecord'), ('t10k', 'mnist_test.tfrecord')):
        images, labels = digits[prefix]
        check(out, name, images[..., np.newaxis], labels.tolist(), reader)


def test_cifar10(
    tmp_path: Path,
    batches: dict[str, tuple[np.ndarray, list[int]]],
    convert: Convert,
    reader: SimpleNamespace,
    archives: SimpleNamespace,
) -> None:
    out = tmp_path / 'out'
    # Not in order within the archive.
    source = archives.cifar10(tmp_path / 'cifar-10-python.tar.gz', dict(reversed(batches.items())))
    files = convert('cifar10', source, out)
    assert set(files) == {'cifar10_train.tfrecord', 'cifar10_test.tfrecord', 'labels.txt', 'conversion.json'}
    assert files['labels.txt'].decode().split()[:3] == ['0:airplane', '1:automobile', '2:bird']
    images, labels = zip(*(content for name, content in batches.items() if name != 'test_batch'), strict=True)
    check(out, 'cifar10_train.tfrecord', np.concatenate(images), [label for part in labels for label in part], reader)
    check(out, 'cifar10_test.tfrecord', *batches['test_batch'], reader)


@pytest.mark.parametrize(('name', 'size'), [('mnist', (28, 28, 1)), ('cifar10', (32, 32, 3))])
def test_slims_own_reader_reads_pixels_and_labels(
    tmp_path: Path,
    digits: dict[str, tuple[np.ndarray, np.ndarray]],
    batches: dict[str, tuple[np.ndarray, list[int]]],
    convert: Convert,
    archives: SimpleNamespace,
    slims_reader: Callable[..., list[Any]],
    name: str,
    size: tuple[int, int, int],
) -> None:
    out = tmp_path / 'out'
    if name == 'mnist':
        convert(name, archives.mnist(tmp_path / 'source', digits), out)
        images, labels = digits['t10k'][0][..., np.newaxis], digits['t10k'][1].tolist()
    else:
        convert(name, archives.cifar10(tmp_path / 'cifar-10-python.tar.gz', batches), out)
        images, labels = batches['test_batch']
    features = {
        'image/encoded': tf.FixedLenFeature((), tf.string, default_value=''),
        'image/format': tf.FixedLenFeature((), tf.string, default_value='raw'),
        # TF-Slim's reader of MNIST takes a list of one label, that of CIFAR-10 a scalar: both must fit.
        'image/class/label': tf.FixedLenFeature([1] if name == 'mnist' else [], tf.int64),
    }
    items = {
        'image': slim.tfexample_decoder.Image(shape=size, channels=size[2]),
        'label': slim.tfexample_decoder.Tensor('image/class/label', shape=[]),
    }
    found = slims_reader(str(out / f'{name}_test.tfrecord'), features, items)
    assert [int(label) for _, label in found] == labels
    assert (np.array([image for image, _ in found]) == images).all()


def test_an_incomplete_cifar10_is_refused_unless_that_is_what_was_asked_for(
    tmp_path: Path,
    batches: dict[str, tuple[np.ndarray, list[int]]],
    convert: Convert,
    reader: SimpleNamespace,
    archives: SimpleNamespace,
) -> None:
    del batches['data_batch_2'], batches['data_batch_4']
    source = archives.cifar10(tmp_path / 'c.tgz', batches)
    with pytest.raises(errors.DataError, match=r'it holds no data_batch_2 and no data_batch_4\..*--partial'):
        convert('cifar10', source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    convert('cifar10', source, tmp_path / 'out', partial=True)
    assert len(reader.examples(tmp_path / 'out' / 'cifar10_train.tfrecord')) == 24


class Evil:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


def test_a_pickle_that_would_run_a_program_is_refused(
    tmp_path: Path, convert: Convert, archives: SimpleNamespace
) -> None:
    content = pickle.dumps({'data': Evil(tmp_path / 'made'), 'labels': []}, protocol=2)
    members = dict.fromkeys(('data_batch_1', 'test_batch'), content)
    (tmp_path / 'c.tgz').write_bytes(gzip.compress(archives.tar(members)))
    with pytest.raises(errors.DataError, match=r'data_batch_1 is not a batch of CIFAR-10: it asks for posix\.mkdir'):
        convert('cifar10', tmp_path / 'c.tgz', tmp_path / 'out')
    assert not (tmp_path / 'made').exists() and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('labels', 'words'), [([1, 2, 3], '8 pictures and 3 labels'), ([10] * 8, 'labels from 0 to 9 are expected')]
)
def test_a_batch_whose_labels_do_not_fit_is_named(
    tmp_path: Path,
    batches: dict[str, tuple[np.ndarray, list[int]]],
    convert: Convert,
    archives: SimpleNamespace,
    labels: list[int],
    words: str,
) -> None:
    batches['data_batch_3'] = (batches['data_batch_3'][0], labels)
    with pytest.raises(errors.DataError, match=f'data_batch_3: .*{words}'):
        convert('cifar10', archives.cifar10(tmp_path / 'c.tgz', batches), tmp_path / 'out')


def test_another_archive_is_not_cifar10(tmp_path: Path, convert: Convert, archives: SimpleNamespace) -> None:
    (tmp_path / 'c.tgz').write_bytes(gzip.compress(archives.tar({'cifar-100-python/train': b'x'})))
    with pytest.raises(errors.DataError, match=r'c\.tgz is not cifar-10-python\.tar\.gz: it holds no data_batch_1'):
        convert('cifar10', tmp_path / 'c.tgz', tmp_path / 'out')


IMAGES_FILE, LABELS_FILE = 't10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'


@pytest.mark.parametrize(
    ('name', 'change', 'words'),
    [
        (IMAGES_FILE, lambda data: data[:-20], 'is truncated'),
        (IMAGES_FILE, lambda data: b'<html>', 'not compressed by gzip'),
        (IMAGES_FILE, lambda data: gzip.compress(gzip.decompress(data)[:-1]), 'should hold 40 x 28 x 28 values'),
        (IMAGES_FILE, lambda data: gzip.compress(struct.pack('>2I', 0x801, 1) + b'x'), 'not the file of MNIST'),
        (IMAGES_FILE, lambda data: gzip.compress(struct.pack('>4I', 0x803, 1, 2, 2) + b'1234'), '28 x 28'),
        (
            LABELS_FILE,
            lambda data: gzip.compress(struct.pack('>2I', 0x801, 2) + b'\1\2'),
            '2 labels: they do not belong together',
        ),
        (LABELS_FILE, lambda data: gzip.compress(struct.pack('>2I', 0x801, 40) + b'\n' * 40), 'labels 0 to 9'),
        (LABELS_FILE, lambda data: gzip.compress(b''), 'not the file of MNIST'),
    ],
)
def test_a_file_of_mnist_that_is_wrong_is_named(
    tmp_path: Path,
    digits: dict[str, tuple[np.ndarray, np.ndarray]],
    convert: Convert,
    archives: SimpleNamespace,
    name: str,
    change: Callable[[bytes], bytes],
    words: str,
) -> None:
    source = archives.mnist(tmp_path / 'mnist', digits)
    (source / name).write_bytes(change((source / name).read_bytes()))
    with pytest.raises(errors.DataError, match=rf'{name}.*{words}'):
        convert('mnist', source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize('how', ['source', 'mirror', 'download_dir'])
def test_mnist_is_downloaded_converted_and_not_left_behind(
    tmp_path: Path,
    digits: dict[str, tuple[np.ndarray, np.ndarray]],
    convert: Convert,
    archives: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    folder = archives.mnist(tmp_path / 'served', digits)
    local = convert('mnist', folder, tmp_path / 'local')
    files = tuple(
        downloads.File(path.name, f'http://nowhere.invalid/{path.name}', hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
    )
    monkeypatch.setitem(downloads.PUBLISHED, 'mnist', files)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    out, kept = tmp_path / 'out', tmp_path / 'kept'
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        address = f'http://127.0.0.1:{server.server_port}'
        options = {'mirror': address} if how != 'source' else {}
        if how == 'download_dir':
            options['download_dir'] = str(kept)
        found = convert('mnist', address if how == 'source' else None, out, **options)
        server.shutdown()
        thread.join()
    assert {name: data for name, data in found.items() if name != 'conversion.json'} == {
        name: data for name, data in local.items() if name != 'conversion.json'
    }
    assert not kept.exists() or {path.name for path in kept.iterdir()} == {path.name for path in folder.iterdir()}
    assert kept.exists() == (how == 'download_dir')
    # Repeated, with the files at hand or without, it is known to be done.
    assert convert('mnist', None, out) == found and convert('mnist', folder, out) == found
