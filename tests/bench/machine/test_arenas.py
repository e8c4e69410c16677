"""The C library's heaps, as a process of many threads has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import libraries

ROOT = Path(__file__).parents[3]
HEAPS = """
import ctypes, os, re, sys, threading
from bench.machine import memory

memory.limit_arenas(2)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(9)

def allocate():
    assert libc.malloc(ctypes.c_size_t(100_000))
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
barrier.wait()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b'w'))
libc.malloc_info(0, file)
libc.fclose(file)
print(len(re.findall('<heap nr', open(sys.argv[1]).read())))
"""


@pytest.mark.skipif(libraries.glibc() is None, reason='no glibc here')
@pytest.mark.parametrize(('environ', 'least', 'most'), [({}, 1, 2), ({'MALLOC_ARENA_MAX': '5'}, 3, 5)])
def test_many_threads_share_as_few_heaps_as_the_limit_or_the_user_says(
    environ: dict[str, str], least: int, most: int, tmp_path: Path
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(('MALLOC', 'GLIBC', 'LD_PRE'))}
    heaps = subprocess.run(
        [sys.executable, '-c', HEAPS, str(tmp_path / 'heaps.xml')],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**plain, **environ},
    ).stdout
    assert least <= int(heaps) <= most
