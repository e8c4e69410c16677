"""Real processes that print, fail, hang, are killed or lose their parent; quick ones, which load no TensorFlow."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.runners import hang, launch
from bench.runners.launch import End, Member
from bench.runners.member import Place
from bench.screen import Screen

ROOT = Path(__file__).parents[3]
# A process of these tests runs the code that is its first word, with what a process of a job begins with.
BEGIN = """
import os, signal, subprocess, sys, time
from pathlib import Path
from bench.runners import member
place = member.place(os.environ)
member.end_with_parent(os.environ)
progress = member.Progress(place)
step = progress.counting(lambda: time.sleep(0.01))
"""


@pytest.fixture(autouse=True)
def _code_instead_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, '_PROGRAM', f'import sys; sys.path[0] = sys.argv.pop(1)\n{BEGIN}\nexec(sys.argv[1])')


def run(folder: Path, *codes: str, stop: Callable[[], bool] = lambda: False) -> list[End]:
    members = [
        Member(str(rank), f'worker {rank}', Place(folder, rank, len(codes), len(codes), ()), [code], {})
        for rank, code in enumerate(codes)
    ]
    return launch.run(members, Screen(), stop)


def test_lines_come_out_whole_behind_their_label_and_errors_as_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = run(tmp_path, 'print("one\\ntwo")', 'print("no", end=""); print("oh", file=sys.stderr)')
    assert [end.status for end in ends] == [0, 0]
    seen = capsys.readouterr()
    assert sorted(seen.out.splitlines()) == ['[0] one', '[0] two', '[1] no']
    assert seen.err == '[1] oh\n'


def test_a_screen_that_is_gone_is_not_told_as_a_process_that_could_not_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, 'stderr', Gone())
    with pytest.raises(BrokenPipeError):
        run(tmp_path, 'print("oh", file=sys.stderr)')


def test_a_killed_worker_ends_the_others_and_alone_counts_as_failed(tmp_path: Path) -> None:
    kill = 'step(); step(); print("alas", flush=True); time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)'
    start = time.monotonic()
    ends = run(tmp_path, 'time.sleep(100)', kill)
    assert time.monotonic() - start < 30
    assert [end.failed for end in ends] == [False, True]
    assert (ends[1].status, ends[1].steps, ends[1].last_lines) == (-signal.SIGKILL, 2, ('alas',))
    assert (ends[0].status, ends[0].asked) == (-signal.SIGTERM, True)


def test_a_worker_that_does_not_want_to_end_is_killed_and_what_it_started_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, '_GRACE', 0.5)
    stubborn = (
        'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])\n'
        f'Path({str(tmp_path / "child")!r}).write_text(str(child.pid)); time.sleep(100)'
    )
    wait = f'\nwhile not Path({str(tmp_path / "child")!r}).exists(): time.sleep(0.05)\nsys.exit(3)'
    ends = run(tmp_path, stubborn, wait)
    assert [end.status for end in ends] == [-signal.SIGKILL, 3]
    assert [end.failed for end in ends] == [False, True]
    gone(int((tmp_path / 'child').read_text()))


def test_a_worker_whose_step_does_not_end_leaves_what_it_saw(tmp_path: Path) -> None:
    """Its main thread is in a step that another one's failure leaves without an end."""
    ready, left = (f'Path({str(tmp_path / name)!r})' for name in ('ready', 'left'))
    waiting = (
        'from bench.runners.stop import StopRequest\n'
        f'def leave(): {left}.touch(); os._exit(1)\n'
        'with StopRequest(answering=False, leave=leave):\n'
        f'    {ready}.touch()\n'
        '    time.sleep(100)'
    )
    ends = run(tmp_path, waiting, f'while not {ready}.exists(): time.sleep(0.05)\nsys.exit(3)')
    assert [(end.status, end.failed) for end in ends] == [(1, False), (3, True)]
    assert (tmp_path / 'left').exists()


def test_a_stopped_process_is_noticed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang, '_STOPPED', 0.5)
    ends = run(tmp_path, 'time.sleep(100)', 'os.kill(os.getpid(), signal.SIGSTOP)')
    assert [end.failed for end in ends] == [False, True]
    assert 'has been stopped by a signal' in ends[1].hang
    assert ends[1].status == -signal.SIGKILL


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_who_is_asked_to_end_waits_at_no_meeting_for_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(hang, '_STOPPED', 0.5)
    kept = (
        'seen = []; signal.signal(signal.SIGTERM, lambda *_: seen.append(1)); print("ready", flush=True)\n'
        'while not seen: time.sleep(0.02)\n'
        f'member.meet(Path({str(tmp_path)!r}), 0, place.rank, 2); print("kept")'
    )
    ends = run(tmp_path, kept, f'time.sleep(1); os.kill(os.getpid(), signal.{number.name})')
    assert (ends[0].status, ends[0].last_lines) == (0, ('ready', 'kept'))
    assert [end.failed for end in ends] == [False, True]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (('_LEAST', 3.0), ('_BUSY_LEAST', 8.0), ('_KNOWN', 2), ('_SECONDS_OF_USE', 0.5)):
        monkeypatch.setattr(hang, name, seconds)


@pytest.mark.usefixtures('impatient')
def test_processes_that_do_no_step_and_do_not_compute_hang(tmp_path: Path) -> None:
    come = f'member.meet(Path({str(tmp_path)!r}), 0, place.rank, 2); step(); step(); time.sleep(100)'
    ends = run(tmp_path, come, come)
    assert all('no step for' in end.hang for end in ends)
    assert 'though it computes' not in ends[0].hang


@pytest.mark.usefixtures('impatient')
def test_one_that_waits_for_a_long_step_of_another_does_not_hang(tmp_path: Path) -> None:
    begun, done = (f'Path({str(tmp_path / name)!r})' for name in ('begun', 'done'))
    long = (
        f'{begun}.touch(); step(); step(); end = time.monotonic() + 5\n'
        f'while time.monotonic() < end: pass\n{done}.touch(); step()'
    )
    wait = f'while not {begun}.exists(): time.sleep(0.05)\nstep(); step()\nwhile not {done}.exists(): time.sleep(0.05)'
    ends = run(tmp_path, wait, long)
    assert [(end.status, end.hang) for end in ends] == [(0, '')] * 2


@pytest.mark.usefixtures('impatient')
def test_a_fast_worker_that_waits_at_a_meeting_for_a_slow_ones_steps_does_not_hang(tmp_path: Path) -> None:
    meet = f'progress.rest(); member.meet(Path({str(tmp_path)!r}), 0, place.rank, 2)'
    begin = 'step(); step()\n'
    slow = 'end = time.monotonic() + 7\nwhile time.monotonic() < end: step(); sum(range(300000))\n'
    ends = run(tmp_path, f'{begin}{meet}', f'{begin}{slow}{meet}')
    assert [(end.status, end.hang) for end in ends] == [(0, '')] * 2


@pytest.mark.usefixtures('impatient')
def test_one_that_computes_for_ever_is_told_apart_from_those_that_wait_for_it(tmp_path: Path) -> None:
    come = f'member.meet(Path({str(tmp_path)!r}), 0, place.rank, 2); step(); step()\n'
    ends = run(tmp_path, f'{come}time.sleep(100)', f'{come}while True: pass')
    assert 'though it computes' in ends[1].hang
    assert 'though it computes' not in ends[0].hang


@pytest.mark.usefixtures('impatient')
def test_one_that_hangs_is_noticed_while_others_go_on(tmp_path: Path) -> None:
    ends = run(tmp_path, 'step(); step(); time.sleep(100)', 'while True: step()')
    assert 'no step' in ends[0].hang
    assert ends[1].hang == ''


def test_what_has_not_begun_may_compute_for_long_and_one_that_rests_may_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hang, '_SECONDS_OF_USE', 0.5)
    monkeypatch.setattr(hang, '_LEAST', 0.5)
    monkeypatch.setattr(hang, '_BEGINNING', 2.5)
    compute = 'end = time.monotonic() + 5\nwhile time.monotonic() < end: pass\n'
    ends = run(tmp_path, compute, f'step(); step(); progress.rest()\n{compute}')
    assert [end.hang for end in ends] == ['', '']


def test_a_wish_to_stop_reaches_every_worker_and_is_no_failure(tmp_path: Path) -> None:
    stopped: list[float] = []
    code = (
        'seen = []; signal.signal(signal.SIGTERM, lambda *_: seen.append(1)); print("ready", flush=True)\n'
        'while not seen: time.sleep(0.02)\n'
        'print("ended")'
    )
    begun = time.monotonic()

    def stop() -> bool:
        if not stopped and time.monotonic() - begun > 2:
            stopped.append(time.monotonic())
        return bool(stopped)

    ends = run(tmp_path, code, code, stop=stop)
    assert [(end.status, end.failed, end.last_lines[-1]) for end in ends] == [(0, False, 'ended')] * 2


def test_servers_are_ended_when_all_workers_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, '_SERVERS_GRACE', 0.5)
    members = [
        Member('ps 0', 'parameter server 0', Place(tmp_path, None, 1, 1, ()), ['time.sleep(100)'], {}),
        Member('0', 'worker 0', Place(tmp_path, 0, 1, 1, ()), ['print("done")'], {}),
    ]
    ends = launch.run(members, Screen(), lambda: False)
    assert [(end.status, end.failed) for end in ends] == [(-signal.SIGTERM, False), (0, False)]


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    code = f'Path({str(tmp_path)!r}, f"pid-{{place.rank}}").write_text(str(os.getpid())); time.sleep(100)'
    driver = (
        'import sys; from pathlib import Path\n'
        'from bench.runners import launch; from bench.runners.launch import Member\n'
        'from bench.runners.member import Place; from bench.screen import Screen\n'
        'launch._PROGRAM, code, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])\n'
        'places = [Place(folder, rank, 2, 2, ()) for rank in range(2)]\n'
        'launch.run([Member("", "", place, [code], {}) for place in places], Screen(), lambda: False)\n'
    )
    words = [sys.executable, '-c', driver, launch._PROGRAM, code, str(tmp_path)]
    with subprocess.Popen(words, env={**os.environ, 'PYTHONPATH': str(ROOT)}) as parent:
        pids = [int(wait_for(tmp_path / f'pid-{rank}')) for rank in range(2)]
        parent.send_signal(number)
        parent.wait(30)
    for pid in pids:
        gone(pid)


def wait_for(path: Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f'{path} never came')


def gone(pid: int) -> None:
    """Fails unless the process ends within seconds."""
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return
