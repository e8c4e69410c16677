"""The program as a process, and the record that it leaves: for tests that drive it as people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / 'bench' / 'record.schema.json').read_text())

# The kernel refuses to write past the limit, as it does on a full disk.
_FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from bench.errors import BenchError
try:
    {statement}
except BenchError as error:
    print(error)
"""


def command(*words: str) -> list[str]:
    """What starts the program."""
    return [sys.executable, str(ROOT / 'run_benchmark.py'), *words]


def run(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program, run to its end.

    Args:
      environment: variables to set besides those of this process.
    """
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A process of Python that runs the code, from which this project can be imported."""
    return subprocess.run(
        [sys.executable, '-c', code, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def on_a_full_disk(statement: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A process of Python that runs a statement where no file grows over 4096 bytes, and prints the error of it."""
    return python(_FULL_DISK.format(statement=statement), *words)


def the_record(folder: Path) -> dict[str, Any]:
    """The only record in a folder, which obeys the schema."""
    (path,) = folder.iterdir()
    record: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record
