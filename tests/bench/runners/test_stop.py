"""Ctrl-C while TensorFlow computes a step: answered at once; neither impatience nor a long step loses the record."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import command, python, the_record

# A step that lasts until a file is there, whatever the machine.
WAITING = """
import pathlib, time
from bench.models.registry import register

HERE = pathlib.Path(__file__).parent


def wait():
    (HERE / 'computing').touch()
    while not (HERE / 'go on').exists():
        time.sleep(0.01)
    return 0.0


@register('waiting', image_size=8, batch_size=2)
def waiting(net, images):
    import tensorflow.compat.v1 as tf

    with tf.control_dependencies([tf.numpy_function(wait, [], tf.float64)]):
        images = tf.identity(images)
    return net.dense(net.flatten(images), net.num_classes, 'logits', activation=None)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the program and waits until TensorFlow computes its first step."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / 'waiting.py').write_text(WAITING)

    def begin(*words: str, **streams: int) -> subprocess.Popen[str]:
        where = (f'--model={tmp_path / "waiting.py"}', f'--result_dir={tmp_path / "results"}')
        process = subprocess.Popen(
            command(*where, '--num_warmup_batches=0', *words),
            text=True,
            stdout=streams.get('stdout', subprocess.PIPE),
            stderr=streams.get('stderr', subprocess.PIPE),
            # A shell's background jobs ignore Ctrl-C, and what they start does so too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )
        started.append(process)
        wait_for((tmp_path / 'computing').exists)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_is_answered_while_the_step_computes_and_three_more_in_a_second_keep_the_record(
    start: Start, tmp_path: Path
) -> None:
    process = start('--num_batches=1000000')
    assert process.stderr
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith('Ending after this step.')
    for _ in range(3):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    (tmp_path / 'go on').touch()
    assert process.communicate(timeout=60)[1] == ''
    assert process.returncode == 1
    record = the_record(tmp_path / 'results')
    assert (record['ended']['status'], len(record['workers'][0]['step_seconds'])) == ('interrupted', 1)


def test_the_signal_that_mpirun_passes_on_ends_a_run_with_its_record(start: Start, tmp_path: Path) -> None:
    process = start('--num_batches=1000000')
    assert process.stderr
    process.send_signal(signal.SIGUSR1)
    assert process.stderr.readline().startswith('Ending after this step.')
    (tmp_path / 'go on').touch()
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert the_record(tmp_path / 'results')['ended']['status'] == 'interrupted'


def test_a_later_ctrl_c_ends_a_step_that_does_not_end_and_gives_the_cursor_back(start: Start, tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    process = start(stdout=terminal, stderr=terminal)
    os.close(terminal)
    process.send_signal(signal.SIGINT)
    seen = b''
    while b'Ending after this step.' not in seen:
        seen += os.read(controller, 65536)
    time.sleep(2.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1
    while True:
        try:
            seen += os.read(controller, 65536)
        except OSError:
            break
    assert seen.rfind(b'\x1b[?25h') > seen.rfind(b'\x1b[?25l') >= 0
    assert not (tmp_path / 'results').exists()


def test_signals_while_the_record_is_written_do_not_lose_it(start: Start, tmp_path: Path) -> None:
    """They begin after the measurement and come again and again until the record is there."""
    process = start('--num_batches=1')
    assert process.stdout
    (tmp_path / 'go on').touch()
    for line in process.stdout:
        if line.startswith('total images/sec'):
            break
    end = time.monotonic() + 60
    while not list(tmp_path.glob('results/*.json')) and process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGINT)
        time.sleep(0.25)
    assert the_record(tmp_path / 'results')['ended']['status'] == 'completed'


# A process that asks whether it is to end after each signal, which comes after a pause of so many seconds.
POSTPONED = """
import os, signal, sys, time
from bench.runners.stop import PostponedStop

seconds, *pauses = map(float, sys.argv[1:])
with PostponedStop(seconds) as stop:
    print(stop.is_over())
    for pause in pauses:
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGTERM)
        print(stop.is_over(), flush=True)
    time.sleep(0.5)
    print(stop.is_over())
os.kill(os.getpid(), signal.SIGTERM)
print('done')
"""


@pytest.mark.parametrize(
    ('words', 'seen'),
    [
        (('60', '0'), ['False', 'False', 'False', 'done']),
        (('60', '0', '0.2'), ['False', 'False', 'False', 'False', 'done']),
        (('60', '0', '2.1'), ['False', 'False', 'True', 'True', 'done']),
        (('0.4', '0'), ['False', 'False', 'True', 'done']),
    ],
    ids=['time_left', 'signals_that_are_one', 'second_thought', 'time_over'],
)
def test_a_process_that_others_need_goes_on_for_some_time(words: tuple[str, ...], seen: list[str]) -> None:
    done = python(POSTPONED, *words)
    assert (done.returncode, done.stdout.splitlines()) == (0, seen), done.stderr
    assert done.stderr.startswith('Ending when the workers are done')
    assert len(done.stderr.splitlines()) == 1


def test_a_process_that_nobody_needs_ends_at_once() -> None:
    done = python(POSTPONED, '0', '0')
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, '')
