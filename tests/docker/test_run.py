"""Containers of the images as a performance engineer runs them: whose the record is, limits, signals."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from engine import ENDLESS, IMAGE, MKL_IMAGE, SHORT, Engine, read_until, the_record

pytestmark = pytest.mark.container

GIB = 2**30


@pytest.fixture(params=[IMAGE, MKL_IMAGE], ids=['tf-bench', 'tf-bench-mkl'])
def image(request: pytest.FixtureRequest) -> str:
    """Either image."""
    return str(request.param)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that is not there yet: Docker makes it, for root."""
    return tmp_path / 'out'


def mount(out: Path) -> list[str]:
    return ['-v', f'{out}:/results']


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_the_record_belongs_to_the_caller_and_names_the_image(engine: Engine, out: Path, image: str) -> None:
    digest = engine.inspect(image)['Id']
    options = ['-e', 'LOCAL_USER_ID=1234', '-e', f'TF_BENCH_IMAGE_DIGEST={digest}', *mount(out)]
    done = engine.run(options, SHORT, image)
    assert 'total images/sec' in done.stdout
    (path,) = out.glob('*.json')
    assert owner(path) == (1234, 1234)
    assert path.parent.stat().st_uid == 1234
    record = the_record(out)
    assert record['ended']['status'] == 'completed'
    assert record['container']['runtime'] == 'docker'
    assert (record['container']['image'], record['container']['digest']) == (f'{image}:latest', digest)


@pytest.mark.parametrize(
    ('image', 'version'), [(IMAGE, '2.18.1'), (MKL_IMAGE, '2.14.0')], ids=['tf-bench', 'tf-bench-mkl']
)
def test_each_image_has_its_own_tensorflow_with_onednn_for_avx2(engine: Engine, image: str, version: str) -> None:
    words = ['python', '-c', 'import tensorflow; print(tensorflow.__version__)']
    assert engine.run([], words, image).stdout.strip() == version
    options = ['-e', 'TF_ENABLE_ONEDNN_OPTS=1', '--network', 'none']
    engine.run(options, ['run_benchmark.py', 'machine', '--require=avx2,onednn,onednn:avx2'], image)
    required = engine.run(options, ['run_benchmark.py', 'machine', '--require=openmp'], image, check=False)
    assert required.returncode == (0 if image == MKL_IMAGE else 1), required.stderr


@pytest.mark.parametrize(
    'words',
    [
        ['--model=mobilenet_v1', '--data_format=NCHW'],
        pytest.param(['--model=keras/MobileNet'], marks=pytest.mark.slow),
    ],
    ids=['slim', 'keras'],
)
def test_networks_run_on_the_tensorflow_of_either_image(engine: Engine, image: str, words: list[str]) -> None:
    common = ['--batch_size=2', '--image_size=96', '--num_warmup_batches=0', '--num_batches=1']
    for more in ([], ['--forward_only']):
        engine.run(['-e', 'TF_ENABLE_ONEDNN_OPTS=1'], ['run_benchmark.py', *words, *common, *more], image)


def test_docker_chooses_the_user_too(engine: Engine, out: Path) -> None:
    engine.own(out, 1234)
    engine.run(['-u', '1234', *mount(out)], SHORT)
    (path,) = out.glob('*.json')
    assert path.stat().st_uid == 1234


def test_without_a_word_of_whose_files_they_are_they_belong_to_the_owner_of_the_folder(
    engine: Engine, out: Path
) -> None:
    engine.own(out, 4321)
    engine.run(mount(out), SHORT)
    (path,) = out.glob('*.json')
    assert owner(path) == (4321, 4321)


@pytest.mark.parametrize(
    ('options', 'user'),
    [
        ([], 9001),
        (['-e', 'LOCAL_USER_ID=1234'], 1234),
        (['-e', 'LOCAL_USER_ID=0'], 9001),
        (['-e', 'LOCAL_USER_ID=0', '-e', 'LOCAL_GROUP_ID=0'], 9001),
        (['-u', '77'], 77),
        (['-u', '77', '--cap-drop', 'ALL'], 77),
        (['--read-only'], 9001),
    ],
)
def test_nothing_runs_as_root(engine: Engine, options: list[str], user: int) -> None:
    done = engine.run(options, ['sh', '-c', 'id -u; id -g; cat /proc/self/status; echo in $HOME'])
    lines = done.stdout.splitlines()
    first = engine.run(options, ['cat', '/proc/1/status']).stdout.splitlines()
    assert next(line for line in first if line.startswith('Uid:')).split()[1:] == [str(user)] * 4
    assert lines[0] == str(user)
    assert '0' not in lines[1].split() or '-u' in options  # Docker's own choice of group
    assert next(line for line in lines if line.startswith('Uid:')).split()[1:] == [str(user)] * 4
    assert next(line for line in lines if line.startswith('CapEff:')).split()[1] == '0' * 16
    assert lines[-1] == ('in /dev/shm' if '--read-only' in options else 'in /tmp')


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        (['-e', 'LOCAL_USER_ID=me'], 'LOCAL_USER_ID=me is no id'),
        (['-e', 'LOCAL_USER_ID=010'], 'LOCAL_USER_ID=010 is no id'),
        (['-e', 'LOCAL_USER_ID=2147483648'], 'LOCAL_USER_ID=2147483648 is too large'),
        (['-e', 'LOCAL_USER_ID=99999999999999999999'], 'LOCAL_USER_ID=99999999999999999999 is no id'),
        (['-e', 'LOCAL_USER_ID=1234', '-e', 'LOCAL_GROUP_ID=staff'], 'LOCAL_GROUP_ID=staff is no id'),
        (['-e', 'LOCAL_USER_ID=1234', '-e', 'LOCAL_GROUP_ID=0'], "LOCAL_GROUP_ID=0 is root's group"),
        (['-e', 'LOCAL_GROUP_ID=55'], 'LOCAL_GROUP_ID=55 has no effect without LOCAL_USER_ID'),
        (['-e', 'LOCAL_GROUP_ID=55', '-e', 'LOCAL_USER_ID=0'], 'LOCAL_GROUP_ID=55 has no effect without LOCAL_USER_ID'),
        (['--cap-drop', 'ALL'], 'docker run -u 9001:9001'),
        (['-e', 'LOCAL_USER_ID=1234', '-u', '77'], 'LOCAL_USER_ID=1234 cannot be'),
    ],
)
def test_a_user_that_cannot_be_is_refused(engine: Engine, options: list[str], told: str) -> None:
    done = engine.run(options, ['id'], check=False)
    assert (done.returncode, done.stdout) == (2, '')
    assert told in done.stderr


def test_a_folder_of_roots_group_makes_nobody_a_member_of_that(engine: Engine, out: Path) -> None:
    engine.own(out, 4321)
    engine.shell('chgrp 0 /results', options=mount(out))
    assert engine.run(mount(out), ['sh', '-c', 'id -u; id -G']).stdout.split() == ['4321', '4321']


@pytest.mark.parametrize('options', [['-u', '1234'], ['-e', 'LOCAL_USER_ID=1234']])
def test_a_folder_of_anothers_is_not_taken_over(engine: Engine, out: Path, options: list[str]) -> None:
    engine.own(out, 4321)
    done = engine.run([*options, *mount(out)], SHORT, check=False)
    assert done.returncode == 2
    assert 'Permission denied' in done.stderr
    assert 'Traceback' not in done.stderr
    assert owner(out) == (4321, 4321)
    assert list(out.iterdir()) == []


def test_a_root_file_system_that_cannot_be_written_is_enough(engine: Engine, out: Path, image: str) -> None:
    engine.run(['--read-only', '-e', 'LOCAL_USER_ID=1234', *mount(out)], SHORT, image)
    assert the_record(out)['ended']['status'] == 'completed'


def test_no_network_is_enough(engine: Engine, out: Path, image: str) -> None:
    engine.run(['--network', 'none', *mount(out)], SHORT, image)
    assert the_record(out)['ended']['status'] == 'completed'


def test_one_processor_of_several_is_all_that_is_used(engine: Engine, out: Path, image: str) -> None:
    engine.run(['--cpuset-cpus=0', *mount(out)], SHORT, image)
    record = the_record(out)
    assert record['config']['threads']['num_intra_threads'] == 1
    assert record['machine']['cpu']['usable_cpus'] == 1


def test_limits_of_time_and_memory_decide_threads_and_batch_and_stand_in_the_record(
    engine: Engine, out: Path, image: str
) -> None:
    if engine('info', '--format', '{{.CPUCfsQuota}} {{.MemoryLimit}}').stdout.strip() != 'true true':
        pytest.skip('this engine cannot limit processors or memory')
    words = ['run_benchmark.py', '--model=vgg_16', '--num_warmup_batches=0', '--num_batches=2']
    done = engine.run(['--cpus=1', '-m', '2g', *mount(out)], words, image)
    record = the_record(out)
    assert record['machine']['cpu']['cgroup_quota'] == pytest.approx(1)
    assert record['machine']['memory']['cgroup_limit_bytes'] == 2 * GIB
    assert record['config']['threads']['num_intra_threads'] == 1
    assert record['config']['network']['batch_size'] < 8
    assert record['workers'][0]['peak_memory_bytes'] < 2 * GIB
    (warning,) = [warning for warning in record['warnings'] if warning['code'] == 'batch_reduced']
    assert warning['text'] in done.stdout


def stopped(engine: Engine, out: Path, image: str, *how: str) -> tuple[int, str]:
    """A run that is ended by `docker HOW` in the middle: its exit status, and what it printed."""
    name = f'{engine.name}-{time.monotonic_ns()}'
    with engine.deadline(), engine.start(['--name', name, *mount(out)], ENDLESS, image) as process:
        assert process.stdout
        seen = read_until(process.stdout, '10\t')
        engine(*how, name)
        seen += process.stdout.read()
        return process.wait(60), seen


def interrupted_at_a_terminal(engine: Engine, out: Path, image: str) -> tuple[int, str]:
    """A run under `docker run -it`, at whose terminal Ctrl-C is typed in the middle."""
    keyboard, terminal = pty.openpty()
    words = engine.run_words(['-it', *mount(out)], ENDLESS, image)
    with (
        engine.deadline(),
        subprocess.Popen([engine.client, *words], stdin=terminal, stdout=terminal, stderr=terminal) as process,
    ):
        os.close(terminal)
        seen, typed = '', False
        # A terminal's end is an error to who reads it.
        with contextlib.suppress(OSError):
            while text := os.read(keyboard, 4096):
                seen += text.decode(errors='replace')
                if not typed and '10\timages/sec' in seen:
                    os.write(keyboard, b'\x03')
                    typed = True
        status = process.wait(60)
    os.close(keyboard)
    return status, seen


@pytest.mark.parametrize('how', ['docker stop', 'docker kill --signal=INT', 'Ctrl-C at a terminal'])
def test_a_stopped_container_keeps_what_it_measured(engine: Engine, out: Path, image: str, how: str) -> None:
    client, *words = how.split()
    if client == 'docker':
        status, seen = stopped(engine, out, image, *words)
    else:
        status, seen = interrupted_at_a_terminal(engine, out, image)
    assert status == 1, seen
    assert 'interrupted' in seen
    record = the_record(out)
    assert record['ended']['status'] == 'interrupted'
    assert len(record['workers'][0]['step_seconds']) >= 10


def test_a_container_that_is_stopped_before_it_measures_ends_at_once(engine: Engine, out: Path) -> None:
    name = f'{engine.name}-early'
    # A process 1 without a handler ignores SIGTERM, and is killed (137) when Docker's patience is over.
    words = ['sh', '-c', 'echo started; exec sleep 600']
    with engine.deadline(), engine.start(['--name', name, *mount(out)], words) as process:
        assert process.stdout
        assert process.stdout.readline() == 'started\n'
        engine('stop', '--time=30', name)
        assert process.wait(60) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ('words', 'status', 'told'),
    [
        (['run_benchmark.py', 'models', 'vgg*'], 0, 'vgg_16'),
        (['tf-bench', '--version'], 0, 'tf-bench'),
        (['--version'], 0, 'tf-bench'),
        (['python', '-c', 'print(6 * 7)'], 0, '42'),
        (['run_benchmark.py', '--model=vgg_17'], 2, 'Did you mean vgg_19?'),
        (['sh', '-c', 'exit 7'], 7, ''),
        (['benchmark'], 2, 'There is no program benchmark here: put run_benchmark.py'),
        (['/etc'], 2, 'There is no program /etc here: put run_benchmark.py'),
        ([], 0, 'Usage: run_benchmark.py'),
    ],
)
def test_every_command_is_a_containers_command(engine: Engine, words: list[str], status: int, told: str) -> None:
    done = engine.run([], words, check=False)
    assert done.returncode == status, done.stderr
    assert told in done.stdout + done.stderr


def test_dockers_own_process_1_is_enough(engine: Engine) -> None:
    done = engine.run(['--init'], ['sh', '-c', 'cat /proc/$PPID/comm'])
    assert (done.stdout.strip(), done.stderr) == ('docker-init', '')


def test_there_is_no_server_of_ssh_but_where_it_is_asked_for(engine: Engine) -> None:
    name = f'{engine.name}-quiet'
    with engine.deadline(), engine.start(['--name', name], ['sh', '-c', 'echo started; exec sleep 600']) as process:
        assert process.stdout
        process.stdout.readline()
        running = [line.split()[-2:] for line in engine('top', name, '-o', 'pid,comm,args').stdout.splitlines()[1:]]
        engine('kill', name)
        process.wait(60)
    assert running[-1] == ['sleep', '600']
    assert len(running) == 2  # tini and it


def test_ssh_without_a_key_is_refused_in_a_sentence(engine: Engine) -> None:
    done = engine.run([], ['sshd'], check=False)
    assert done.returncode == 2
    assert '/ssh/authorized_keys' in done.stderr
