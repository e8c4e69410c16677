"""Downloads from a real server on this machine, which drops connections, serves other files and knows no ranges."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import errors
from bench.data import downloads

CONTENT = np.random.RandomState(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """What it has, how it behaves, and what it was asked for."""

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.files = {'/data/file.tgz': CONTENT}
        self.ranges = True
        self.wrong_ranges = False
        self.drop_after: list[int] = []
        self.failures: list[int] = []
        self.headers: dict[str, str] = {}
        self.contents: list[bytes] = []
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/data'

    def file(self, sha256: str | None = SHA256) -> downloads.File:
        return downloads.File('file.tgz', f'{self.address}/file.tgz', sha256)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers['Range']
        server.asked.append((self.path, wanted))
        content = server.files.get(self.path)
        if server.contents:
            content = server.contents.pop(0)
            server.headers['ETag'] = f'"{hashlib.sha256(content).hexdigest()}"'
        if server.failures or content is None:
            self.send_error(server.failures.pop(0) if server.failures else 404)
            return
        first = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1]) if wanted and server.ranges else 0  # type: ignore[index]
        if first >= len(content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(content)}')
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        self.send_response(206 if first or server.wrong_ranges else 200)
        if first:
            self.send_header('Content-Range', f'bytes {first}-{len(content) - 1}/{len(content)}')
        self.send_header('Content-Length', str(len(content) - first))
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        last = first + server.drop_after.pop(0) if server.drop_after else len(content)
        self.wfile.write(content[first:last])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, '_SECONDS_BETWEEN_TRIES', 0.0)
    monkeypatch.delenv(downloads.MIRROR_VARIABLE, raising=False)
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert downloads.fetch(server.file(), tmp_path / 'new', None).read_bytes() == CONTENT
    assert server.asked == [('/data/file.tgz', None)]
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['file.tgz']
    output, error = capfd.readouterr()
    assert 'downloading file.tgz: 3 of 3 MB' in output and error == ''


def test_a_dropped_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.drop_after = [1_000_000, 700_000, 300_000]
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [
        None, 'bytes=1000000-', 'bytes=1700000-', 'bytes=2000000-'
    ]  # fmt: skip


def test_many_drops_are_no_failure_as_long_as_something_comes(server: Server, tmp_path: Path) -> None:
    server.drop_after = [100_000] * 25
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT


def test_a_later_run_continues_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    server.drop_after = [1_234_567, 0, 0, 0, 0]
    with pytest.raises(errors.DataError, match='Repeat the command to continue it'):
        downloads.fetch(server.file(), tmp_path, None)
    assert (tmp_path / 'file.tgz.part').stat().st_size == 1_234_567 and not (tmp_path / 'file.tgz').exists()
    server.asked.clear()
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ['bytes=1234567-']


def test_what_a_killed_run_left_whole_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'file.tgz.part').write_bytes(CONTENT)
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ['bytes=3000000-']


def test_a_leftover_that_is_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'file.tgz.part').write_bytes(CONTENT + b'more')
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT


@pytest.mark.parametrize('wrong_ranges', [False, True])
def test_a_server_without_ranges_is_asked_for_all_of_it_again(
    server: Server, tmp_path: Path, wrong_ranges: bool
) -> None:
    """Also one that says 206 and sends everything: its bytes must not be put behind those that are there."""
    server.ranges, server.wrong_ranges = False, wrong_ranges
    server.drop_after = [1_000_000]
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_file_without_a_checksum_is_not_continued_from_another_run(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'file.tgz.part').write_bytes(b'of another file')
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == CONTENT


def test_a_leftover_of_another_server_is_not_taken_for_a_fault_of_this_one(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'file.tgz.part').write_bytes(b'<html>Please log in</html>')
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ['bytes=26-', None]
    assert 'downloading it anew' in capfd.readouterr().out


def test_a_file_of_another_address_is_not_taken_for_the_one_that_is_wanted(server: Server, tmp_path: Path) -> None:
    """Nor are its bytes those of before where what an address has was changed: there is no checksum that would tell."""
    server.files['/wrong/file.tgz'] = b'<html>Please log in</html>'
    wrong = downloads.File('file.tgz', server.address.replace('/data', '/wrong/file.tgz'))
    assert downloads.fetch(wrong, tmp_path, None).read_bytes() == b'<html>Please log in</html>'
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == CONTENT
    server.headers['ETag'] = '"2"'
    server.files['/data/file.tgz'] = CONTENT[::-1]
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == CONTENT[::-1]


def test_a_file_of_the_same_address_is_downloaded_once_as_long_as_it_is_unchanged_there(
    server: Server, tmp_path: Path
) -> None:
    for _ in range(2):
        path = downloads.fetch(server.file(None), tmp_path, None)
        path.write_bytes(b'kept')
    assert path.read_bytes() == b'kept' and len(server.asked) == 2


def test_a_file_of_the_users_own_is_not_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'file.tgz').write_bytes(b'my own')
    with pytest.raises(errors.DataError, match='is there, and did not come from'):
        downloads.fetch(server.file(None), tmp_path, None)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'my own']


def test_an_earlier_download_stays_until_the_next_is_whole(server: Server, tmp_path: Path) -> None:
    server.files['/data/file.tgz'] = b'first'
    downloads.fetch(server.file(None), tmp_path, None)
    server.files['/data/file.tgz'] = CONTENT
    server.drop_after = [1000] + [0] * 4
    with pytest.raises(errors.DataError, match='Repeat the command to try again'):
        downloads.fetch(server.file(None), tmp_path, None)
    assert (tmp_path / 'file.tgz').read_bytes() == b'first'
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file.tgz', 'file.tgz.origin']


def test_a_file_without_a_checksum_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.headers['ETag'] = '"1"'
    server.drop_after = [1000, 500]
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, 'bytes=1000-', 'bytes=1500-']


def test_a_file_that_changes_between_two_answers_is_begun_anew(server: Server, tmp_path: Path) -> None:
    other = np.random.RandomState(1).bytes(len(CONTENT))
    server.contents, server.drop_after = [CONTENT, other, other], [1000]
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == other
    (tmp_path / 'file.tgz.origin').write_text('{}')
    server.contents, server.drop_after = [CONTENT, other] * 10, [1000] * 20
    with pytest.raises(errors.DataError, match='another file with each answer'):
        downloads.fetch(server.file(None), tmp_path, None)


def test_what_proved_damaged_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.headers['ETag'] = '"1"'
    server.files['/data/file.tgz'] = damaged = bytes(len(CONTENT))
    path = downloads.fetch(server.file(None), tmp_path, None)
    server.files['/data/file.tgz'] = CONTENT
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == damaged, 'it looks the same'
    assert downloads.forget([path]) == [f'{server.address}/file.tgz']
    assert downloads.fetch(server.file(None), tmp_path, None).read_bytes() == CONTENT


@pytest.mark.parametrize('published', [False, True])
def test_what_was_downloaded_again_is_the_same_version_and_other_content_is_another(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    server.headers['ETag'] = '"1"'
    file = server.file() if published else server.file(None)
    monkeypatch.setitem(downloads.PUBLISHED, 'flowers', (file,) if published else ())
    versions = []
    for folder in ('1', '2'):
        path = downloads.fetch(file, tmp_path / folder, None)
        os.utime(path, ns=(0, path.stat().st_mtime_ns - int(folder) * 10**9))
        versions.append(downloads.version(path))
    assert versions[0] == versions[1]
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert downloads.version(path) == path.stat().st_mtime_ns != versions[0]


def test_another_file_than_the_published_one_is_refused_and_deleted(server: Server, tmp_path: Path) -> None:
    server.files['/data/file.tgz'] = b'<html>Please log in</html>'
    with pytest.raises(errors.DataError, match=r'is not the published file\.tgz.*--mirror'):
        downloads.fetch(server.file(), tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_that_is_there_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'file.tgz').write_bytes(CONTENT[:-1])
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT


def test_a_missing_file_is_told_at_once_with_what_to_do(server: Server, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(errors.DataError, match=r'file\.tgz: the server answers 404.*--mirror.*--download_dir'):
        downloads.fetch(server.file(), tmp_path, None)
    assert len(server.asked) == 1 and list(tmp_path.iterdir()) == []


def test_a_server_that_is_overloaded_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 500]
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT
    server.failures = [503] * 10
    with pytest.raises(errors.DataError, match='the server answers 503'):
        downloads.fetch(server.file(), tmp_path / 'other', None)


def test_no_server_at_all_is_told_with_its_address(server: Server, tmp_path: Path) -> None:
    file = server.file()
    server.shutdown()
    server.server_close()
    with pytest.raises(errors.DataError, match=r'127\.0\.0\.1.*Connection refused'):
        downloads.fetch(file, tmp_path, None)


def test_an_archive_that_is_sent_as_a_compressed_transfer_stays_as_it_is(server: Server, tmp_path: Path) -> None:
    """Some servers say of every .tgz that it is content compressed by gzip, which HTTP libraries then unpack."""
    server.headers['Content-Encoding'] = 'x-gzip'
    assert downloads.fetch(server.file(), tmp_path, None).read_bytes() == CONTENT


def test_mirrors_of_flag_and_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = downloads.File('file.tgz', 'http://nowhere.invalid/file.tgz', SHA256)
    server.files['/mirror/file.tgz'] = CONTENT
    address = server.address.removesuffix('/data')
    assert downloads.fetch(published, tmp_path / '1', f'{address}/data').read_bytes() == CONTENT
    monkeypatch.setenv(downloads.MIRROR_VARIABLE, f'{address}/mirror/')
    assert downloads.fetch(published, tmp_path / '2', None).read_bytes() == CONTENT
    assert downloads.fetch(published, tmp_path / '3', f'{address}/data/').read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ['/data/file.tgz', '/mirror/file.tgz', '/data/file.tgz']


def test_an_address_of_the_users_own_is_one_file_or_the_folder_of_several() -> None:
    (file,) = downloads.at('flowers', 'https://host/a/photos.tgz?token=1')
    assert (file.name, file.address, file.sha256) == ('photos.tgz', 'https://host/a/photos.tgz?token=1', None)
    addresses = {file.address for file in downloads.at('mnist', 'https://host/mnist/')}
    assert len(addresses) == 4 and 'https://host/mnist/t10k-labels-idx1-ubyte.gz' in addresses


def test_a_folder_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(errors.DataError, match=r'file\.tgz cannot be written'):
        downloads.fetch(server.file(), tmp_path / 'file' / 'folder', None)
