"""A real Docker engine, for tests: containers of the project's images, and what is on the host afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import jsonschema
import pytest

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / 'bench' / 'record.schema.json').read_text())
IMAGE = 'darchr/tf-bench'
MKL_IMAGE = 'darchr/tf-bench-mkl'
BASE_IMAGE = 'darchr/tf-compiled-base'
# A run of a second or two, after TensorFlow's start.
SHORT = ('run_benchmark.py', '--model=lenet', '--batch_size=8', '--num_warmup_batches=1', '--num_batches=3')
ENDLESS = (*SHORT[:-1], '--num_batches=100000000')


class Engine:
    """Docker's client. Every container has a name that begins with `name`, by which what is left of it is deleted."""

    def __init__(self) -> None:
        self.client = os.environ.get('DOCKER', 'docker')
        self.name = f'tf-bench-test-{uuid.uuid4().hex[:8]}'

    def __call__(self, *words: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the client."""
        done = subprocess.run(
            [self.client, *words], capture_output=True, text=True, check=False, timeout=timeout, cwd=ROOT
        )
        assert not check or done.returncode == 0, f'{words}\n{done.stdout}\n{done.stderr}'
        return done

    def run_words(self, options: Sequence[str], words: Sequence[str], image: str = IMAGE) -> list[str]:
        """The words of a container that is deleted when it ends."""
        return ['run', '--rm', '--label', self.name, *options, image, *words]

    def run(
        self, options: Sequence[str], words: Sequence[str], image: str = IMAGE, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a container to its end."""
        return self(*self.run_words(options, words, image), check=check)

    def start(self, options: Sequence[str], words: Sequence[str], image: str = IMAGE) -> subprocess.Popen[str]:
        """Starts a container in the foreground, with one stream of what it prints."""
        return subprocess.Popen(
            [self.client, *self.run_words(options, words, image)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )

    @contextlib.contextmanager
    def deadline(self, seconds: float = 300) -> Iterator[None]:
        """Deletes what containers there are after so many seconds: who reads what one prints then comes to its end.

        To be entered before a container that runs without end, so that no failed test waits for it for ever.
        """
        timer = threading.Timer(seconds, self.clean)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def shell(self, script: str, image: str = IMAGE, options: Sequence[str] = ()) -> str:
        """What a shell as root prints in an image, without its entry point."""
        return self.run(['--user', '0', '--entrypoint', 'sh', *options], ['-euc', script], image).stdout

    def own(self, folder: Path, user: int) -> None:
        """Makes the folder and gives it to a user, whether or not the tests run as root."""
        folder.mkdir(exist_ok=True)
        self.shell(f'chown {user}:{user} /folder', options=['-v', f'{folder}:/folder'])

    def inspect(self, image: str) -> dict[str, Any]:
        """What Docker knows of an image."""
        (found,) = json.loads(self('image', 'inspect', image).stdout)
        return dict(found)

    def clean(self) -> None:
        """Deletes what containers are left of these tests."""
        left = self('ps', '--all', '--quiet', '--filter', f'label={self.name}').stdout.split()
        if left:
            self('rm', '--force', '--volumes', *left)


@pytest.fixture(scope='session')
def engine() -> Iterator[Engine]:
    """The engine that answers here, with the images; a test that needs one is left out where none answers."""
    found = Engine()
    if not shutil.which(found.client) or found('info', check=False).returncode:
        pytest.skip('no Docker engine answers: start one, or say where with DOCKER_HOST')
    assert found('image', 'inspect', IMAGE, check=False).returncode == 0, f'there is no {IMAGE}: make images'
    yield found
    found.clean()


def read_until(stream: IO[str], start: str) -> str:
    """What a container prints until a line begins so.

    mpirun gives its ranks a terminal, on which a line of progress is deleted before each line.
    """
    seen = ''
    for line in stream:
        seen += line
        if line.rpartition('\x1b[2K')[2].startswith(start):
            return seen
    pytest.fail(f'no line began with {start!r} before the end, or the deadline:\n{seen}')


def the_record(folder: Path) -> dict[str, Any]:
    """The only record in a folder, which obeys the schema."""
    (path,) = folder.glob('*.json')
    record = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return dict(record)
