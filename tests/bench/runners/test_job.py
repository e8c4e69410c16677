"""The whole program with several workers, as people start it: one record, and an end in every way that it can end."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

pytest.importorskip('horovod')

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / 'bench' / 'record.schema.json').read_text())
LENET = ('--model=lenet', '--batch_size=8', '--num_workers=2')
# For 1001 classes.
LENET_PARAMETERS = 4_290_409
FOREVER = '--num_batches=1000000'


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / 'run_benchmark.py'), *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=300)


def the_record(folder: Path) -> dict[str, Any]:
    """The only record in a folder, which obeys the schema."""
    (path,) = folder.iterdir()
    record = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record


class Job:
    """A job that runs until something happens to it."""

    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        self._popen = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        assert self._popen.stdout is not None
        self._output = self._popen.stdout

    def until(self, pattern: str) -> None:
        """Reads its lines up to one that matches."""
        for line in self._output:
            self.lines.append(line.rstrip('\n'))
            if re.search(pattern, line):
                return
        raise AssertionError('\n'.join(self.lines))

    def workers(self) -> list[psutil.Process]:
        """By rank."""
        processes = psutil.Process(self._popen.pid).children()
        return sorted(processes, key=lambda process: int(process.environ()['TF_BENCH_RANK']))

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def end(self) -> int:
        """Waits for the end and gives the exit status."""
        self.lines += [line.rstrip('\n') for line in self._output]
        return self._popen.wait(60)


@pytest.fixture
def job() -> Iterator[Any]:
    """Starts jobs and leaves no process of them."""
    started: list[Job] = []

    def start(*words: str) -> Job:
        started.append(Job(*words))
        return started[-1]

    yield start
    for each in started:
        each.signal(signal.SIGKILL)
        each.end()


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []


def test_two_workers_leave_one_record_of_the_whole_job(tmp_path: Path) -> None:
    done = run(*LENET, '--num_warmup_batches=2', '--num_batches=20', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ['[0] Running warm up', '[0] Done warm up', '[0] Step\tImg/sec\ttotal_loss']
    assert not any(line.startswith('[1]') for line in lines), 'the second worker has nothing else to say'
    record = the_record(tmp_path)
    first, second = record['workers']
    assert [(worker['rank'], worker['host']) for worker in (first, second)] == [
        (0, platform.node()),
        (1, platform.node()),
    ]
    assert first['pid'] != second['pid']
    for worker in (first, second):
        assert (len(worker['warmup_seconds']), len(worker['step_seconds'])) == (2, 20)
        assert worker['throughput']['images_per_second'] == pytest.approx(8 * 20 / sum(worker['step_seconds']))
        assert len(worker['alone_seconds']) >= 3
    assert first['losses'] != second['losses'], 'workers see different images'
    assert record['images_per_step'] == 16
    assert record['throughput']['images_per_second'] == pytest.approx(16 * 20 / sum(first['step_seconds']))
    # A common start and a common stop.
    assert sum(first['step_seconds']) == pytest.approx(sum(second['step_seconds']), rel=0.1)
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(first['cpus']) & set(second['cpus'])
    exchange = record['distribution']['exchange']
    assert (exchange['payload_bytes'], exchange['sent_bytes']) == (4 * LENET_PARAMETERS, 4 * LENET_PARAMETERS)
    # Their own speeds are those that they have without waiting for each other.
    alone = [8 / statistics.median(worker['alone_seconds']) for worker in record['workers']]
    spread = record['distribution']['spread']
    assert (spread['low'], spread['high']) == (min(alone), max(alone))
    assert any(f'horovod; without exchange {alone[0]:.2f}, {alone[1]:.2f} images/sec' in line for line in lines)
    assert exchange['seconds'] is not None
    config = record['config']['distribution']
    assert (config['variable_update'], config['num_workers'], config['cycle_time_ms']) == ('horovod', 2, 20)
    assert record['work']['gflops'] == pytest.approx(6 * 14_898_688 * record['throughput']['images_per_second'] / 1e9)
    summary = '\n'.join(lines)
    for text in ('2 workers, batch 8', 'exchange', 'horovod; '):
        assert text in summary


def test_a_killed_worker_ends_the_job_is_named_and_the_record_is_marked(tmp_path: Path, job: Any) -> None:
    running = job(*LENET, '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}')
    running.until(r'^\[0\] 10\t')
    workers = running.workers()
    workers[1].kill()
    killed = time.monotonic()
    assert running.end() == 1
    assert time.monotonic() - killed < 30
    assert_gone(workers)
    (told,) = [line for line in running.lines if line.startswith('error: ')]
    assert re.match(r'error: Worker 1 was killed by SIGKILL.*, after \d+ steps\.', told)
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    assert record['ended']['reason'].startswith('Worker 1 was killed by SIGKILL')
    first, second = record['workers']
    assert len(first['step_seconds']) >= 10, 'what the other one saw is kept'
    assert (second['pid'], second['peak_memory_bytes'], second['step_seconds']) == (workers[1].pid, None, [])


def test_ctrl_c_ends_all_workers_at_the_same_step_and_keeps_what_was_measured(tmp_path: Path, job: Any) -> None:
    running = job(*LENET, '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}')
    running.until(r'^\[0\] 10\t')
    workers = running.workers()
    for _ in range(2):  # as a key that bounces
        running.signal(signal.SIGINT)
        time.sleep(0.05)
    assert running.end() == 1
    assert_gone(workers)
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'interrupted', '\n'.join(running.lines)
    counts = {len(worker['step_seconds']) for worker in record['workers']}
    assert len(counts) == 1
    assert counts.pop() >= 10


@pytest.mark.slow
@pytest.mark.parametrize('rank', [0, 1])
def test_a_stopped_worker_ends_the_job_and_is_named(tmp_path: Path, job: Any, rank: int) -> None:
    running = job(*LENET, '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}')
    running.until(r'^\[0\] 10\t')
    workers = running.workers()
    workers[rank].suspend()
    stopped = time.monotonic()
    assert running.end() == 1
    assert time.monotonic() - stopped < 30
    assert_gone(workers)
    assert any(line.startswith(f'error: Worker {rank} has been stopped by a signal') for line in running.lines)
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    stopped_one, other = record['workers'][rank], record['workers'][1 - rank]
    assert len(other['step_seconds']) >= 9, 'what the other one saw is kept'
    assert stopped_one['step_seconds'] == []
    assert record['throughput'] is not None


@pytest.mark.slow
@pytest.mark.parametrize('rank', [0, 1])
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_before_its_first_step_ends_the_job(
    tmp_path: Path, job: Any, rank: int, number: signal.Signals
) -> None:
    running = job(*LENET, '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}')
    end = time.monotonic() + 30
    while len(psutil.Process(running._popen.pid).children()) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    workers = running.workers()
    time.sleep(1)
    workers[rank].send_signal(number)
    died = time.monotonic()
    assert running.end() == 1
    assert time.monotonic() - died < 30
    assert_gone(workers)
    told = '\n'.join(running.lines)
    assert f'error: Worker {rank} was killed by {number.name}' in told
    assert 'before its first step' in told
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    assert len(record['workers']) == 2


@pytest.mark.slow
def test_no_worker_outlives_the_program(tmp_path: Path, job: Any) -> None:
    running = job(*LENET, '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}')
    running.until(r'^\[0\] 10\t')
    workers = running.workers()
    running.signal(signal.SIGKILL)
    assert_gone(workers)


@pytest.mark.slow
def test_what_workers_find_wrong_with_the_command_line_is_wrong_usage(tmp_path: Path) -> None:
    done = run(*LENET, '--trainable_scopes=nothing', f'--result_dir={tmp_path / "none"}')
    assert done.returncode == 2, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith('error: --trainable_scopes=nothing')]
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'none').exists()


@pytest.mark.slow
def test_independent_workers_share_nothing_and_their_speeds_add(tmp_path: Path) -> None:
    words = ('--variable_update=independent', '--num_warmup_batches=1', '--max_seconds=2')
    done = run(*LENET, *words, f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert any(line.startswith('[1] total images/sec') for line in done.stdout.splitlines())
    record = the_record(tmp_path)
    own = [worker['throughput']['images_per_second'] for worker in record['workers']]
    # From the common start until the first stops.
    assert record['throughput']['images_per_second'] == pytest.approx(sum(own), rel=0.1)
    assert record['distribution']['exchange'] is None
    assert not record['distribution']['synchronous']


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_an_independent_worker_that_is_killed_leaves_what_another_saw(
    tmp_path: Path, job: Any, number: signal.Signals
) -> None:
    words = ('--variable_update=independent', '--num_warmup_batches=1', FOREVER)
    running = job(*LENET, *words, f'--result_dir={tmp_path}')
    running.until(r'^\[0\] 10\t')
    workers = running.workers()
    workers[1].send_signal(number)
    assert running.end() == 1
    assert_gone(workers)
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'failed'
    assert record['ended']['reason'].startswith('Worker 1 ')
    first, second = record['workers']
    assert len(first['step_seconds']) >= 10
    assert second['step_seconds'] == []


@pytest.mark.slow
def test_independent_workers_infer(tmp_path: Path) -> None:
    words = ('--variable_update=independent', '--forward_only', '--num_batches=5')
    done = run(*LENET, *words, f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    first, second = the_record(tmp_path)['workers']
    # The other one ends with the step that it does then.
    assert len(first['step_seconds']) == 5
    assert len(second['step_seconds']) >= 1


@pytest.mark.slow
def test_under_a_horovodrun_that_was_typed_the_first_process_writes_the_record(tmp_path: Path) -> None:
    horovodrun = str(Path(sys.executable).with_name('horovodrun'))
    words = ('--model=lenet', '--batch_size=8', '--num_warmup_batches=2', '--num_batches=12')
    done = subprocess.run(
        [horovodrun, '--gloo', '-np', '2', *command(*words, f'--result_dir={tmp_path}')],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = the_record(tmp_path)
    assert [worker['rank'] for worker in record['workers']] == [0, 1]
    assert {len(worker['step_seconds']) for worker in record['workers']} == {12}
    assert record['config']['distribution']['num_workers'] == 2
    assert record['images_per_step'] == 16
    assert record['repeat'].startswith('horovodrun -np 2 run_benchmark.py')
    assert done.stdout.count('total images/sec') == 1


@pytest.mark.slow
def test_a_worker_that_is_stopped_under_horovodrun_is_told_as_gone(tmp_path: Path) -> None:
    """Gloo waits 30 seconds for it."""
    horovodrun = str(Path(sys.executable).with_name('horovodrun'))
    words = ('--model=lenet', '--batch_size=8', '--num_warmup_batches=1', FOREVER, f'--result_dir={tmp_path}')
    line = [horovodrun, '--gloo', '-np', '2', *command(*words)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as launcher:
        try:
            assert launcher.stdout is not None
            while not re.search(r'\b10\timages/sec', launcher.stdout.readline()):
                assert launcher.poll() is None
            (stopped,) = [
                process
                for process in psutil.process_iter(['cmdline', 'environ'])
                if f'--result_dir={tmp_path}' in (process.info['cmdline'] or ())
                and (process.info['environ'] or {}).get('HOROVOD_RANK') == '1'
            ]
            stopped.suspend()
            output, _ = launcher.communicate(timeout=120)
        finally:
            launcher.kill()
            for process in psutil.process_iter(['cmdline']):
                if f'--result_dir={tmp_path}' in (process.info['cmdline'] or ()):
                    process.kill()
    assert launcher.returncode != 0
    assert 'error: Another worker is gone: ' in output, output
    assert 'Detected at node' not in output
    ended = the_record(tmp_path)['ended']
    assert (ended['status'], ended['reason'].split(':')[0]) == ('failed', 'Another worker is gone')


@pytest.mark.slow
def test_efficiency_is_told_beside_one_worker_on_all_processors(tmp_path: Path) -> None:
    words = ('--num_warmup_batches=2', '--num_batches=20', '--scaling_baseline')
    done = run(*LENET, *words, f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    record = the_record(tmp_path)
    scaling = record['distribution']['scaling']
    rate = record['throughput']['images_per_second']
    assert scaling['efficiency'] == pytest.approx(rate / scaling['baseline_images_per_second'])
    assert 'of one worker on the same processors' in done.stdout
    assert '--scaling_baseline' in record['repeat']


@pytest.mark.slow
def test_json_of_a_job_is_its_record_alone(tmp_path: Path) -> None:
    done = run(*LENET, '--num_warmup_batches=1', '--num_batches=2', '--json', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == the_record(tmp_path)
    assert '[0] total images/sec' in done.stderr


@pytest.mark.slow
def test_twenty_jobs_in_a_row_end_and_leave_nothing(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        done = run(*LENET, '--num_warmup_batches=1', '--num_batches=3', f'--result_dir={folder}')
        assert done.returncode == 0, done.stderr
        record = the_record(folder)
        assert not any(psutil.pid_exists(worker['pid']) for worker in record['workers'])
