"""Parameter servers and replicas: the weights of one worker with the whole batch, and jobs that begin and end together.

Every process is a real one, with TensorFlow's own servers between them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from jobs import LENET, PS, places, process_of, read_until, started
from program import command, run, the_record

from bench.runners import cluster

ROOT = Path(__file__).parents[3]
STEPS, BATCH = 5, 8
TRAINING = ROOT / 'tests' / 'shared_training.py'


def trained(folder: Path, *words: str, servers: int = 0, workers: int = 1, steps: int = STEPS) -> dict[str, Any]:
    """What came of the training in so many processes."""

    def line(job: str, task: int, *hosts: str) -> list[str]:
        out = folder / f'{job}-{task}.npz'
        return [sys.executable, str(TRAINING), str(steps), str(BATCH), str(out), job, str(task), *hosts, *words]

    with cluster.reserved_addresses(servers + workers) as addresses:
        if servers:
            hosts = [','.join(addresses[:servers]), ','.join(addresses[servers:])]
            commands = [line('ps', task, *hosts) for task in range(servers)]
            commands += [line('worker', task, *hosts) for task in range(workers)]
        else:
            commands = [line('alone', 0, '-', '-')]
        with started(commands) as processes:
            for process in processes:
                output, _ = process.communicate(timeout=240)
                assert process.returncode == 0, output
    return dict(np.load(folder / f'{"worker" if servers else "alone"}-0.npz'))


@pytest.fixture(scope='module')
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process makes of the whole batch."""
    seen: dict[tuple[str, ...], dict[str, Any]] = {}

    def train(*words: str) -> dict[str, Any]:
        if words not in seen:
            seen[words] = trained(tmp_path_factory.mktemp('alone'), *words)
        return seen[words]

    return train


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    names = [name for name in expected if name not in ('losses', 'global_step')]
    assert len(names) >= 8
    for name in names:
        # Relative to the largest: sums of other roundings differ where they nearly cancel.
        limit = 1e-5 * float(np.abs(expected[name]).max())
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=limit, err_msg=name)
    assert found['global_step'] == expected['global_step'] == STEPS


SGD = ('--learning_rate=0.1', '--weight_decay=0.01')
MOMENTUM = ('--optimizer=momentum', '--learning_rate=0.05', '--weight_decay=0.01')
OTHERS = (*MOMENTUM, '--moving_average_decay=0.9')
# The rate falls after every second step of the whole batch: 0.016 epochs of 1000 images.
DECAYING = (*MOMENTUM, '--learning_rate_decay_type=exponential', '--num_epochs_per_decay=0.016')


@pytest.mark.parametrize(
    ('servers', 'words', 'place'),
    [
        pytest.param(1, DECAYING, '--ps_placement=round_robin', id='one_server_momentum_decay'),
        pytest.param(1, SGD, '--ps_placement=round_robin', id='one_server_sgd', marks=pytest.mark.slow),
        pytest.param(2, OTHERS, '--ps_placement=size', id='two_servers_momentum_averages', marks=pytest.mark.slow),
    ],
)
def test_synchronous_servers_give_the_weights_of_one_worker_with_the_whole_batch(
    tmp_path: Path, alone: Any, servers: int, words: tuple[str, ...], place: str
) -> None:
    found = trained(tmp_path, *words, '--variable_update=parameter_server', place, servers=servers, workers=2)
    assert_same(found, alone(*words))


@pytest.mark.parametrize(
    'words',
    [
        pytest.param(DECAYING, id='momentum_decay'),
        pytest.param(SGD, id='sgd', marks=pytest.mark.slow),
        pytest.param(OTHERS, id='momentum_averages', marks=pytest.mark.slow),
    ],
)
def test_replicas_give_the_weights_of_one_worker_with_the_whole_batch_and_stay_the_same(
    tmp_path: Path, alone: Any, words: tuple[str, ...]
) -> None:
    found = trained(tmp_path, *words, '--variable_update=replicated', '--num_workers=2')
    assert_same(found, alone(*words))
    copies = [name for name in found if name.startswith('replica_1/') and name.endswith(('weights', 'biases'))]
    assert len(copies) == 8
    for name in copies:
        np.testing.assert_array_equal(found[name], found[name.removeprefix('replica_1/')], err_msg=name)


@pytest.mark.slow
def test_one_worker_of_an_asynchronous_server_decays_and_updates_as_a_process_by_itself(
    tmp_path: Path, alone: Any
) -> None:
    words = ('--variable_update=parameter_server', '--nosync_replicas')
    assert_same(trained(tmp_path, *SGD, *words, servers=1, workers=1), alone(*SGD))


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that still work for a record in this folder."""
    lines = [' '.join(process.info['cmdline'] or ()) for process in psutil.process_iter(['cmdline'])]
    return [line for line in lines if f'--result_dir={folder}' in line]


def test_a_job_on_this_machine_leaves_one_record_and_no_process(tmp_path: Path) -> None:
    done = run(
        *LENET, *PS, '--num_workers=2', '--num_ps=1', '--num_warmup_batches=2', '--num_batches=5',
        f'--result_dir={tmp_path}',
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = the_record(tmp_path)
    assert [worker['rank'] for worker in record['workers']] == [0, 1]
    assert [len(worker['step_seconds']) for worker in record['workers']] == [5, 5]
    shared = record['distribution']
    assert (shared['variable_update'], shared['synchronous']) == ('parameter_server', True)
    assert record['config']['distribution']['num_ps'] == 1
    assert record['images_per_step'] == 16
    assert shared['exchange']['payload_bytes'] == 4 * parameters()
    # Steps that exchange nothing, with variables of each worker's own.
    assert all(len(worker['alone_seconds']) >= 3 for worker in record['workers'])
    assert shared['exchange']['seconds_without'] > 0
    assert left_over(tmp_path) == []


def parameters() -> int:
    """lenet's, for 1001 classes: two convolutions of 5x5, two fully connected layers."""
    return (25 * 32 + 32) + (25 * 32 * 64 + 64) + (7 * 7 * 64 * 1024 + 1024) + (1024 * 1001 + 1001)


@pytest.mark.slow
def test_processes_that_were_started_one_by_one_leave_one_record_by_the_first_worker(tmp_path: Path) -> None:
    with cluster.reserved_addresses(3) as addresses:
        lines = places(tmp_path, 1, 2, addresses, '--num_warmup_batches=1', '--num_batches=4', '--nosync_replicas')
        with started(lines) as processes:
            for process in processes:
                output, _ = process.communicate(timeout=240)
                assert process.returncode == 0, output
    record = the_record(tmp_path)
    assert [worker['rank'] for worker in record['workers']] == [0, 1]
    assert not record['distribution']['synchronous']


def test_a_worker_whose_server_does_not_come_names_it_and_gives_up(tmp_path: Path) -> None:
    with cluster.reserved_addresses(2) as addresses:
        (_, worker) = places(tmp_path / 'results', 1, 1, addresses, '--wait_seconds=2')
        with started([worker]) as (process,):
            output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.count(f'waiting for ps 0 ({addresses[0]})\n') == 1
    assert f'Waited 2 seconds for ps 0 ({addresses[0]})' in output
    assert 'Traceback' not in output
    # The run never began.
    assert 'throughput' not in output and 'exchange' not in output
    assert not (tmp_path / 'results').exists()


def test_a_worker_that_waits_for_its_server_can_be_ended(tmp_path: Path) -> None:
    with cluster.reserved_addresses(2) as addresses:
        (_, worker) = places(tmp_path / 'results', 1, 1, addresses, '--wait_seconds=600')
        with started([worker]) as (process,):
            read_until(process, 'waiting for ps 0')
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f'error: interrupted while waiting for ps 0 ({addresses[0]}).' in output
    assert 'Traceback' not in output
    # Nothing was measured that a record could be of.
    assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize('index', [0, 1], ids=['server', 'worker'])
def test_a_port_that_is_taken_is_told_with_the_process_that_wanted_it(tmp_path: Path, index: int) -> None:
    with cluster.reserved_addresses(2) as addresses:
        line = places(tmp_path / 'results', 1, 1, addresses)[index]
        # Without the permission to share a port.
        done = subprocess.run(
            line,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, 'TF_GRPC_REUSE_PORT': '0'},
        )
    assert done.returncode == 1
    # And nothing else: no remark of TensorFlow, and no summary or record of a run that never began.
    (told,) = done.stderr.splitlines()
    assert told.startswith(f'error: {("ps 0", "worker 0")[index]} cannot listen at {addresses[index]}')
    assert done.stdout == ''
    assert not (tmp_path / 'results').exists()


@pytest.mark.slow
@pytest.mark.parametrize('words', [(), ('--nosync_replicas',)], ids=['synchronous', 'asynchronous'])
@pytest.mark.parametrize('victim', [0, 1, 2], ids=['server', 'first_worker', 'second_worker'])
def test_all_others_end_and_name_who_was_killed_on_another_machine(
    tmp_path: Path, victim: int, words: tuple[str, ...]
) -> None:
    name = ['ps 0', 'worker 0', 'worker 1'][victim]
    with cluster.reserved_addresses(3) as addresses:
        lines = places(tmp_path, 1, 2, addresses, '--num_batches=100000', *words)
        with started(lines) as processes:
            first_worker = processes[1]
            read_until(first_worker, '10\t')
            processes[victim].send_signal(signal.SIGKILL)
            end = time.monotonic() + 60
            for index, process in enumerate(processes):
                if index == victim:
                    continue
                output, _ = process.communicate(timeout=max(1.0, end - time.monotonic()))
                assert process.returncode == 1, output
                # And no other one is blamed, also not by the server.
                assert f'{name} (' in output, output
                assert 'Traceback' not in output
    if victim != 1:
        record = the_record(tmp_path)
        assert record['ended']['status'] == 'failed'
        assert f'{name} (' in record['ended']['reason']


@pytest.mark.slow
@pytest.mark.parametrize('words', [(), ('--nosync_replicas',)], ids=['synchronous', 'asynchronous'])
def test_a_job_that_is_stopped_everywhere_at_once_keeps_its_record(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The server is asked first, and goes on until the workers have done their last step and left their record."""
    with cluster.reserved_addresses(3) as addresses:
        lines = places(tmp_path, 1, 2, addresses, '--num_batches=100000', *words)
        with started(lines) as processes:
            server, first_worker, second_worker = processes
            read_until(first_worker, '10\t')
            server.send_signal(signal.SIGTERM)
            time.sleep(1)
            for worker in (first_worker, second_worker):
                worker.send_signal(signal.SIGTERM)
            printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 1, 1], '\n'.join(printed)
    assert 'Ending when the workers are done' in printed[0]
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'interrupted'
    assert len(record['workers']) == 2


@pytest.mark.slow
@pytest.mark.parametrize('words', [(), ('--nosync_replicas',)], ids=['synchronous', 'asynchronous'])
def test_one_worker_that_is_interrupted_on_its_machine_ends_all_and_says_so(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    with cluster.reserved_addresses(3) as addresses:
        lines = places(tmp_path, 1, 2, addresses, '--num_warmup_batches=1', '--num_batches=100000', *words)
        with started(lines) as processes:
            _, first_worker, second_worker = processes
            read_until(first_worker, '10\t')
            second_worker.send_signal(signal.SIGINT)
            printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 1, 1], '\n'.join(printed)
    assert ['Ending after this step.' in output for output in printed] == [False, False, True]
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'interrupted'
    # Who ends a run does not wait for that.
    assert record['machine_rates'] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ('workers', 'gradients'), [(3, 2), (2, 1), (2, 3), (2, 5)], ids=['backup', 'one_for_all', 'more', 'many_more']
)
def test_workers_end_with_the_others_where_an_update_is_of_fewer_or_more_gradients(
    tmp_path: Path, workers: int, gradients: int
) -> None:
    done = run(
        *LENET, *PS, f'--num_workers={workers}', '--num_ps=2', f'--replicas_to_aggregate={gradients}',
        '--num_warmup_batches=2', '--num_batches=20', f'--result_dir={tmp_path}',
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = the_record(tmp_path)
    counts = [len(worker['step_seconds']) for worker in record['workers']]
    assert len(counts) == workers
    # The leader's are counted, and the others end when it has done them.
    assert counts[0] == 20
    assert min(counts) >= 1
    assert left_over(tmp_path) == []
    # Some wait for an update when the others end, and TensorFlow remarks that this is cancelled.
    assert '.cc:' not in done.stderr


@pytest.mark.slow
def test_tensorflow_remarks_that_a_step_was_changed_after_a_session_had_run_it(tmp_path: Path) -> None:
    words = ('--num_workers=2', '--num_warmup_batches=1', '--num_batches=3', f'--result_dir={tmp_path}')
    done = run(*LENET, *PS, *words, TF_CPP_MIN_LOG_LEVEL='1')
    assert done.returncode == 0, done.stderr
    assert 'was changed by' not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('words', [(), ('--nosync_replicas',)], ids=['synchronous', 'asynchronous'])
def test_a_killed_worker_of_a_job_with_servers_is_named_and_what_the_other_saw_is_kept(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    line = command(*LENET, *PS, '--num_workers=2', '--num_batches=1000000', f'--result_dir={tmp_path}', *words)
    with started([line]) as (job,):
        read_until(job, '[0] 10\t')
        process_of(job, '1').kill()
        output, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert any(text.startswith('error: Worker 1 was killed by SIGKILL') for text in output.splitlines()), output
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    first, second = record['workers']
    assert len(first['step_seconds']) >= 10
    assert second['step_seconds'] == []
    assert left_over(tmp_path) == []


@pytest.mark.slow
def test_what_a_server_says_as_it_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written to its descriptor by a handler of SIGABRT, which a failed check of TensorFlow raises."""
    monkeypatch.setenv('PYTHONFAULTHANDLER', '1')
    line = command(*LENET, *PS, '--num_workers=2', '--num_batches=1000000', f'--result_dir={tmp_path}')
    with started([line]) as (job,):
        read_until(job, '[0] 10\t')
        process_of(job, '').send_signal(signal.SIGABRT)
        output, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    # The place where it was, in a handler's words.
    assert 'in _serve\n' in output[output.index('error: Server 0 was killed by SIGABRT') :], output
