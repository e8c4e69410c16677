"""Shares of processors, on machines whose topology is written here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import cores

ROOT = Path(__file__).parents[3]


def machine(root: Path, cores_of: dict[int, tuple[int, int]]) -> Path:
    """A description of processors as Linux has it: package and core of each."""
    for cpu, (package, core) in cores_of.items():
        folder = root / f'cpu{cpu}' / 'topology'
        folder.mkdir(parents=True)
        (folder / 'physical_package_id').write_text(f'{package}\n')
        (folder / 'core_id').write_text(f'{core}\n')
    return root


def test_two_workers_never_share_a_core_whose_threads_are_numbered_far_apart(tmp_path: Path) -> None:
    # Four cores of two threads each: processors 0 and 4 are threads of core 0, as Linux numbers them on most servers.
    root = machine(tmp_path, {cpu: (0, cpu % 4) for cpu in range(8)})
    assert cores.shares(2, range(8), root) == [(0, 4, 1, 5), (2, 6, 3, 7)]
    assert cores.shares(4, range(8), root) == [(0, 4), (1, 5), (2, 6), (3, 7)]


def test_a_worker_stays_within_a_package(tmp_path: Path) -> None:
    root = machine(tmp_path, {cpu: (cpu % 2, cpu // 2) for cpu in range(8)})
    assert cores.shares(2, range(8), root) == [(0, 2, 4, 6), (1, 3, 5, 7)]


def test_processors_that_cannot_be_divided_evenly_are_all_used_once() -> None:
    found = cores.shares(3, [1, 3, 5, 7, 9], Path('/no/such/folder'))
    assert sorted(len(share) for share in found) == [1, 2, 2]
    assert sorted(cpu for share in found for cpu in share) == [1, 3, 5, 7, 9]


def test_more_workers_than_processors_are_spread_evenly() -> None:
    found = cores.shares(4, [2, 3], Path('/no/such/folder'))
    assert found == [(2,), (2,), (3,), (3,)]


@pytest.mark.skipif(len(cores.allowed()) < 2, reason='one processor alone')
def test_a_pinned_process_starts_its_threads_on_its_processors_and_is_itself_free_again() -> None:
    code = (
        'import os, threading; from bench.machine import cores\n'
        'before = cores.allowed(); seen = []\n'
        'with cores.pinned(before[-1:]):\n'
        '    thread = threading.Thread(target=lambda: seen.append(cores.allowed())); thread.start(); thread.join()\n'
        'assert seen == [before[-1:]], seen\n'
        'assert cores.allowed() == before\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
