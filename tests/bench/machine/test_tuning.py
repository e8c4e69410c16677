"""Settings of the environment: applied to a fresh process, never against the user's."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = (
    'import os; from bench.machine import tuning, environment\n'
    'tuning.restart_tuned()\n'
    'print(os.getpid(), len(tuning.applied()), sorted(environment.variables()))\n'
)


@pytest.mark.parametrize(
    'set_by_user', [{}, {'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=7'}, {'MALLOC_ARENA_MAX': '2'}]
)
def test_the_process_restarts_as_itself_unless_the_user_set_something(set_by_user: dict[str, str]) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(('GLIBC_', 'TF_', 'MALLOC_'))
    }
    with subprocess.Popen(
        [sys.executable, '-c', CODE], cwd=ROOT, env={**environment, **set_by_user}, stdout=subprocess.PIPE, text=True
    ) as process:
        output = process.communicate()[0].split(maxsplit=2)
    version = tuple(int(part) for part in platform.libc_ver()[1].split('.')[:2])
    ours = not set_by_user and platform.libc_ver()[0] == 'glibc' and version >= (2, 35)
    assert output == [str(process.pid), str(int(ours)), f'{sorted(set_by_user)}\n']
