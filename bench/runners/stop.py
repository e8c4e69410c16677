"""Ctrl-C and `docker stop`: a request to end after the present step with what was measured so far.

So is SIGUSR1, which mpirun passes on to its ranks, and which batch systems send before a job's time is over.

Python calls a signal's handler between two of its own operations, and so only after the step that TensorFlow computes,
which may take minutes. Therefore a thread reads what arrived (signal.set_wakeup_fd): it answers at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# Between signals that are one request: a key that bounces, impatience, a terminal and a parent that both pass one on.
_SECONDS_FOR_ONE = 2.0
_ANSWER = (
    f'Ending after this step. Another Ctrl-C after a pause of {_SECONDS_FOR_ONE:.0f} seconds ends at once and loses '
    'what is not saved.'
)
_POSTPONED = (
    'Ending when the workers are done, or after {:.0f} seconds. Another Ctrl-C after a pause of '
    f'{_SECONDS_FOR_ONE:.0f} seconds ends at once.'
)
# To the thread, in place of a signal's number.
_LEAVE = 0
_SHOW_CURSOR = b'\x1b[?25h'


class StopRequest:
    """While it is entered, a signal to end sets `requested`; another one after a pause ends the process at once.

    Used as a context manager, in the main thread.

    Args:
      answering: whether to say that the request was seen; one of several processes does.
      leave: called in a thread, at the other signal, to leave what there is and to end the process; where it returns,
        the process goes on. Without it nothing is left.

    Attributes:
      requested: there was a signal.
    """

    def __init__(self, *, answering: bool = True, leave: Callable[[], None] | None = None) -> None:
        self._answering, self._leave = answering, leave
        self.requested = False
        self._finishing = False
        self._last: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A parent that passes the request on once more, when the record is written, must not change the exit status.
        is_over = self.requested and self._finishing
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if is_over else handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.write(self._writer, bytes([_LEAVE]))
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def finish(self) -> None:
        """From here on signals change nothing: what was measured is being saved."""
        self._finishing = True

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def _watch(self) -> None:
        while True:
            for number in os.read(self._reader, 64):
                if number == _LEAVE:
                    return
                if number in _SIGNALS and not self._finishing:
                    self._answer(time.monotonic())

    def _answer(self, now: float) -> None:
        self.requested = True
        if self._last is None and self._answering:
            with contextlib.suppress(OSError, ValueError):  # nobody may read it any more
                print(_ANSWER, file=sys.stderr, flush=True)
        if self._last is not None and now - self._last > _SECONDS_FOR_ONE:
            if self._leave is not None:
                self._leave()
                return
            # Nothing else can end a step that TensorFlow computes; a live line has hidden the terminal's cursor.
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR + b'\r\n')
            os._exit(1)
        self._last = now


class PostponedStop:
    """While it is entered, a signal that asks this process to end leaves it some time, because others still need it.

    Used as a context manager, in the main thread, which asks again and again whether the time is over. Another signal
    after a pause ends the time.

    Args:
      seconds: how long; with 0, signals are what they are without this.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._first: float | None = None
        self._last = 0.0
        self._insisted = self._answered = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> PostponedStop:
        for number in _SIGNALS if self._seconds else ():
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The others are done: what asks once more must not change the exit status.
        is_over = self._first is not None and kind is None
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if is_over else handler)

    def is_over(self) -> bool:
        """Whether to end now. It answers the first signal, which a handler may not: it may be within another line."""
        if self._first is None:
            return False
        if not self._answered:
            self._answered = True
            with contextlib.suppress(OSError, ValueError):  # nobody may read it any more
                print(_POSTPONED.format(self._seconds), file=sys.stderr, flush=True)
        return self._insisted or time.monotonic() - self._first > self._seconds

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        elif now - self._last > _SECONDS_FOR_ONE:
            self._insisted = True
        self._last = now
