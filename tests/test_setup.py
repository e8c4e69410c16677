"""The set-up that `make` does, driven as a process on a machine that is pretended (pretended.py)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pretended import Machine

PIP_BASE = [
    'pip --quiet --upgrade pip setuptools wheel',
    'pip --quiet --no-build-isolation --editable .[serve,test]',
    'pip --quiet --no-deps tf_keras',
]
PIP_HOROVOD = ['pip --quiet cmake', 'pip --quiet --no-build-isolation --no-cache-dir horovod']


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """With Python 3.11 and compilers."""
    made = Machine(tmp_path)
    made.python('python3', (3, 11))
    made.compilers()
    return made


def sentences(lines: list[str]) -> int:
    """How many lines or sentences were printed, whichever is more."""
    return max(len(lines), len(re.findall(r'\.(?:\s|$)', '\n'.join(lines))))


@pytest.mark.parametrize(
    ('version', 'change', 'named'),
    [
        ((3, 9), '', 'CPython 3.9'),
        ((3, 13), '', 'CPython 3.13'),
        ((3, 11), "platform.python_implementation = lambda: 'PyPy'", 'PyPy 3.11'),
        ((3, 11), "platform.machine = lambda: 'riscv64'", 'riscv64'),
        ((3, 11), 'import struct; struct.calcsize = lambda _: 4', '32 bits'),
        ((3, 11), 'import os; os.confstr = lambda name: None', 'other-libc'),
    ],
)
def test_a_python_without_tensorflow_is_refused_before_anything_is_made(
    machine: Machine, version: tuple[int, int], change: str, named: str
) -> None:
    machine.python('python3', version, change)
    status, lines = machine.make('test')
    assert status != 0
    assert sentences(lines) == 1
    assert named in lines[0]
    assert 'make PYTHON=' in lines[0]
    assert not (machine.clone / '.venv').exists()


def test_no_python_at_all_is_told_in_one_sentence(machine: Machine) -> None:
    (machine.bin / 'python3').unlink()
    status, lines = machine.make('benchmark')
    assert status != 0
    assert sentences(lines) == 1
    assert 'no Python that runs as python3' in lines[0]


def test_the_newest_python_that_fits_stands_in_for_a_python3_that_does_not(machine: Machine) -> None:
    machine.python('python3', (3, 13))
    machine.python('python3.10', (3, 10))
    machine.python('python3.12', (3, 12), "sys.modules['ensurepip'] = None")
    machine.python('python3.11', (3, 11))
    assert machine.make('setup')[0] == 0
    assert 'CPython 3.11 ' in (machine.clone / '.venv/ready').read_text()


def test_a_python_that_the_user_names_is_not_silently_replaced_by_another(machine: Machine) -> None:
    machine.python('python3.13', (3, 13))
    status, lines = machine.make('setup', 'PYTHON=python3.13')
    assert status != 0
    assert 'CPython 3.13' in lines[0]


def test_naming_another_python_makes_the_venv_anew(machine: Machine) -> None:
    machine.python('python3.12', (3, 12))
    machine.make('setup')
    assert machine.make('setup', 'PYTHON=python3.12')[0] == 0
    assert 'CPython 3.12 ' in (machine.clone / '.venv/ready').read_text()
    assert machine.make('setup') == (0, [])  # and it stays without being named again


@pytest.mark.parametrize('module', ['venv', 'ensurepip'])
def test_a_missing_venv_module_is_told_with_the_package_that_brings_it(machine: Machine, module: str) -> None:
    machine.python('python3', (3, 11), f'sys.modules[{module!r}] = None')
    status, lines = machine.make('test')
    assert status != 0
    assert sentences(lines) == 1
    assert 'apt-get install python3.11-venv' in lines[0]
    assert not (machine.clone / '.venv').exists()


def test_a_missing_venv_module_is_told_rather_than_another_python_that_cannot_serve(machine: Machine) -> None:
    machine.python('python3', (3, 13))
    machine.python('python3.12', (3, 12), "sys.modules['ensurepip'] = None")
    assert 'apt-get install python3.12-venv' in machine.make('test')[1][0]


@pytest.mark.parametrize('missing', ['cc', 'c++'])
def test_without_a_compiler_all_but_horovod_is_set_up_and_horovod_follows_once_there_is_one(
    machine: Machine, missing: str
) -> None:
    (machine.bin / missing).unlink()
    status, lines = machine.make('setup')
    assert status == 0
    told = [line for line in lines if 'Horovod' in line]
    assert sentences(told) == 1
    assert 'apt-get install g++' in told[0]
    assert machine.calls() == PIP_BASE

    machine.compilers()
    assert machine.make('setup')[0] == 0
    assert machine.calls() == PIP_HOROVOD


def test_a_compiler_that_cannot_compile_counts_as_missing(machine: Machine) -> None:
    machine.program('c++', '#!/bin/sh\nexit 1\n')
    status, lines = machine.make('setup')
    assert status == 0
    assert 'Horovod was left out' in lines[-1]


def test_horovod_no_leaves_horovod_out(machine: Machine) -> None:
    assert machine.make('setup', 'HOROVOD=no')[0] == 0
    assert machine.calls() == PIP_BASE


def test_a_second_make_installs_nothing_and_prints_nothing(machine: Machine) -> None:
    machine.make('setup')
    assert machine.calls() == PIP_BASE + PIP_HOROVOD
    assert machine.make('setup') == (0, [])
    assert machine.calls() == []


@pytest.mark.parametrize('name', ['setup.cfg', 'constraints.txt'])
def test_a_change_of_the_requirements_installs_them_and_leaves_horovod(machine: Machine, name: str) -> None:
    machine.make('setup')
    machine.calls()
    with (machine.clone / name).open('a') as file:
        file.write('# changed\n')
    assert machine.make('setup')[0] == 0
    assert machine.calls() == PIP_BASE


def test_another_tensorflow_builds_horovod_anew(machine: Machine) -> None:
    machine.make('setup')
    machine.calls()
    path = machine.clone / 'constraints.txt'
    path.write_text(path.read_text().replace('tensorflow-cpu==2.18.1', 'tensorflow-cpu==2.18.2'))
    machine.make('setup')
    assert machine.calls() == PIP_BASE + PIP_HOROVOD


def test_a_horovod_for_another_tensorflow_does_not_stay_where_it_cannot_be_built_anew(machine: Machine) -> None:
    machine.make('setup')
    stale = machine.clone / '.venv/lib/python3.11/site-packages/horovod'
    stale.mkdir(parents=True)
    path = machine.clone / 'constraints.txt'
    path.write_text(path.read_text().replace('tensorflow-cpu==2.18.1', 'tensorflow-cpu==2.18.2'))
    (machine.bin / 'c++').unlink()
    assert 'Horovod was left out' in machine.make('setup')[1][-1]
    assert not stale.exists()


def test_settings_that_install_elsewhere_do_not_reach_pip(machine: Machine) -> None:
    elsewhere = {'PIP_TARGET', 'PIP_USER', 'PYTHONPATH', 'PYTHONHOME'}
    assert machine.make('setup', *(f'{name}=/nowhere' for name in elsewhere))[0] == 0
    assert not elsewhere & set((machine.folder / 'environment').read_text().split())


@pytest.mark.parametrize('how', ['fail', 'SIGINT', 'SIGKILL'])
@pytest.mark.parametrize('step', range(1, 6))
def test_a_set_up_that_stopped_midway_is_not_taken_for_done(machine: Machine, step: int, how: str) -> None:
    trouble = machine.folder / 'trouble'
    trouble.write_text(f'{step} {"fail" if how == "fail" else "hang"}')
    if how == 'fail':
        status, lines = machine.make('setup')
        assert status != 0
        assert re.search(r'could not (install|be built)', lines[-1])
        assert 'run make again' in lines[-1]
    else:
        process = machine.start('make', 'setup')
        wait_for((machine.folder / 'reached').exists)
        os.killpg(process.pid, signal.Signals[how])
        assert process.wait(timeout=60) != 0
        process.communicate()
    assert len(machine.calls()) == step

    trouble.unlink()
    assert machine.make('setup')[0] == 0
    assert machine.calls() == (PIP_BASE if step <= len(PIP_BASE) else []) + PIP_HOROVOD


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stopped_set_up_leaves_no_half_installed_package_behind(machine: Machine) -> None:
    machine.make('setup')
    half = machine.clone / '.venv/half-installed'
    half.touch()
    (machine.folder / 'trouble').write_text('2 fail')
    machine.calls()
    with (machine.clone / 'setup.cfg').open('a') as file:
        file.write('# changed\n')
    assert machine.make('setup')[0] != 0
    assert half.exists()  # as where pip was killed while it wrote

    (machine.folder / 'trouble').unlink()
    assert machine.make('setup')[0] == 0
    assert not half.exists()


def test_a_set_up_that_stopped_while_it_deleted_the_old_venv_still_knows_it(machine: Machine) -> None:
    machine.make('setup')
    machine.python('python3.12', (3, 12))
    find = (machine.bin / 'find').readlink()
    (machine.bin / 'find').unlink()
    machine.program('find', f'#!/bin/sh\n{find} "$@"\nkill -9 $PPID\n')
    assert machine.make('setup', 'PYTHON=python3.12')[0] != 0

    machine.program('find', f'#!/bin/sh\nexec {find} "$@"\n')
    assert machine.make('setup', 'PYTHON=python3.12')[0] == 0


def test_a_clone_that_was_moved_is_set_up_anew(machine: Machine) -> None:
    machine.make('setup')
    machine.calls()
    machine.clone = machine.clone.rename(machine.folder / 'moved')
    assert machine.make('setup')[0] == 0
    assert machine.calls() == PIP_BASE + PIP_HOROVOD


def test_a_path_with_a_space_leaves_out_horovod_alone_which_does_not_compile_there(machine: Machine) -> None:
    machine.clone = machine.clone.rename(machine.folder / 'my clone')
    status, lines = machine.make('setup')
    assert status == 0
    assert 'move this clone' in lines[-1]
    assert machine.calls() == PIP_BASE


def test_why_horovod_did_not_build_is_told_without_its_log_of_a_thousand_lines(machine: Machine) -> None:
    (machine.folder / 'trouble').write_text('5 fail')
    lines = machine.make('setup')[1]
    assert 'c++: error: the first of many' in lines
    assert 'c++ -c a.cc' not in lines
    assert str(machine.clone / '.venv/horovod.log') in lines[-1]


def test_a_venv_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    machine.make('setup')
    (machine.clone / '.venv/bin/python').unlink()
    assert machine.make('setup')[0] == 0
    assert (machine.clone / '.venv/bin/python').exists()


def test_a_venv_whose_python_was_upgraded_under_it_is_made_anew(machine: Machine) -> None:
    machine.make('setup')
    machine.python('python3', (3, 12))
    shutil.copy(machine.bin / 'python3', machine.clone / '.venv/bin/python')
    machine.calls()
    assert machine.make('setup')[0] == 0
    assert machine.calls() == PIP_BASE + PIP_HOROVOD


def test_a_venv_of_the_users_own_is_not_deleted(machine: Machine) -> None:
    own = machine.clone / '.venv/precious'
    own.parent.mkdir()
    own.touch()
    status, lines = machine.make('test')
    assert status != 0
    assert 'was not made by make' in lines[0]
    assert own.exists()


CHECKED = [
    '-m ruff check .',
    '-m mypy',
    '-m pytest -n auto --maxprocesses=4 --dist=loadfile -m not slow and not container',
]
IN_CONTAINERS = ['build.sh', 'build.sh --tests', '-m pytest -m container and not slow tests/docker']


@pytest.fixture
def ci(machine: Machine) -> Callable[..., tuple[int, str]]:
    """Runs .ci/run with variables of the environment; its exit status and what it printed."""
    machine.make('setup')
    machine.calls()
    for name in ('bash', 'env'):
        (machine.bin / name).symlink_to(str(shutil.which(name)))

    def run(*variables: str) -> tuple[int, str]:
        process = machine.start('env', *variables, str(machine.clone / '.ci/run'))
        printed, errors = process.communicate(timeout=60)
        return process.returncode, printed + errors

    return run


def pretend_images(machine: Machine) -> None:
    """A build of images that only writes down its words."""
    script(machine.clone / 'docker/build.sh', f'echo build.sh "$@" >> {machine.folder}/calls')


def pretend_engine(machine: Machine, starts: str) -> Path:
    """A client whose engine answers at one address alone, and what starts it beside the clone."""
    script(machine.folder / 'shared/tools/docker-engine', f'[ "$1" = start ] || exit 1\n{starts}')
    return script(machine.folder / 'client', '[ "$DOCKER_HOST" = unix:///there ]')


def script(path: Path, lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{lines}\n')
    path.chmod(0o755)
    return path


def test_ci_stops_at_the_linters_where_they_find_something(machine: Machine, ci: Callable[..., Any]) -> None:
    (machine.folder / 'trouble').write_text('1 fail')
    assert ci()[0] != 0
    assert machine.calls() == CHECKED[:1]

    (machine.folder / 'trouble').unlink()
    status, printed = ci()
    assert status == 0
    assert 'neither built nor tested: no Docker engine answers here, and there is no ../shared' in printed
    assert machine.calls() == CHECKED


def test_ci_starts_an_engine_where_none_answers_and_tests_the_images(machine: Machine, ci: Callable[..., Any]) -> None:
    pretend_images(machine)
    client = pretend_engine(machine, 'echo starting\necho DOCKER_HOST=unix:///there')
    status, printed = ci(f'DOCKER={client}')
    assert (status, 'neither built' in printed) == (0, False), printed
    assert machine.calls() == CHECKED + IN_CONTAINERS

    status, printed = ci(f'DOCKER={client}', 'START_ENGINE=no')
    assert (status, 'START_ENGINE=no starts none' in printed) == (0, True), printed
    assert machine.calls() == CHECKED


def test_an_engine_that_does_not_start_is_told_and_fails_nothing(machine: Machine, ci: Callable[..., Any]) -> None:
    pretend_images(machine)
    client = pretend_engine(machine, 'echo no root here >&2\nexit 1')
    status, printed = ci(f'DOCKER={client}')
    assert status == 0, printed
    assert 'no root here' in printed
    assert 'docker-engine could not start one (START_ENGINE=no does not try)' in printed
    assert machine.calls() == CHECKED


def test_images_that_fail_fail_ci(machine: Machine, ci: Callable[..., Any]) -> None:
    client = pretend_engine(machine, 'echo DOCKER_HOST=unix:///there')
    script(machine.clone / 'docker/build.sh', 'exit 1')
    assert ci(f'DOCKER={client}')[0] != 0


def test_all_tests_are_those_in_containers_too_where_an_engine_answers_and_else_that_is_told(machine: Machine) -> None:
    machine.make('setup')
    machine.calls()
    pretend_images(machine)
    status, lines = machine.make('test-all')
    assert status == 0
    assert any('No Docker engine answers' in line for line in lines)
    assert machine.calls() == ['-m pytest -m not container']

    machine.program('docker', '#!/bin/sh\n[ "$1" = info ]\n')
    assert machine.make('test-all')[0] == 0
    assert machine.calls() == ['build.sh', 'build.sh --tests', '-m pytest']
