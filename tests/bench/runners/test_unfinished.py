"""A process whose main thread waits for what never comes leaves what it saw, and ends: in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import python

# The main thread waits for ever; another one ends the process, and leaves a text in the file that is the first word.
_WAITING = """
import sys, threading
from pathlib import Path
from bench.runners.unfinished import Unfinished

unfinished = Unfinished()
unfinished.seen = lambda: 'seven steps'
unfinished.begin(lambda lost: Path(sys.argv[1]).write_text(f'{unfinished.seen()}, then: {lost}'))
print('said before', end='')
threading.Timer(0.2, unfinished.end, ['worker 1 is gone']).start()
threading.Event().wait()
"""
# The main thread leaves it, while another one wants to.
_LEAVING = """
import sys
from pathlib import Path
from bench.runners.unfinished import Unfinished

unfinished = Unfinished()
unfinished.begin(lambda lost: Path(sys.argv[1]).write_text('by another thread'))
unfinished.finish()
unfinished.end('')
Path(sys.argv[1]).write_text('by the main thread')
"""
# Another thread leaves it, which takes a while, and the main thread comes to it in the meantime.
_LATE = """
import sys, threading, time
from pathlib import Path
from bench.runners.unfinished import Unfinished

begun, unfinished = threading.Event(), Unfinished()

def leave(lost):
    begun.set()
    time.sleep(0.5)
    Path(sys.argv[1]).write_text('by another thread')

unfinished.begin(leave)
threading.Thread(target=unfinished.end, args=['']).start()
begun.wait()
unfinished.finish()
Path(sys.argv[1]).write_text('by the main thread')
"""
# What leaves it fails.
_FAILING = """
import threading
from bench.runners.unfinished import Unfinished

unfinished = Unfinished()
unfinished.begin(lambda lost: 1 / 0)
threading.Thread(target=unfinished.end, args=['']).start()
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ('code', 'status', 'left'),
    [
        (_WAITING, 1, 'seven steps, then: worker 1 is gone'),
        (_LEAVING, 0, 'by the main thread'),
        (_LATE, 1, 'by another thread'),
        (_FAILING, 1, None),
    ],
    ids=['waiting', 'leaving', 'late', 'failing'],
)
def test_what_was_seen_is_left_once(tmp_path: Path, code: str, status: int, left: str | None) -> None:
    file = tmp_path / 'left'
    done = python(code, str(file))
    assert done.returncode == status, done.stderr
    assert (file.read_text() if file.exists() else None) == left
    assert done.stdout == ('said before' if code == _WAITING else '')
    assert ('ZeroDivisionError' in done.stderr) == (code == _FAILING)


# The main thread waits with an archive unpacked, as for a worker that was stopped before its first step.
_UNPACKED = """
import sys, tempfile, threading
from bench.runners.unfinished import Unfinished

unfinished = Unfinished()
folder = tempfile.TemporaryDirectory(dir=sys.argv[1])
unfinished.clean = folder.cleanup
unfinished.begin(lambda lost: 1 / 0)
threading.Thread(target=unfinished.end, args=['worker 1 is gone']).start()
threading.Event().wait()
"""


def test_what_must_not_outlive_the_process_is_removed(tmp_path: Path) -> None:
    assert python(_UNPACKED, str(tmp_path)).returncode == 1
    assert list(tmp_path.iterdir()) == []


# Ctrl-C while another thread is leaving what was seen, and again after a pause.
_IMPATIENT = """
import os, signal, threading, time, types
from bench.runners import local
from bench.runners.stop import StopRequest
from bench.runners.unfinished import Unfinished

def close():
    for pause in (0, 2.1):
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)

run, screen, unfinished = types.SimpleNamespace(place=None), types.SimpleNamespace(close=close), Unfinished()
with StopRequest() as stop:
    unfinished.begin(lambda lost: local._leave(run, unfinished, None, screen, stop, lost))
    threading.Thread(target=unfinished.end, args=['worker 1 is gone']).start()
    threading.Event().wait()
"""


def test_a_second_ctrl_c_while_another_thread_leaves_what_was_seen_does_not_lose_it() -> None:
    done = python(_IMPATIENT)
    assert (done.returncode, done.stderr) == (1, 'error: worker 1 is gone\n')
