"""Standard error while TensorFlow's remarks are kept away: what is seen of a process of its own."""

from __future__ import annotations

import os

import pytest
from program import python

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
