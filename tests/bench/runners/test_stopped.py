"""Jobs of several processes of which one is stopped (SIGSTOP): it lives, and no answer comes of it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from jobs import LENET, PS, places, process_of, read_until, started
from program import command, the_record

from bench.runners import cluster

FOREVER = '--num_batches=100000'


@pytest.mark.slow
@pytest.mark.parametrize(
    ('victim', 'words'),
    [
        pytest.param(0, (), id='server'),
        pytest.param(0, ('--nosync_replicas',), id='server_of_asynchronous_workers'),
        pytest.param(2, (), id='second_worker'),
    ],
)
def test_a_process_that_is_stopped_on_another_machine_ends_the_others(
    tmp_path: Path, victim: int, words: tuple[str, ...]
) -> None:
    name = ['ps 0', 'worker 0', 'worker 1'][victim]
    with cluster.reserved_addresses(3) as addresses:
        lines = places(tmp_path, 1, 2, addresses, '--num_warmup_batches=1', FOREVER, *words)
        with started(lines) as processes:
            first_worker = processes[1]
            read_until(first_worker, '10\t')
            processes[victim].send_signal(signal.SIGSTOP)
            end = time.monotonic() + 40
            for index, process in enumerate(processes):
                if index != victim:
                    output, _ = process.communicate(timeout=max(1.0, end - time.monotonic()))
                    assert process.returncode == 1, output
                    told = [line for line in output.splitlines() if line.startswith('error: ')]
                    assert len(told) == 1 and told[0].startswith(f'error: {name} ('), output
                    assert 'Traceback' not in output
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    assert record['ended']['reason'].startswith(f'{name} (')
    assert len(record['workers'][0]['step_seconds']) >= 10


@pytest.mark.slow
@pytest.mark.parametrize('words', [(), ('--nosync_replicas',)], ids=['synchronous', 'asynchronous'])
def test_a_server_that_is_stopped_on_this_machine_leaves_what_the_workers_saw(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    words = (*LENET, *PS, '--num_workers=2', '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}', *words)
    with started([command(*words)]) as (job,):
        read_until(job, '[0] 10\t')
        process_of(job, '').suspend()
        output, _ = job.communicate(timeout=40)
    assert job.returncode == 1
    assert any(text.startswith('error: Server 0 has been stopped by a signal') for text in output.splitlines()), output
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    assert len(record['workers'][0]['step_seconds']) >= 10
    assert len(record['workers'][1]['step_seconds']) >= 1
