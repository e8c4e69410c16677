"""What is set before TensorFlow loads, by the program that does it, as a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.machine import capabilities, libraries, memory, numa

ROOT = Path(__file__).parents[3]
# What turns oneDNN on and off in the TensorFlow that is installed.
TURN = capabilities.switch(libraries.openmp())
# Begins by telling its process and environment, then is made one in which the options hold, and tells again.
PROBE = """
import dataclasses, json, os, sys, time
from bench.machine import environment, libraries, tuning
from bench.machine.options import MachineOptions
from bench.options import ThreadOptions

@dataclasses.dataclass(frozen=True)
class Config:
    machine: MachineOptions
    threads: ThreadOptions = ThreadOptions()

def tell(word):
    names = ('TF_ENABLE_ONEDNN_OPTS', 'TF_DISABLE_MKL', 'ONEDNN_MAX_CPU_ISA', 'LD_PRELOAD')
    print(json.dumps({
        'word': word, 'pid': os.getpid(), 'allocator': libraries.allocator(),
        'environment': {name: os.environ[name] for name in names if name in os.environ},
        'user': {name: value for name, value in environment.user().items() if name in names},
    }), flush=True)

tell('begin')
config = tuning.start(Config(MachineOptions(**json.loads(sys.argv[1]))))
tell('end')
print(json.dumps(dataclasses.asdict(config.threads)), flush=True)
if sys.argv[2:]:
    exec(sys.argv[2])
"""


def run(
    options: dict[str, Any], then: str = '', environ: Mapping[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """The process, and what it told; its own folder has no bench, which is found by PYTHONPATH."""
    names = (
        'TF_ENABLE_ONEDNN_OPTS',
        'TF_DISABLE_MKL',
        'ONEDNN_MAX_CPU_ISA',
        'LD_PRELOAD',
        'TF_BENCH_TUNING',
        'TF_NUM_INTRAOP_THREADS',
        'GLIBC_TUNABLES',
    )
    base = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, '-c', PROBE, json.dumps({'huge_pages': 'off', **options}), then]
    done = subprocess.run(
        command,
        env={**base, 'PYTHONPATH': str(ROOT), **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]


def test_variables_are_set_by_one_fresh_start_of_the_same_process() -> None:
    done, (first, again, last, _) = run({'mkl': 'off', 'onednn_max_isa': 'AVX2'})
    assert (done.returncode, done.stderr) == (0, '')
    assert [each['word'] for each in (first, again, last)] == ['begin', 'begin', 'end']
    assert first['pid'] == again['pid'] == last['pid']
    assert first['environment'] == {}
    assert last['environment'] == {TURN.name: TURN.off, 'ONEDNN_MAX_CPU_ISA': 'AVX2'}
    assert last['user'] == {}


def test_what_stands_in_the_environment_already_starts_nothing_and_is_told() -> None:
    done, (first, last, _) = run({'mkl': 'off'}, environ={TURN.name: TURN.on})
    assert (first['word'], last['word']) == ('begin', 'end')
    assert last['environment'] == last['user'] == {TURN.name: TURN.on}
    assert f'--mkl=off was not applied: {TURN.name}={TURN.on}' in done.stderr


def test_the_exit_status_and_signals_are_those_of_the_fresh_process() -> None:
    assert run({'mkl': 'on'}, 'sys.exit(7)')[0].returncode == 7
    killed = run({'mkl': 'on'}, 'os.kill(os.getpid(), 15); time.sleep(30)')[0]
    assert killed.returncode == -signal.SIGTERM


def test_a_process_that_a_tuned_one_starts_tunes_itself() -> None:
    inner = "import subprocess; subprocess.run([sys.executable, '-c', sys.orig_argv[2], '{}'], check=True)"
    _, told = run({'mkl': 'off'}, inner.format('{"onednn_max_isa": "AVX2", "huge_pages": "off"}'))
    last = [each for each in told if each.get('word') == 'end'][-1]
    assert last['environment'] == {'ONEDNN_MAX_CPU_ISA': 'AVX2'}
    _, told = run({'mkl': 'off'}, inner.format('{"huge_pages": "off"}'))
    last = [each for each in told if each.get('word') == 'end'][-1]
    assert last['environment'] == last['user'] == {}


def test_a_python_that_drops_the_variable_ends_in_an_error_and_not_in_a_loop(tmp_path: Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(f"import os\nos.environ.pop('{TURN.name}', None)\n")
    done, told = run({'mkl': 'off'}, environ={'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    assert done.returncode != 0
    assert f'{TURN.name} could not be set' in done.stderr
    assert len(told) == 2


def test_threads_of_the_environment_are_those_of_the_run() -> None:
    _, told = run({}, environ={'TF_NUM_INTRAOP_THREADS': '3'})
    assert told[-1] == {'num_intra_threads': 3, 'num_inter_threads': None}


def test_processors_and_memory_are_bound_as_the_kernel_sees_it() -> None:
    one = min(numa.allowed())
    show = "print('\\n'.join(line for line in open('/proc/self/status') if line.startswith(('Cpus_al', 'Mems_al'))))"
    done, _ = run({'cpu_affinity': str(one)}, show)
    assert f'Cpus_allowed_list:\t{one}\n' in done.stdout
    if 0 in numa.nodes():
        settings = 'tuning.settings(config.machine, config.threads)'
        show = f'print(*(each.reason for each in {settings} if each.setting == "numa_node"))'
        done, _ = run({'numa_node': 0}, show)
        assert ('and memory to the node' in done.stdout) != ('could not be bound' in done.stdout)


def test_the_kernel_sees_that_huge_pages_are_asked_for() -> None:
    glibc = libraries.glibc()
    if memory.huge_pages()['transparent_huge_pages'] != 'madvise' or glibc is None or glibc < (2, 35):
        pytest.skip('transparent huge pages are not `madvise` here, or there is no glibc 2.35')
    # `hg` in smaps(5): who owns this memory advised that huge pages be used.
    show = "held = bytearray(1 << 26); print(' hg' in open('/proc/self/smaps').read())"
    assert run({'huge_pages': 'on'}, show)[0].stdout.splitlines()[-1] == 'True'
    assert run({'huge_pages': 'off'}, show)[0].stdout.splitlines()[-1] == 'False'


@pytest.fixture
def tcmalloc(tmp_path: Path) -> Path:
    """A library that the loader takes, under the allocator's name."""
    source = next((path for path in map(Path, _loaded()) if path.name.startswith('libz.so')), None)
    if source is None:
        pytest.skip('zlib is a part of Python here: there is no shared library to stand in for the allocator')
    shutil.copy(source, tmp_path / 'libtcmalloc_minimal.so.4')
    return tmp_path


def _loaded() -> list[str]:
    import zlib  # noqa: F401 - loads libz

    return sorted({line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines() if '.so' in line})


def test_an_allocator_is_preloaded_and_seen_in_the_process(tcmalloc: Path) -> None:
    done, told = run({'allocator': 'tcmalloc'}, environ={'LD_LIBRARY_PATH': str(tcmalloc)})
    assert done.returncode == 0, done.stderr
    assert told[2]['environment'] == {'LD_PRELOAD': str(tcmalloc / 'libtcmalloc_minimal.so.4')}
    assert told[2]['allocator'] == 'libtcmalloc_minimal.so.4'


def test_an_allocator_that_the_loader_refuses_is_an_error_and_not_the_systems_in_silence(tmp_path: Path) -> None:
    (tmp_path / 'libjemalloc.so.2').write_text('no library')
    done, _ = run({'allocator': 'jemalloc'}, environ={'LD_LIBRARY_PATH': str(tmp_path)})
    assert done.returncode != 0
    assert '--allocator=jemalloc: the loader did not take' in done.stderr
