"""Names of classes: from the folder, from what is known, and downloaded from a real server where that is asked for."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import python, run

from bench import cli
from bench.data import downloads, labels

SYNSETS = ('n01440764', 'n01443537', 'n01484850')
WORDS = 'n00000001\tanother\nn01484850\tgreat white shark\nn01440764\ttench, Tinca tinca\nn01443537\tfish\n'
NAMES = '0:background\n1:tench, Tinca tinca\n2:fish\n3:great white shark\n'


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a server that has the two files of ImageNet's names, small ones, which count as the published ones."""
    folder = tmp_path / 'served'
    folder.mkdir()
    (folder / labels.SYNSETS).write_text(''.join(f'{synset}\n' for synset in SYNSETS))
    (folder / labels.WORDS).write_text(WORDS)
    files = tuple(
        downloads.File(path.name, f'http://nowhere.invalid/{path.name}', hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
    )
    monkeypatch.setitem(downloads.PUBLISHED, 'imagenet', files)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_a_failed_download_names_no_flag_that_labels_does_not_have(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(['labels', '--fetch', f'--mirror={address}/nowhere', f'--download_dir={tmp_path / "kept"}']) == 1
    told = capsys.readouterr().err
    assert '404' in told and '--download_dir' in told and '--source' not in told


def test_names_are_downloaded_when_that_is_asked_for_and_are_alone_on_standard_output(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(['labels', 'imagenet', '--fetch', f'--mirror={address}']) == 0
    output, error = capsys.readouterr()
    assert output == NAMES and 'downloading imagenet_metadata.txt' in error
    kept = tmp_path / 'kept'
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cli.main(['labels', '--fetch', f'--mirror={address}', '--download_dir=~/kept']) == 0
    assert {path.name for path in kept.iterdir()} == {labels.SYNSETS, labels.WORDS}
    # What is kept is not asked for again.
    assert cli.main(['labels', '--fetch', '--mirror=http://127.0.0.1:9', f'--download_dir={kept}']) == 0
    assert capsys.readouterr().out == 2 * NAMES


def test_a_server_with_other_files_gives_no_names(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'served' / labels.WORDS).write_text('<html>')
    assert cli.main(['labels', '--fetch', f'--mirror={address}']) == 1
    output, error = capsys.readouterr()
    assert output == '' and f'is not the published {labels.WORDS}' in error


def test_names_that_are_known_need_no_download(tmp_path: Path) -> None:
    assert run('labels', 'mnist').stdout.splitlines()[6] == '6:six'
    own = tmp_path / 'own.json'
    own.write_text('{"splits": {"train": 1}, "labels": ["finch", "tit"]}')
    assert run('labels', str(own)).stdout == '0:finch\n1:tit\n'
    (tmp_path / 'labels.txt').write_text(NAMES)
    assert run('labels', f'--data_dir={tmp_path}').stdout == NAMES
    assert run('labels', '--data_name=folder', f'--dataset_dir={tmp_path}').stdout == NAMES


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['imagenet'], 'give --fetch to download them'),
        (['imagenet', '--data_dir=@'], 'give --fetch to download them'),
        (['folder'], 'name their folder with --data_dir'),
        (['folder', '--data_dir=@', '--fetch'], 'name their folder with --data_dir'),
        (['mnist', '--fetch'], '--fetch has no effect: the names of mnist are known'),
        (['mnist', '--download_dir=x'], '--download_dir has no effect without --fetch'),
        (['flower'], 'Did you mean flowers?'),
        (['--dataset_dir=@/no'], '--dataset_dir=@/no: there is no such folder'),
        (['--data_dir=@/broken'], 'line 1: expected `0:` and the name of a class'),
    ],
)
def test_names_that_cannot_be_told_are_refused_with_what_to_do(tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'labels.txt').write_text('daisy\n')
    done = run('labels', *(word.replace('@', str(tmp_path)) for word in words))
    assert (done.returncode, done.stdout) == (2, '')
    assert told.replace('@', str(tmp_path)) in done.stderr and len(done.stderr.splitlines()) == 1


def test_names_do_not_load_tensorflow() -> None:
    code = 'import sys; from bench.cli import main; main(["labels", "mnist"]); sys.exit("tensorflow" in sys.modules)'
    assert python(code).returncode == 0
