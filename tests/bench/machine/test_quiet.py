"""Standard error while TensorFlow's remarks are kept away: what is seen of a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from program import python, run

from bench.machine import capabilities

CAN = capabilities.detect()

# Libraries write to the descriptor, Python code to the stream.
_WRITE = """
import os, sys
from bench.machine import quiet

def write(when):
    os.write(2, f'library {when}\\n'.encode())
    print('python', when, file=sys.stderr)
"""
_ALL = f"""{_WRITE}
with quiet.standard_error():
    write('within')
write('after')
"""
_LIBRARIES = f"""{_WRITE}
with quiet.libraries():
    write('within')
    with quiet.standard_error():
        write('deeper')
    write('again')
write('after')
"""
# The inner one, in a thread, outlives the outer one, of which the process waits no longer.
_THREADS = f"""{_WRITE}
import threading
entered, left = threading.Event(), threading.Event()

def stay():
    with quiet.libraries():
        entered.set()
        left.wait()

outer = quiet.standard_error()
outer.__enter__()
thread = threading.Thread(target=stay)
thread.start()
entered.wait()
outer.__exit__(None, None, None)
write('within')
left.set()
thread.join()
write('after')
"""
# The screen was there before, as it is in every command.
_SCREEN = f"""{_WRITE}
from bench.screen import Screen
screen = Screen(to_stderr=True)
with quiet.libraries():
    screen.line('screen within')
write('after')
"""
AFTER = ['library after', 'python after']


@pytest.mark.parametrize(
    ('code', 'seen'),
    [
        (_ALL, AFTER),
        (_LIBRARIES, ['python within', 'python deeper', 'python again', *AFTER]),
        (_THREADS, ['python within', *AFTER]),
        (_SCREEN, ['screen within', *AFTER]),
    ],
    ids=['all', 'libraries', 'threads', 'screen'],
)
def test_remarks_are_seen_or_more_than_these_are_not(
    monkeypatch: pytest.MonkeyPatch, code: str, seen: list[str]
) -> None:
    monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL', raising=False)
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == seen


def test_remarks_that_the_environment_asks_for_are_kept_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, 'TF_CPP_MIN_LOG_LEVEL', '0')
    assert 'library within' in python(_LIBRARIES).stderr.splitlines()


# What TensorFlow itself says of its limit, whether or not this processor computes in bfloat16.
_LIMIT = """
import ctypes, os
import tensorflow.compat.v1 as tf
from bench.machine import remarks
remarks.silence(tf.ConfigProto())
library = ctypes.CDLL(os.path.join(tf.sysconfig.get_lib(), 'libtensorflow_framework.so.2'))
print(getattr(library, '_ZN4absl12lts_2023080211MinLogLevelEv', lambda: 'another Abseil')())
"""


@pytest.mark.parametrize(('given', 'limit'), [(None, 2), ('0', 0), ('1', 1), ('', 0), ('many', 0)])
def test_the_log_of_mixed_precision_is_limited_as_tensorflows_own(
    given: str | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL', raising=False)
    if given is not None:
        monkeypatch.setitem(os.environ, 'TF_CPP_MIN_LOG_LEVEL', given)
    done = python(_LIMIT)
    if done.stdout == 'another Abseil\n':
        pytest.skip("a TensorFlow with another Abseil, as Intel's 2.14, whose log is its own")
    assert done.stdout == f'{limit}\n', done.stderr


@pytest.mark.skipif(not CAN.bf16, reason=f'no bfloat16 here: {CAN.bf16_reason}')
def test_a_run_in_bfloat16_draws_no_remarks(tmp_path: Path) -> None:
    words = ('--model=lenet', '--precision=bf16', '--batch_size=4', '--num_batches=2', f'--result_dir={tmp_path}')
    done = run(*words, TF_CPP_MIN_LOG_LEVEL='2')
    assert (done.returncode, done.stderr) == (0, '')
