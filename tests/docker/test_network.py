"""Jobs of several containers on a bridge network: Horovod's ranks over ssh, and parameter servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from engine import ENDLESS, IMAGE, MKL_IMAGE, ROOT, Engine, read_until, the_record

pytestmark = pytest.mark.container

LENET = ['run_benchmark.py', '--model=lenet', '--batch_size=8', '--num_warmup_batches=1', '--num_batches=5']
KEYS = "ssh-keygen -q -t ed25519 -N '' -f /ssh/id_rsa && cp /ssh/id_rsa.pub /ssh/authorized_keys"


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    """A bridge network, gone after the test with all that is on it."""
    name = f'{engine.name}-network'
    engine('network', 'create', name)
    yield name
    engine.clean()
    engine('network', 'rm', name)


@pytest.fixture
def keys(engine: Engine) -> Iterator[str]:
    """A volume with the key of a job."""
    name = f'{engine.name}-keys'
    engine('volume', 'create', name)
    engine.run(['-v', f'{name}:/ssh'], ['sh', '-c', KEYS])
    yield name
    engine.clean()
    engine('volume', 'rm', name)


@pytest.mark.parametrize('image', [IMAGE, pytest.param(MKL_IMAGE, marks=pytest.mark.slow)])
@pytest.mark.parametrize('starter', ['mpirun', 'horovodrun --gloo'])
def test_horovods_ranks_in_two_containers_make_one_record(
    engine: Engine, network: str, keys: str, tmp_path: Path, image: str, starter: str
) -> None:
    common = ['--network', network, '-v', f'{keys}:/ssh:ro']
    options = [*common, '--name', f'{engine.name}-rank1', '--hostname', 'rank1']
    with engine.deadline(), engine.start(options, ['sshd'], image) as other:
        hosts = ['-np', '2', '-H', f'localhost:1,{engine.name}-rank1:1']
        words = [*starter.split(), *hosts, *LENET, '--variable_update=horovod']
        out = tmp_path / 'out'
        done = engine.run([*common, '-e', 'LOCAL_USER_ID=9001', '-v', f'{out}:/results'], words, image, check=False)
        engine('kill', f'{engine.name}-rank1')
        other.wait(60)
    assert done.returncode == 0, done.stdout + done.stderr
    record = the_record(out)
    assert len(record['workers']) == 2
    assert len({worker['host'] for worker in record['workers']}) == 2
    assert record['images_per_step'] == 16


def test_ranks_of_mpirun_that_are_asked_to_end_keep_what_they_measured(
    engine: Engine, network: str, keys: str, tmp_path: Path
) -> None:
    """By the signal that mpirun passes on. At SIGTERM it ends its ranks itself, and nobody gathers what they saw."""
    common = ['--network', network, '-v', f'{keys}:/ssh:ro']
    out, names = tmp_path / 'out', [f'{engine.name}-rank{rank}' for rank in range(2)]
    hosts = ['-np', '2', '-H', f'localhost:1,{names[1]}:1']
    words = ['mpirun', *hosts, *ENDLESS, '--variable_update=horovod']
    options = [*common, '--name', names[0], '-e', 'LOCAL_USER_ID=9001', '-v', f'{out}:/results']
    with (
        engine.deadline(),
        engine.start([*common, '--name', names[1]], ['sshd']) as other,
        engine.start(options, words) as job,
    ):
        assert job.stdout
        read_until(job.stdout, '10\t')
        engine('kill', '--signal=USR1', names[0])
        printed = job.stdout.read()
        engine('kill', names[1])
        other.wait(60)
    record = the_record(out)
    assert record['ended']['status'] == 'interrupted', printed
    assert [len(worker['step_seconds']) >= 10 for worker in record['workers']] == [True, True]


def test_ssh_opens_to_the_jobs_key_alone(engine: Engine, network: str, keys: str) -> None:
    name = f'{engine.name}-server'
    common = ['--network', network]
    with engine.deadline(), engine.start([*common, '--name', name, '-v', f'{keys}:/ssh:ro'], ['sshd']) as server:
        words = ['ssh', name, 'echo $0 in $PATH; id -u']
        trusted = engine.run([*common, '-v', f'{keys}:/ssh:ro'], words)
        stranger = engine.run(common, ['sh', '-c', f'{KEYS} && ssh {name} id'], check=False)
        engine('kill', name)
        server.wait(60)
    assert '/opt/venv/bin:' in trusted.stdout
    assert trusted.stdout.splitlines()[-1] == '9001'
    assert stranger.returncode == 255
    assert 'Permission denied' in stranger.stderr


def test_what_a_container_was_given_in_its_environment_reaches_those_who_log_in(
    engine: Engine, network: str, keys: str
) -> None:
    name = f'{engine.name}-server'
    given = {
        'KMP_AFFINITY': 'granularity=fine,compact,1,0',
        'TF_ENABLE_ONEDNN_OPTS': '0',
        'HOROVOD_THREAD_AFFINITY': '0',
        'OMPI_MCA_btl_vader_single_copy_mechanism': 'cma',
        'TF_CPP_VMODULE': 'a "quoted" \\ it\'s #1=2',
        'TF_BENCH_IMAGE_DIGEST': 'sha256:12ab',
    }
    options = ['--network', network, '--name', name, '-v', f'{keys}:/ssh:ro', '-e', 'OTHER=secret']
    options += [word for pair in given.items() for word in ('-e', '='.join(pair))]
    tell = "python -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    with engine.deadline(), engine.start(options, ['sshd']) as server:
        done = engine.run(['--network', network, '-v', f'{keys}:/ssh:ro'], ['ssh', name, tell])
        engine('kill', name)
        server.wait(60)
    found = json.loads(done.stdout)
    assert {key: found.get(key) for key in given} == given
    assert (found['TF_BENCH_IMAGE'], found['PYTHONUNBUFFERED']) == (f'{IMAGE}:latest', '1')
    assert 'OTHER' not in found


def test_sshd_serves_as_root_where_root_is_the_caller(engine: Engine, keys: str) -> None:
    """As with engines that run without root: a namespace of users, whose root finds no /run/sshd in the image."""
    script = """
        unshare --user --map-root-user entrypoint sshd &
        for _ in $(seq 50); do
            sleep 0.2
            kill -0 $! && head -c 4 < /dev/tcp/127.0.0.1/2222 && exit
        done
    """
    options = ['--privileged', '--user', '0', '--entrypoint', 'bash', '-v', f'{keys}:/ssh:ro']
    done = engine.run(options, ['-c', script], check=False)
    if 'unshare failed' in done.stderr or 'unable to apply caps' in done.stderr:
        pytest.skip('this machine gives nobody a namespace of users, or its engine no privileges')
    assert done.stdout == 'SSH-', done.stderr


def server_job(
    engine: Engine, network: str, out: Path, words: Sequence[str], image: str = IMAGE
) -> dict[str, subprocess.Popen[str]]:
    """A server and two workers that run these words, each in a container of its own."""
    names = {job: f'{engine.name}-{job}' for job in ('ps0', 'worker0', 'worker1')}
    hosts = [
        f'--ps_hosts={names["ps0"]}:5000',
        f'--worker_hosts={names["worker0"]}:5000,{names["worker1"]}:5000',
    ]
    engine.own(out, 1234)
    started = {}
    # The workers first: they wait for a server that is not there yet.
    for job in ('worker1', 'worker0', 'ps0'):
        place = ['--variable_update=parameter_server', f'--job_name={job[:-1]}', f'--task_index={job[-1]}']
        options = ['--network', network, '--name', names[job], '-e', 'LOCAL_USER_ID=1234', '-v', f'{out}:/results']
        started[job] = engine.start(options, [*words, *place, *hosts], image)
    return started


@pytest.mark.parametrize('image', [IMAGE, pytest.param(MKL_IMAGE, marks=pytest.mark.slow)])
def test_parameter_servers_and_workers_in_three_containers_make_one_record(
    engine: Engine, network: str, tmp_path: Path, image: str
) -> None:
    started = server_job(engine, network, tmp_path / 'out', LENET, image)
    printed = [process.communicate(timeout=240)[0] for process in started.values()]
    assert [process.returncode for process in started.values()] == [0, 0, 0], '\n'.join(printed)
    record = the_record(tmp_path / 'out')
    assert len(record['workers']) == 2
    assert len({worker['host'] for worker in record['workers']}) == 2


def test_servers_and_workers_that_are_stopped_together_keep_what_they_measured(
    engine: Engine, network: str, tmp_path: Path
) -> None:
    started = server_job(engine, network, tmp_path / 'out', ENDLESS)
    leader = started['worker0'].stdout
    assert leader
    with engine.deadline():
        read_until(leader, '10\t')
        engine('stop', '--time=60', *(f'{engine.name}-{job}' for job in started))
        printed = [process.communicate(timeout=60)[0] for process in started.values()]
    statuses = {job: process.returncode for job, process in started.items()}
    assert statuses == {'ps0': 0, 'worker0': 1, 'worker1': 1}, '\n'.join(printed)
    record = the_record(tmp_path / 'out')
    assert record['ended']['status'] == 'interrupted'
    assert len(record['workers']) == 2


def compose() -> list[str] | None:
    """Docker's compose in either of its forms."""
    client = os.environ.get('DOCKER', 'docker')
    if subprocess.run([client, 'compose', 'version'], capture_output=True, check=False).returncode == 0:
        return [client, 'compose']
    found = shutil.which('docker-compose')
    return [found] if found else None


# What the file's first lines say, for a user with a number and for root.
@pytest.mark.parametrize(
    ('profile', 'more'), [('parameter-server', []), ('horovod', ['--exit-code-from', 'rank0'])], ids=['ps', 'horovod']
)
@pytest.mark.parametrize('user', ['1234', pytest.param('', marks=pytest.mark.slow)], ids=['user', 'root'])
def test_the_compose_file_does_what_its_first_lines_say(
    engine: Engine, tmp_path: Path, profile: str, more: list[str], user: str
) -> None:
    words = compose()
    if words is None:
        pytest.skip('there is no docker compose')
    out = tmp_path / 'out'
    engine.own(out, 1234)
    words += ['-p', engine.name, '-f', 'docker/compose.yaml', '--profile', profile]
    small = {'MODEL': 'lenet', 'BATCH_SIZE': '8', 'NUM_BATCHES': '5', 'RESULTS': str(out), 'LOCAL_USER_ID': user}
    try:
        done = subprocess.run(
            [*words, 'up', *more],
            env={**os.environ, **small},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        subprocess.run([*words, 'down', '--volumes'], env={**os.environ, **small}, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = the_record(out)
    assert len(record['workers']) == 2
    assert next(out.glob('*.json')).stat().st_uid == 1234
