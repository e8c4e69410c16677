"""The whole program as a process: what it prints, the record it leaves, and how it ends when it is stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import command, run, the_record

from analysis import statistics

LENET = ('--model=lenet', '--batch_size=8')


def test_a_run_prints_tf_cnn_benchmarks_lines_and_leaves_its_record(tmp_path: Path) -> None:
    done = run(*LENET, '--num_warmup_batches=2', '--num_batches=20', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ['Running warm up', 'Done warm up', 'Step\tImg/sec\ttotal_loss']
    for line, step in zip(lines[3:6], (1, 10, 20), strict=True):
        assert re.fullmatch(rf'{step}\timages/sec: \d+\.\d \+/- \d+\.\d \(jitter = \d+\.\d\)\t\d+\.\d{{3}}', line), line
    assert [lines[6], lines[8]] == ['-' * 64] * 2
    total = re.fullmatch(r'total images/sec: (\d+\.\d\d)', lines[7])
    assert total
    record = the_record(tmp_path)
    (worker,) = record['workers']
    assert (len(worker['warmup_seconds']), len(worker['step_seconds']), len(worker['losses'])) == (2, 20, 20)
    assert record['ended'] == {**record['ended'], 'status': 'completed', 'reason': 'num_batches'}
    images_per_second = 8 * 20 / sum(worker['step_seconds'])
    assert record['throughput']['images_per_second'] == pytest.approx(images_per_second)
    assert float(total[1]) == pytest.approx(images_per_second, rel=1e-3)
    # Of steps that other programs disturbed much there may be no interval.
    interval = statistics.throughput_interval(worker['step_seconds'], 8)
    assert (record['throughput']['low'], record['throughput']['high']) == (interval.low, interval.high)
    assert record['work']['multiply_adds_per_image'] == 14_898_688
    assert record['work']['gflops'] == pytest.approx(6 * 14_898_688 * images_per_second / 1e9)
    assert worker['losses'][-1] < worker['losses'][0]
    rates = record['machine_rates']
    assert record['work']['peak_gflops'] == rates['peak_gflops'] == max(each['gflops'] for each in rates['products'])
    assert worker['noise']['seconds'] >= sum(worker['step_seconds'])


def test_the_repeat_line_of_a_record_repeats_the_run(tmp_path: Path) -> None:
    first = run(*LENET, '--forward_only', '--num_warmup_batches=1', '--num_batches=2', f'--result_dir={tmp_path / "a"}')
    assert first.returncode == 0, first.stderr
    record = the_record(tmp_path / 'a')
    words = shlex.split(record['repeat'])[1:]
    second = run(*words, f'--result_dir={tmp_path / "b"}')
    assert second.returncode == 0, second.stderr
    again = the_record(tmp_path / 'b')
    again['config']['output'] = record['config']['output']
    assert again['config'] == record['config']
    assert again['workers'][0]['losses'] == pytest.approx(record['workers'][0]['losses'], rel=1e-5)
    assert again['machine_fingerprint'] == record['machine_fingerprint']


def test_json_leaves_standard_output_to_the_record_alone(tmp_path: Path) -> None:
    done = run('--model=trivial', '--batch_size=4', '--num_batches=2', '--json', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == the_record(tmp_path)
    assert 'total images/sec' in done.stderr


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_keeps_what_it_measured(tmp_path: Path, number: signal.Signals) -> None:
    words = command(*LENET, '--num_warmup_batches=1', '--num_batches=1000000', f'--result_dir={tmp_path}')
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith('10\t'):
                break
        for _ in range(2):  # as a key that bounces, or a parent process that passes it on
            process.send_signal(number)
            time.sleep(0.05)
        rest = process.stdout.read()
        assert process.wait(60) == 1
    assert 'interrupted' in rest
    record = the_record(tmp_path)
    assert record['ended']['status'] == 'interrupted'
    assert len(record['workers'][0]['step_seconds']) >= 10
    assert record['throughput']['images_per_second'] > 0


@pytest.mark.slow
def test_a_process_that_competes_for_the_processor_is_told_of(tmp_path: Path) -> None:
    here = {min(os.sched_getaffinity(0))}
    burn = [sys.executable, '-c', 'while True: pass']
    words = command(*LENET, '--num_warmup_batches=2', '--num_batches=100', f'--result_dir={tmp_path}')

    def on_one_processor() -> None:
        os.sched_setaffinity(0, here)

    with subprocess.Popen(burn, preexec_fn=on_one_processor) as burning:  # noqa: PLW1509
        try:
            done = subprocess.run(words, preexec_fn=on_one_processor, check=False, capture_output=True, text=True)
        finally:
            burning.kill()
    assert done.returncode == 0, done.stderr
    (warning,) = (each for each in the_record(tmp_path)['warnings'] if each['code'] == 'other_load')
    assert warning['text'] in done.stdout


def test_a_full_disk_under_standard_output_loses_no_record(tmp_path: Path) -> None:
    words = command(*LENET, '--num_warmup_batches=1', '--num_batches=3', f'--result_dir={tmp_path}')
    with open('/dev/full', 'w') as full:  # noqa: PTH123
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert 'standard output: No space left on device' in done.stderr
    assert len(the_record(tmp_path)['workers'][0]['step_seconds']) == 3


@pytest.mark.parametrize('closed', ['2>&-', '<&- >&- 2>&-'], ids=['one', 'all'])
def test_closed_outputs_keep_no_run_from_its_record(tmp_path: Path, closed: str) -> None:
    words = command(*LENET, '--device=cpu', '--num_warmup_batches=1', '--num_batches=3', f'--result_dir={tmp_path}')
    done = subprocess.run(['sh', '-c', f'"$@" {closed}', 'sh', *words], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert ('total images/sec' in done.stdout) == ('>&- ' not in closed)
    assert len(the_record(tmp_path)['workers'][0]['step_seconds']) == 3


def test_a_terminal_that_is_closed_takes_no_record_with_it(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    words = command(*LENET, '--num_warmup_batches=2', '--num_batches=60', f'--result_dir={tmp_path}')
    # As under nohup.
    words = ['sh', '-c', 'trap "" HUP; exec "$@"', 'sh', *words]
    with subprocess.Popen(
        words, stdout=terminal, stderr=terminal, env={**os.environ, 'TERM': 'xterm'}, start_new_session=True
    ) as process:
        os.close(terminal)
        seen = b''
        while b'Done warm up' not in seen:
            seen += os.read(controller, 65536)
        os.close(controller)
        assert process.wait(120) == 1
    assert len(the_record(tmp_path)['workers'][0]['step_seconds']) == 60


@pytest.mark.parametrize('wait', [0.12, 0.2, 0.28, 0.36])
def test_an_early_interrupt_is_answered_without_a_traceback(wait: float, tmp_path: Path) -> None:
    words = command(*LENET, '--num_batches=1000000', f'--result_dir={tmp_path}')
    error = 'Fatal Python error'
    # On a busy machine Python itself has not begun by then, and ends in words of its own.
    while error.startswith('Fatal Python error'):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=60)[1]
        wait += 0.1
    assert process.returncode == 1
    assert 'Traceback' not in error


def test_a_result_folder_that_vanishes_is_told_without_a_traceback(tmp_path: Path) -> None:
    folder = tmp_path / 'results'
    words = command(*LENET, '--num_warmup_batches=1', '--num_batches=1000000', f'--result_dir={folder}')
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            if line.startswith('10\t'):
                break
        folder.write_text('a file where the folder should be')
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert '--result_dir=' in error
    assert 'Traceback' not in error


def test_a_terminal_shows_progress_and_keeps_the_lines(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    words = command(*LENET, '--max_seconds=3', f'--result_dir={tmp_path}')
    with subprocess.Popen(words, stdout=terminal, stderr=terminal, env={**os.environ, 'TERM': 'xterm'}) as process:
        os.close(terminal)
        seen = b''
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                seen += os.read(controller, 65536)
            except OSError:
                break
        assert process.wait(10) == 0
    text = seen.decode()
    assert 'Step\tImg/sec\ttotal_loss' in text, 'tabs as tf_cnn_benchmarks prints them'
    assert re.search(r'step \d+, \d+\.\d\d images/sec', text)
    assert 'total images/sec' in text
    assert text.count('\x1b[?25l') == text.count('\x1b[?25h'), 'the cursor is shown again'
