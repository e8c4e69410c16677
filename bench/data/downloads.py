"""Published files of datasets: where they are, their checksums, and downloading them.

Downloads are pooch's: checksum, temporary name, nothing done where the file is there already. Pooch cannot continue
an interrupted download, so the transfer itself is a small class on requests that asks for the rest of a file (HTTP's
Range header, RFC 9110) as long as the server grants it. Addresses are those of TF-Slim's converters
(github.com/tensorflow/models, research/slim/datasets), for MNIST its mirror at Google, as yann.lecun.com refuses
programs. Checksums are SHA-256, of flowers and CIFAR-10 the ones that TensorFlow Datasets and Keras use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import errors
from bench.data.progress import Progress
from bench.screen import say

MIRROR_VARIABLE = 'TF_BENCH_MIRROR'

# A transfer that brought nothing so often in succession is given up.
_TRIES = 4
_SECONDS_BETWEEN_TRIES = 2.0
# To connect, and for the next bytes.
_TIMEOUT = (15, 60)
_CHUNK = 1 << 18
# Bytes as they are: some servers send a .gz as a compressed transfer, which would be unpacked on the way.
_PLAIN = {'Accept-Encoding': 'identity'}
# What tells one content of an address from another.
_TELLING = ('ETag', 'Last-Modified', 'Content-Length')
# Of the file beside a downloaded one that keeps them.
_ORIGIN = '.origin'


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a dataset: its name, its address, and its SHA-256 where that is known."""

    name: str
    address: str
    sha256: str | None = None


def _published(folder: str, checksums: dict[str, str]) -> tuple[File, ...]:
    return tuple(File(name, f'{folder}/{name}', sha256) for name, sha256 in checksums.items())


PUBLISHED = {
    'flowers': _published(
        'http://download.tensorflow.org/example_images',
        {'flower_photos.tgz': '4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c'},
    ),
    'cifar10': _published(
        'https://www.cs.toronto.edu/~kriz',
        {'cifar-10-python.tar.gz': '6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce'},
    ),
    'mnist': _published(
        'https://storage.googleapis.com/cvdf-datasets/mnist',
        {
            'train-images-idx3-ubyte.gz': '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
            'train-labels-idx1-ubyte.gz': '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c',
            't10k-images-idx3-ubyte.gz': '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6',
            't10k-labels-idx1-ubyte.gz': 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6',
        },
    ),
    # What goes with the archives; those image-net.org gives to people who register, and to no program.
    'imagenet': _published(
        'https://raw.githubusercontent.com/tensorflow/models/master/research/slim/datasets',
        {
            'imagenet_lsvrc_2015_synsets.txt': '70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15',
            'imagenet_metadata.txt': '5b8db22d2e2b0ad28b55c9c502eb45e018bc0c907524b8782958cca4805689ea',
            'imagenet_2012_validation_synset_labels.txt': (
                '313fc3f23c864dde9183c9a368809065765dd1b657a6904fded44e3e46d34604'
            ),
        },
    ),
}


def is_address(text: str) -> bool:
    """Whether a source is to be downloaded."""
    return re.match(r'https?://', text, re.IGNORECASE) is not None


def at(dataset: str, address: str) -> tuple[File, ...]:
    """A dataset's files at an address of the user's own: the file's, or their folder's where they are several.

    Their content is the user's choice: no checksum is known.
    """
    names = [file.name for file in PUBLISHED.get(dataset, ())]
    if len(names) > 1:
        return tuple(File(name, f'{address.rstrip("/")}/{name}') for name in names)
    return (File(Path(urllib.parse.urlsplit(address).path).name, address),)


def folder(text: str) -> Path:
    """--download_dir as a path. A shell leaves the ~ in it as it is, and pooch does not."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (that of pathlib fails where there is no such user)


def version(path: Path) -> int:
    """A number that is another one for another content, and the same where that was downloaded again: from the checksum
    of a published file, from what the server said of another that was downloaded, else when it was changed last, in ns.
    """
    import pooch

    published = {file.sha256 for files in PUBLISHED.values() for file in files if file.name == path.name}
    checksum = pooch.file_hash(str(path)) if published else ''
    if checksum in published:
        return int(checksum[:15], 16)
    changed, origin = path.stat().st_mtime_ns, path.with_name(f'{path.name}{_ORIGIN}')
    # One that was written before the file was changed is not of this content.
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        text = origin.read_bytes()
        if origin.stat().st_mtime_ns >= changed and _tells(json.loads(text)):
            return int(hashlib.sha256(text).hexdigest()[:15], 16)
    return changed


def forget(files: Iterable[Path]) -> list[str]:
    """Has those of these files that were downloaded without a checksum downloaded again when they are wanted next.

    Returns:
      The addresses that they came from.
    """
    addresses = []
    for path in files:
        origin = path.with_name(f'{path.name}{_ORIGIN}')
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            addresses.append(str(json.loads(origin.read_bytes())['address']))
            path.unlink()
            origin.unlink()
    return addresses


def fetch(file: File, folder: Path, mirror: str | None) -> Path:
    """The file in `folder`, downloaded unless it is there: with the right checksum, or, where none is known, from the
    same address and unchanged there since.

    Args:
      file: what to download.
      folder: where to; made where it is missing.
      mirror: address of a folder to download from instead of the published one; MIRROR_VARIABLE in the environment
        where None.

    Raises:
      errors.DataError: it cannot be downloaded, is another file than the published one, or cannot be written.
    """
    import requests
    import urllib3

    mirror = mirror or (os.environ.get(MIRROR_VARIABLE) if file.sha256 else None)
    url = f'{mirror.rstrip("/")}/{file.name}' if mirror else file.address
    part = folder / f'{file.name}.part'
    other = 'Give another address in --source, or the file itself.'
    if file.sha256:
        other = f'Give an address that has it in --mirror (or {MIRROR_VARIABLE}), or put it into --download_dir.'
    try:
        return _checked(file, url, folder, part) if file.sha256 else _unchecked(file, url, folder, part)
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else error
        raise errors.DataError(f'{url}: the server answers {status}. {other}') from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        again = 'continue it' if file.sha256 else 'try again'
        raise errors.DataError(
            f'{url}: the download failed: {_reason(error)}. Repeat the command to {again}. {other}'
        ) from error
    except ValueError as error:
        raise errors.DataError(
            f'{url} is not the published {file.name}: its SHA-256 differs, so it was deleted. {other}'
        ) from error
    except OSError as error:
        # What has come would only keep the disk full.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise errors.DataError(f'{folder}: {file.name} cannot be written: {error.strerror or error}.') from error


def _checked(file: File, url: str, folder: Path, part: Path) -> Path:
    """A file that has a checksum.

    Raises:
      ValueError: the checksum is another.
    """
    continues = part.exists()
    try:
        return _retrieve(file, url, folder, _Resuming(part))
    except ValueError:
        if not continues:
            raise
    say(f'{file.name}: what an earlier try left of it was of another file: downloading it anew.')
    return _retrieve(file, url, folder, _Resuming(part))


def _unchecked(file: File, url: str, folder: Path, part: Path) -> Path:
    """A file that has no checksum: what the server says of it is kept beside it, to compare before it is used again."""
    target, origin = folder / file.name, folder / f'{file.name}{_ORIGIN}'
    part.unlink(missing_ok=True)
    if _is_the_same(url, target, origin):
        return target
    if target.exists() and not origin.exists():
        raise errors.DataError(
            f'{target} is there, and did not come from {url}. Move it away, or convert it with --source={target}.'
        )
    # Under another name until it is whole: what is there may be the last that there is of it.
    fresh = dataclasses.replace(file, name=f'{file.name}.new')
    (folder / fresh.name).unlink(missing_ok=True)
    transfer = _Resuming(part, unchanged=True)
    _retrieve(fresh, url, folder, transfer).replace(target)
    origin.write_text(json.dumps(transfer.origin), encoding='utf-8')
    return target


def _is_the_same(url: str, path: Path, origin: Path) -> bool:
    """Whether a file is what an address has, as far as the server tells."""
    import requests

    try:
        known = json.loads(origin.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    if not path.is_file():
        return False
    with requests.get(url, headers=_PLAIN, stream=True, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        now = _origin(url, response.headers)
    return known == now and _tells(now)


def _tells(origin: Mapping[str, str | None]) -> bool:
    return any(origin[header] for header in _TELLING)


def _origin(url: str, headers: Mapping[str, str]) -> dict[str, str | None]:
    return {'address': url, **{header: headers.get(header) for header in _TELLING}}


def _retrieve(file: File, url: str, folder: Path, transfer: _Resuming) -> Path:
    import pooch

    pooch.get_logger().setLevel('ERROR')
    known = file.sha256 and f'sha256:{file.sha256}'
    return Path(pooch.retrieve(url, known_hash=known, fname=file.name, path=folder, downloader=transfer))


class _Resuming:
    """A downloader for pooch that keeps what has come in a file of its own and asks for the rest of it.

    Args:
      part: where to keep what has come. What an earlier run left there is continued.
      unchanged: begin anew where the server says that the rest is of another file, as no checksum would tell.

    Attributes:
      origin: address and what the server said of the file when it was first asked for all of it; None if never.
    """

    def __init__(self, part: Path, *, unchanged: bool = False) -> None:
        self._part, self._unchanged, self._changes = part, unchanged, 0
        self.origin: dict[str, str | None] | None = None

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        import requests
        import urllib3

        with requests.Session() as session, Progress('downloading ' + url.rpartition('/')[2], 'MB', 1e-6) as progress:
            failed = 0
            while True:
                before = self._size()
                try:
                    if self._transfer(session, url, progress):
                        break
                except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError):
                    failed = 0 if self._size() > before else failed + 1
                    if failed == _TRIES:
                        raise
                    time.sleep(_SECONDS_BETWEEN_TRIES)
        self._part.replace(output_file)

    def _transfer(self, session: Any, url: str, progress: Progress) -> bool:
        """One request for what is missing; tells whether the file is whole now."""
        import requests

        have = self._size()
        headers = {**_PLAIN, **({'Range': f'bytes={have}-'} if have else {})}
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:
                # Nothing is behind what has come: it is whole, or of another file.
                if response.headers.get('Content-Range') == f'bytes */{have}':
                    return True
                self._part.unlink()
                return False
            if response.status_code >= 500:
                raise requests.ConnectionError(f'the server answers {response.status_code}')
            response.raise_for_status()
            granted = response.headers.get('Content-Range', '')
            continues = response.status_code == 206 and granted.startswith(f'bytes {have}-')
            done = have if continues else 0
            if continues and self._unchanged and self._is_of_another(response.headers):
                return self._begin_anew(url)
            if not continues:
                self.origin = _origin(url, response.headers)
            length = response.headers.get('Content-Length')
            progress.start(done, done + int(length) if length else None)
            with self._part.open('ab' if continues else 'wb') as file:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    file.write(chunk)
                    progress.advance(len(chunk))
        return True

    def _is_of_another(self, headers: Mapping[str, str]) -> bool:
        """Whether the rest is of another file than the beginning, in what the server tells of both."""
        length = headers['Content-Range'].rpartition('/')[2]  # of the whole file, or *
        now = {name: headers.get(name) for name in _TELLING} | {
            'Content-Length': length if length.isdecimal() else None
        }
        known = self.origin or {}
        return any(known[name] != now[name] for name in _TELLING if known.get(name) and now.get(name))

    def _begin_anew(self, url: str) -> bool:
        self._part.unlink()
        self._changes += 1
        if self._changes == _TRIES:
            raise errors.DataError(
                f'{url} is another file with each answer of its server, which ends before it is whole. Download it by '
                'other means, and give the file in --source.'
            )
        return False

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0


def _reason(error: BaseException) -> str:
    """The first cause of a failed transfer, which says it in the fewest words."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).rstrip('.') or type(error).__name__
