"""A conversion that is repeated: nothing is done again but what was damaged, and nothing of another source is kept."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.data import downloads
from bench.data.convert import command, workplace
from bench.data.convert.options import ConvertConfig
from bench.machine import capabilities

# What the fixtures of these names are.
Convert = Callable[..., Any]
Capture = pytest.CaptureFixture[str]

IMAGES = Path(__file__).parents[3] / 'data' / 'images'
PICTURE = (IMAGES / 'colours_80x60.jpg').read_bytes()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server that has a folder's files."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes of 8 pictures each, of which one is broken, and each of which differs from the others."""
    for name in ('daisy', 'tulip'):
        (tmp_path / 'source' / name).mkdir(parents=True)
        for number in range(8):
            (tmp_path / 'source' / name / f'{number}.jpg').write_bytes(PICTURE + f'{name} {number}'.encode())
    (tmp_path / 'source' / 'daisy' / '8.jpg').write_bytes(b'no picture')
    return tmp_path / 'source'


def test_imagenet_whose_text_files_were_downloaded_is_known_again(
    tmp_path: Path, archives: SimpleNamespace, convert: Convert, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    synset = archives.synsets[0]
    folder = archives.imagenet(tmp_path / 'imagenet', {synset: {'1.JPEG': PICTURE}}, {1: (synset, PICTURE)})
    (tmp_path / 'served').mkdir()
    for path in folder.glob('*.txt'):
        path.rename(tmp_path / 'served' / path.name)
    files = tuple(
        downloads.File(path.name, f'http://nowhere.invalid/{path.name}', hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (tmp_path / 'served').iterdir()
    )
    monkeypatch.setitem(downloads.PUBLISHED, 'imagenet', files)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    options: dict[str, Any] = {'num_shards': 1, 'download_dir': '~/kept'}
    with serving(tmp_path / 'served') as mirror:
        first = convert('imagenet', folder, tmp_path / 'out', mirror=mirror, **options)
    assert len(list((tmp_path / 'home' / 'kept').iterdir())) == len(files)
    capsys.readouterr()
    assert convert('imagenet', folder, tmp_path / 'out', mirror=mirror, **options) == first
    assert 'already: nothing to do' in capsys.readouterr().out


def test_an_archive_that_is_downloaded_again_for_a_lost_shard_is_no_other_source(
    source: Path,
    tmp_path: Path,
    archives: SimpleNamespace,
    convert: Convert,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served, out = tmp_path / 'served', tmp_path / 'out'
    served.mkdir()
    pictures = {str(file.relative_to(source)): file.read_bytes() for file in source.glob('*/[0-7].jpg')}
    (served / 'photos.tar').write_bytes(archives.tar(pictures))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with serving(served) as address:
        whole = convert('folder', f'{address}/photos.tar', out, num_shards=4)
        kept = {path.name: path.stat().st_mtime_ns for path in out.glob('*-of-*')}
        del kept['train-00001-of-00004']
        (out / 'train-00001-of-00004').unlink()
        capsys.readouterr()
        assert convert('folder', f'{address}/photos.tar', out, num_shards=4) == whole
    assert {shard: (out / shard).stat().st_mtime_ns for shard in kept} == kept
    assert 'starting anew' not in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['folder', 'archive'])
def test_a_source_that_was_changed_since_a_conversion_was_stopped_is_not_mixed_in(
    source: Path,
    tmp_path: Path,
    archives: SimpleNamespace,
    convert: Convert,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    def packed() -> Path:
        if kind == 'folder':
            return source
        path = tmp_path / 'photos.tar'
        path.write_bytes(archives.tar({str(file.relative_to(source)): file.read_bytes() for file in files}))
        return path

    files = sorted(source.glob('*/*.jpg'))
    out = tmp_path / 'out'
    options: dict[str, Any] = {'num_shards': 4, 'skip_bad_records': 1}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(workplace.Workplace, 'finish', stop)
        command.run(ConvertConfig('folder', str(out), str(packed()), **options), [])
    before = packed().stat().st_mtime_ns
    for path in files:
        state = path.stat()
        path.write_bytes(path.read_bytes().replace(b'daisy', b'DAISY').replace(b'tulip', b'TULIP'))
        # File systems count time in steps.
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000_000))
    os.utime(packed(), ns=(before, before + 1_000_000_000))
    wanted = convert('folder', packed(), tmp_path / 'wanted', **options)
    os.utime(packed(), ns=(before, before + 2_000_000_000))
    found = convert('folder', packed(), out, **options)
    del wanted['conversion.json'], found['conversion.json']
    assert found == wanted


def test_a_picture_of_another_class_or_name_is_another_source_and_what_is_no_picture_is_not(
    source: Path, tmp_path: Path, convert: Convert
) -> None:
    (source / 'daisy' / '8.jpg').unlink()
    (tmp_path / 'linked.jpg').write_bytes(PICTURE)
    (source / 'tulip' / 'link.jpg').symlink_to(tmp_path / 'linked.jpg')
    convert('folder', source, tmp_path / 'out')
    config = ConvertConfig('folder', str(tmp_path / 'out'), str(source))
    for other in ('daisy/.DS_Store', 'daisy/notes.txt', 'README.md', '.hidden'):
        (source / other).write_text('something')
        assert config.done(), other
    changes = (('daisy/7.jpg', 'tulip/8.jpg'), ('daisy/7.jpg', 'daisy/8.jpg'), ('daisy', 'rose'))
    for before, after in changes:
        (source / before).rename(source / after)
        (told,) = config.problems(capabilities.detect)
        assert 'converted with another content of --source' in told
        (source / after).rename(source / before)
        assert config.done()
    (tmp_path / 'linked.jpg').write_bytes(PICTURE + b'more')
    assert not config.done()
    (source / 'tulip' / 'circle').symlink_to(source / 'tulip')
    (told,) = config.problems(capabilities.detect)
    assert 'circle is a link to a folder that it is in' in told


def test_a_conversion_stopped_before_its_report_is_finished(
    tmp_path: Path, archives: SimpleNamespace, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((3, 28, 28), np.uint8), np.array([1, 2, 3], np.uint8)
    source = archives.mnist(tmp_path / 'mnist', {'train': pixels, 't10k': pixels})
    whole = convert('mnist', source, tmp_path / 'whole')
    out, replace = tmp_path / 'out', Path.replace

    def stop_at_the_report(path: Path, target: Path) -> Path:
        if target == out / 'conversion.json':
            stop()
        return replace(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, 'replace', stop_at_the_report)
        command.run(ConvertConfig('mnist', str(out), str(source)), [])
    assert {path.name for path in out.iterdir()} == {*whole, '.unfinished'} - {'conversion.json'}
    assert convert('mnist', source, out) == whole


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ('name', 'damage'),
    [
        ('train-00001-of-00004', cut),
        ('train-00001-of-00004', Path.unlink),
        ('labels.txt', Path.unlink),
        ('labels.txt', lambda path: path.write_text('0:daisy\n')),
    ],
)
def test_what_was_damaged_is_converted_again_and_nothing_else(
    source: Path, tmp_path: Path, convert: Convert, capsys: Capture, name: str, damage: Callable[[Path], Any]
) -> None:
    out = tmp_path / 'out'
    options: dict[str, Any] = {'num_shards': 4, 'skip_bad_records': 1}
    whole = convert('folder', source, out, **options)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob('*-of-*') if path.name != name}
    damage(out / name)
    capsys.readouterr()
    assert convert('folder', source, out, **options) == whole
    assert {shard: (out / shard).stat().st_mtime_ns for shard in times} == times
    assert f'Missing or damaged in {out}: {name}. Converting again' in capsys.readouterr().out


def test_names_of_classes_that_were_changed_afterwards_stay(
    source: Path, tmp_path: Path, convert: Convert, capsys: Capture
) -> None:
    out = tmp_path / 'out'
    convert('folder', source, out, skip_bad_records=1)
    (out / 'labels.txt').write_text('0:Daisies\n1:Tulips\n')
    shutil.rmtree(source / 'tulip')
    config = ConvertConfig('folder', str(out), skip_bad_records=1)
    assert config.done() and command.run(config, []) == 0
    assert 'already: nothing to do' in capsys.readouterr().out
    (out / 'train-00001-of-00008').unlink()
    assert '--source is not given' in config.problems(capabilities.detect)[0]
