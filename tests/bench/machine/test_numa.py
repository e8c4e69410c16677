"""Lists of processors, nodes and cores as Linux tells them, and memory that is bound to a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import numa

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ('text', 'cpus', 'written'),
    [
        ('0', {0}, '0'),
        ('0-3,8', {0, 1, 2, 3, 8}, '0-3,8'),
        ('5,3,4', {3, 4, 5}, '3-5'),
        ('0,2,4', {0, 2, 4}, '0,2,4'),
        ('7-7', {7}, '7'),
        (' 1 , 2', {1, 2}, '1-2'),
    ],
)
def test_lists_of_processors_are_read_and_written_as_linux_does(text: str, cpus: set[int], written: str) -> None:
    assert numa.parse(text) == cpus
    assert numa.format_list(cpus) == written


@pytest.mark.parametrize('text', ['', 'a', '1-', '-1', '3-1', '1,,2', '0x1', '1.5', '0-99999999999'])
def test_what_is_no_list_of_processors_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        numa.parse(text)


def test_nodes_without_processors_and_foreign_files_are_no_trouble(tmp_path: Path) -> None:
    # As two sockets and a node of memory alone (HBM, CXL) look.
    for name, text in (('node0', '0-15,32-47\n'), ('node1', '16-31,48-63\n'), ('node2', '\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'cpulist').write_text(text)
    (tmp_path / 'node3').mkdir()
    (tmp_path / 'has_cpu').write_text('0-1\n')
    found = numa.nodes(tmp_path)
    assert [numa.format_list(cpus) for cpus in found.values()] == ['0-15,32-47', '16-31,48-63', '']
    assert numa.nodes(tmp_path / 'none') == {}


def test_two_threads_of_a_core_are_found_together(tmp_path: Path) -> None:
    for number, siblings in ((0, '0,2'), (1, '1,3'), (2, '0,2'), (3, '1,3')):
        path = tmp_path / f'cpu{number}/topology/thread_siblings_list'
        path.parent.mkdir(parents=True)
        path.write_text(f'{siblings}\n')
    found = numa.cores(tmp_path)
    assert found[0] == found[2] == {0, 2}
    assert len(set(found.values())) == 2


def test_bound_memory_is_what_the_kernel_says_it_is() -> None:
    # A process of its own, because the policy would stay with this one.
    code = (
        'from bench.machine import numa\n'
        'assert numa.memory_nodes() is None\n'
        'try:\n'
        '    numa.bind_memory(0)\n'
        'except OSError as error:\n'
        '    print(error)\n'
        'else:\n'
        "    memory = b'x' * (1 << 20)\n"
        "    print(sorted(numa.memory_nodes()), 'bind:0' in open('/proc/self/numa_maps').read())\n"
    )
    if not Path('/proc/self/numa_maps').exists():
        pytest.skip('this kernel was built without NUMA: it has no numa_maps')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ('[0] True', f'[Errno 1] {os.strerror(1)}')


def test_a_node_that_does_not_exist_is_refused_by_the_kernel() -> None:
    with pytest.raises(OSError, match='Errno'):
        numa.bind_memory(1000)
