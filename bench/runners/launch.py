"""Starts the processes of a job on this machine, watches them, and leaves none behind. Knows nothing of what they do.

Each process has a session of its own, so that Ctrl-C reaches the job through its parent alone and a process's own
children end with it. Lines that they print are passed on behind their label. The job ends when all workers have ended,
or when one of them fails, is killed, is stopped or hangs: the others then have some seconds to leave what they
saw, also in a step that does not end, before they are killed.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

import bench
from bench.errors import BenchError
from bench.machine import cores, environment
from bench.runners.hang import Hang
from bench.runners.member import Marks, Place, leave
from bench.screen import Screen

_SECONDS_BETWEEN_LOOKS = 0.2
# By which processes that hang together may have done their last steps one after the other.
_SLACK = 1.5
# For the others after the first has failed, to notice it by themselves; and from when they are asked to end: for their
# step, and then, as they are asked once more, in it. The half is more than separates two requests (stop.py).
_NOTICE, _GRACE = 1.0, 6.0
# For those who still have work when all else has ended, such as servers that notice that nobody needs them any more.
_SERVERS_GRACE = 10.0
_KEPT_LINES = 8
# This very program, installed or not, wherever the process is started.
_PROGRAM = 'import sys; sys.path[0] = sys.argv.pop(1); from bench.cli import entry; entry()'


@dataclasses.dataclass(frozen=True)
class Member:
    """A process of a job.

    Attributes:
      label: for its lines: [0] of the first worker.
      name: for messages: worker 0.
      place: in the job.
      words: of the program's command line.
      environment: added to this process's own, besides its place.
    """

    label: str
    name: str
    place: Place
    words: Sequence[str]
    environment: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
      pid: that it had.
      status: exit status, or below 0 the number of the signal that killed it.
      steps: that it had done.
      asked: it was ended by this job, for another's failure or because the user wished it.
      hang: how it hung, as the end of a sentence; '' where it did not.
      last_lines: that it printed.
    """

    member: Member
    pid: int
    status: int
    steps: int
    asked: bool
    hang: str
    last_lines: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and not well, or hung."""
        return bool(self.hang) or (self.status != 0 and not self.asked)


def run(members: Sequence[Member], screen: Screen, stop_requested: Callable[[], bool]) -> list[End]:
    """Runs a job until all its processes have ended, and tells how, in the order of `members`.

    Raises:
      BenchError: a process could not be started.
    """
    lines: queue.SimpleQueue[tuple[_Process, str, bool]] = queue.SimpleQueue()
    processes: list[_Process] = []
    try:
        for member in members:
            processes.append(_started(member, lines))
        _watch(processes, lines, screen, stop_requested)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.finish()
        _pass_on(lines, screen)
    return [process.end() for process in processes]


def _started(member: Member, lines: queue.SimpleQueue[tuple[_Process, str, bool]]) -> _Process:
    try:
        return _Process(member, lines)
    except OSError as error:
        raise BenchError(f'A process could not be started: {error.strerror}. Use fewer --num_workers.') from None


def _watch(
    processes: Sequence[_Process],
    lines: queue.SimpleQueue[tuple[_Process, str, bool]],
    screen: Screen,
    stop_requested: Callable[[], bool],
) -> None:
    """Returns when every process has ended or has used up its time for it."""
    workers = [process for process in processes if process.member.place.rank is not None]
    asked_to_stop = False
    while any(process.running for process in processes):
        _pass_on(lines, screen, _SECONDS_BETWEEN_LOOKS)
        screen.progress(f'{len(workers)} workers, {min(process.steps for process in workers)} steps')
        if stop_requested() and not asked_to_stop:
            asked_to_stop = True
            for process in workers:
                process.ask()
        _look(processes)
        for process in processes:
            process.leave_if_gone()
        # A process that was asked to stop ends well, unless it had hardly begun; the others must not wait for that one.
        if any(process.failed or (asked_to_stop and process.status) for process in processes):
            _wait(processes, _NOTICE, lines, screen)
            break
        if not any(process.running for process in workers):
            _wait(processes, _SERVERS_GRACE, lines, screen)
            break
    for process in processes:
        process.ask()
    _wait(processes, _GRACE / 2, lines, screen)
    for process in processes:
        process.insist()
    _wait(processes, _GRACE / 2, lines, screen)


def _look(processes: Sequence[_Process]) -> None:
    """Notices who hangs."""
    running = [process for process in processes if process.running]
    for process in running:
        process.look()
    # Those that wait for each other did their last step at about the same time.
    for slack in (0.0, _SLACK):
        for process in running:
            process.judge([other.watched for other in running if other is not process], slack)
        if not any(process.hangs for process in running):
            return


def _wait(
    processes: Sequence[_Process],
    seconds: float,
    lines: queue.SimpleQueue[tuple[_Process, str, bool]],
    screen: Screen,
) -> None:
    """Returns when all processes have ended, at the latest after some seconds."""
    end = time.monotonic() + seconds
    while any(process.running for process in processes) and time.monotonic() < end:
        _pass_on(lines, screen, _SECONDS_BETWEEN_LOOKS)


def _pass_on(lines: queue.SimpleQueue[tuple[_Process, str, bool]], screen: Screen, seconds: float = 0.0) -> None:
    """Prints what processes have printed, for so many seconds at the most where there is nothing."""
    for process, line, is_error in _available(lines, seconds):
        process.last_lines.append(line)
        text = f'[{process.member.label}] {line}'
        if is_error:
            print(text, file=sys.stderr, flush=True)
        else:
            screen.line(text)


def _available(
    lines: queue.SimpleQueue[tuple[_Process, str, bool]], seconds: float
) -> Iterator[tuple[_Process, str, bool]]:
    try:
        yield lines.get(timeout=seconds) if seconds else lines.get_nowait()
        while True:
            yield lines.get_nowait()
    except queue.Empty:
        return


class _Process:
    """A running process of a job."""

    def __init__(self, member: Member, lines: queue.SimpleQueue[tuple[_Process, str, bool]]) -> None:
        self.member = member
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        place = member.place
        self._marks: Marks | None = None
        if place.folder is not None and place.rank is not None:
            self._marks = Marks(place.folder, place.rank, new=True)
        self._asked = False
        self._hang = ''
        self._left = False
        # A process begins on the processors of the one that starts it.
        with cores.pinned(place.cpus):
            self._popen = subprocess.Popen(
                [sys.executable, '-c', _PROGRAM, str(Path(bench.__file__).resolve().parents[1]), *member.words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors='replace',
                bufsize=1,
                env={**environment.user(), **place.environment(), **member.environment},
                start_new_session=True,
            )
        self.watched = Hang(psutil.Process(self._popen.pid))
        assert self._popen.stdout is not None and self._popen.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines, is_error), daemon=True)
            for stream, is_error in ((self._popen.stdout, False), (self._popen.stderr, True))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def status(self) -> int | None:
        return self._popen.poll()

    @property
    def steps(self) -> int:
        return self._marks.read()[0] if self._marks else 0

    @property
    def failed(self) -> bool:
        return bool(self._hang) or (not self._asked and self.status not in (None, 0))

    def look(self) -> None:
        """Notices what it did."""
        self.watched.look(*(self._marks.read() if self._marks else (0, False)))

    @property
    def hangs(self) -> bool:
        return bool(self._hang)

    def judge(self, others: Sequence[Hang], slack: float) -> None:
        """Notices whether it hangs. A server that has nothing to do does not."""
        self._hang = self._hang or self.watched.stopped()
        if self._marks and not self._hang:
            self._hang = self.watched.without_step(others, slack=slack)

    def leave_if_gone(self) -> None:
        """Leaves the job's meetings in its place, or those that are asked to end would wait for it there."""
        place = self.member.place
        if self._marks and not self._left and (self.hangs or not self.running):
            assert place.folder is not None and place.rank is not None, 'it has marks'
            self._left = True
            leave(place.folder, place.rank)

    def ask(self) -> None:
        """Asks it to end after its present step."""
        if self.running and not self._asked:
            self._asked = True
            self._popen.send_signal(signal.SIGTERM)

    def insist(self) -> None:
        """Asks it, once more, to end at once with what it saw until now."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it and what it has started."""
        self._asked = self._asked or self.running
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def finish(self) -> None:
        """Waits for it, which was killed, and for the rest of its lines."""
        self._popen.wait()
        for reader in self._readers:
            reader.join(timeout=1)

    def end(self) -> End:
        return End(
            self.member,
            self._popen.pid,
            self._popen.wait(),
            self.steps,
            self._asked,
            self._hang,
            tuple(self.last_lines),
        )

    def _read(self, stream: IO[str], lines: queue.SimpleQueue[tuple[_Process, str, bool]], is_error: bool) -> None:
        with stream:
            for line in stream:
                lines.put((self, line.rstrip('\n'), is_error))
