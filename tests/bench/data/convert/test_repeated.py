"""A conversion that is repeated: nothing is done again but what was damaged, and nothing of another source is kept."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    handler = functools.partial(Quiet, directory=tmp_path / 'served')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        mirror = f'http://127.0.0.1:{server.server_port}'
        first = convert('imagenet', folder, tmp_path / 'out', num_shards=1, mirror=mirror)
        server.shutdown()
        thread.join()
    capsys.readouterr()
    assert convert('imagenet', folder, tmp_path / 'out', num_shards=1, mirror=mirror) == first
    assert 'already: nothing to do' in capsys.readouterr().out


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
