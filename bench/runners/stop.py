"""Ctrl-C and `docker stop`: a request to end after the present step with what was measured so far."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A key that bounces, or a terminal and a parent process that both pass one Ctrl-C on, is no second request.
_SECONDS_FOR_ONE = 0.5


class StopRequest:
    """While it is entered, the first SIGINT or SIGTERM sets `requested`; a later one ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        for handler, seconds in ((signal.SIG_IGN, _SECONDS_FOR_ONE), (signal.SIG_DFL, 0)):
            for each in _SIGNALS:
                signal.signal(each, handler)
            time.sleep(seconds)
