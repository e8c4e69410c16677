"""Published archives in small, and a reader of what `convert` writes that shares nothing with TensorFlow's or with it.

The reader follows the descriptions of the formats: TFRecord (a length, its checksum, the data, its checksum; CRC-32C,
masked) and protocol buffers' wire format for the messages Example, Features, Feature and the three lists.
"""

from __future__ import annotations

import gzip
import io
import signal
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import tf_slim as slim
from checksums import masked_crc
from program import ROOT, command
from tensorflow.python.ops import control_flow_ops

from bench.data.convert import command as converting
from bench.data.convert.options import ConvertConfig
from bench.machine import capabilities

IMAGES = ROOT / 'tests' / 'data' / 'images'
SYNSETS = ('n01440764', 'n01443537', 'n01484850', 'n02105855')


def records(path: Path) -> Iterator[bytes]:
    """The data of a file's records; every checksum must match and the last record end with the file."""
    data, start = path.read_bytes(), 0
    while start < len(data):
        length, length_crc = struct.unpack_from('<QI', data, start)
        assert masked_crc(data[start : start + 8]) == length_crc
        record = data[start + 12 : start + 12 + length]
        assert (masked_crc(record),) == struct.unpack_from('<I', data, start + 12 + length)
        yield record
        start += 16 + length


def varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message's fields: bytes of those with a length, whole numbers of varints."""
    start = 0
    while start < len(data):
        tag, start = varint(data, start)
        if tag & 7 == 0:
            value, start = varint(data, start)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, start = varint(data, start)
            yield tag >> 3, data[start : start + length]
            start += length
        else:
            assert tag & 7 == 5
            yield tag >> 3, data[start : start + 4]
            start += 4


def values(feature: bytes) -> list[Any]:
    """What is in a Feature: one list, of bytes (1), floats (2) or whole numbers (3)."""
    ((kind, content),) = fields(feature)
    found: list[Any] = []
    for number, value in fields(content):
        assert number == 1
        if kind == 1:
            found.append(value)
        elif kind == 2:
            found += struct.unpack(f'<{len(value) // 4}f', value)
        elif isinstance(value, int):
            found.append(value)
        else:
            start = 0
            while start < len(value):
                item, start = varint(value, start)
                found.append(item)
    return found


def example(record: bytes) -> dict[str, list[Any]]:
    """The lists of an Example by key."""
    ((number, features),) = fields(record)
    assert number == 1
    entries = [dict(fields(entry)) for number, entry in fields(features) if number == 1]
    found = {entry[1].decode(): values(entry[2]) for entry in entries}
    assert len(found) == len(entries)
    return found


def examples(path: Path) -> list[dict[str, list[Any]]]:
    return [example(record) for record in records(path)]


@pytest.fixture
def reader() -> SimpleNamespace:
    """The reader's functions."""
    return SimpleNamespace(records=records, examples=examples)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def tar(members: dict[str, bytes], mode: str = 'w') -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            add(archive, name, data)
    return buffer.getvalue()


def imagenet(folder: Path, pictures: dict[str, dict[str, bytes]], validation: dict[int, tuple[str, bytes]]) -> Path:
    """A folder with ImageNet's archives and text files.

    Args:
      pictures: for training: by synset, then by name.
      validation: by number; each with its synset.
    """
    folder.mkdir()
    classes = {f'{synset}.tar': tar(members) for synset, members in reversed(pictures.items())}
    (folder / 'ILSVRC2012_img_train.tar').write_bytes(tar(classes))
    held_out = {f'ILSVRC2012_val_{number:08d}.JPEG': data for number, (_, data) in validation.items()}
    (folder / 'ILSVRC2012_img_val.tar').write_bytes(tar(held_out))
    lines = [validation.get(number, (SYNSETS[0],))[0] for number in range(1, max(validation) + 1)]
    (folder / 'imagenet_2012_validation_synset_labels.txt').write_text(''.join(f'{line}\n' for line in lines))
    (folder / 'imagenet_lsvrc_2015_synsets.txt').write_text(''.join(f'{synset}\n' for synset in SYNSETS))
    words = ''.join(f'{synset}\twords of {synset}, and more\n' for synset in ('n00000001', *SYNSETS))
    (folder / 'imagenet_metadata.txt').write_text(words)
    return folder


def cifar10(path: Path, batches: dict[str, tuple[np.ndarray, list[int]]]) -> Path:
    """cifar-10-python.tar.gz: batches by name, of pixels, uint8 [N, 32, 32, 3], and labels."""
    members = {f'cifar-10-batches-py/{name}': batch(*content) for name, content in batches.items()}
    path.write_bytes(gzip.compress(tar({'cifar-10-batches-py/readme.html': b'<html>', **members})))
    return path


def batch(images: np.ndarray, labels: list[int]) -> bytes:
    """What Python 2's pickle made of a dictionary of an array of rows of planes and a list: its opcodes, by hand."""
    rows = images.transpose(0, 3, 1, 2).tobytes()
    return b''.join((
        b'\x80\x02}(U\x04data',
        b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR',
        b'(K\x01J' + struct.pack('<i', len(images)) + b'J' + struct.pack('<i', 3072) + b'\x86',
        b'cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89',
        b'T' + struct.pack('<i', len(rows)) + rows + b'tb',
        b'U\x06labels](' + b''.join(b'K' + bytes([label]) for label in labels) + b'eu.',
    ))  # fmt: skip


def mnist(folder: Path, subsets: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """A folder with MNIST's files: images, uint8 [N, 28, 28], and labels, uint8 [N], by prefix (train, t10k)."""
    folder.mkdir()
    for prefix, (images, labels) in subsets.items():
        head = struct.pack('>4I', 0x803, *images.shape)
        (folder / f'{prefix}-images-idx3-ubyte.gz').write_bytes(gzip.compress(head + images.tobytes()))
        head = struct.pack('>2I', 0x801, len(labels))
        (folder / f'{prefix}-labels-idx1-ubyte.gz').write_bytes(gzip.compress(head + labels.tobytes()))
    return folder


@pytest.fixture
def archives() -> SimpleNamespace:
    """The functions that make archives."""
    return SimpleNamespace(tar=tar, imagenet=imagenet, cifar10=cifar10, mnist=mnist, synsets=SYNSETS)


@pytest.fixture
def convert() -> Callable[..., dict[str, bytes]]:
    """Converts and gives the files by name."""

    def run(dataset_name: str, source: Path | str | None, out: Path, **options: Any) -> dict[str, bytes]:
        where = None if source is None else str(source)
        config = ConvertConfig(dataset_name=dataset_name, source=where, dataset_dir=str(out), **options)
        assert config.problems(capabilities.detect) == []
        assert converting.run(config, []) == 0
        return {path.name: path.read_bytes() for path in out.iterdir()}

    return run


@pytest.fixture
def slims_reader(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Reads files with TF-Slim's own provider and decoder: a pattern of names, features, and handlers of items."""
    # TensorFlow moved them; tf_slim 1.1 looks for them where they were.
    for moved in ('case', 'cond'):
        monkeypatch.setattr(control_flow_ops, moved, getattr(tf, moved), raising=False)

    def read_all(pattern: str, features: dict[str, Any], items: dict[str, Any]) -> list[Any]:
        with tf.Graph().as_default():
            decoder = slim.tfexample_decoder.TFExampleDecoder(features, items)
            dataset = slim.dataset.Dataset(pattern, tf.TFRecordReader, decoder, None, {})
            provider = slim.dataset_data_provider.DatasetDataProvider(
                dataset, num_readers=1, shuffle=False, num_epochs=1
            )
            wanted, found = provider.get(list(items)), []
            with tf.train.MonitoredSession() as session:
                while not session.should_stop():
                    found.append(session.run(wanted))
        return found

    return read_all


@pytest.fixture
def program() -> Callable[..., subprocess.Popen[str]]:
    """Starts the program itself, as a process that lets tests watch it: they go first."""

    def start(*words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ['nice', '-n', '19', *command('convert', *words)],
            text=True,
            **{
                'stdout': subprocess.PIPE,
                'stderr': subprocess.PIPE,
                # A shell's background jobs ignore Ctrl-C, and what they start does so too.
                'preexec_fn': lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                **options,
            },
        )

    return start
