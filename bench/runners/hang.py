"""Whether the processes of a job hang, as seen from outside: stopped, or without a step though steps were quick before.

A process that waits for another one does no step either, and uses hardly any processor time. So one that uses none has
soon waited too long if none of the others computes without finishing a step; one that computes, and those that may
wait for it, are given longer. What begins (loading, compiling, reading a checkpoint) may compute as long as it likes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

# A process that was stopped by a signal is not waited for longer.
_STOPPED = 8.0
# A step may take so many times as long as the slowest before, and so many seconds in any case: where nothing computes,
# and where something does.
_TIMES, _LEAST = 5.0, 18.0
_BUSY_TIMES, _BUSY_LEAST = 20.0, 25.0
# Before so many steps are done nobody knows how long one takes.
_KNOWN, _UNKNOWN_SECONDS = 4, 120.0
# What begins or ends may be without work for so long: a cold disk, a slow network.
_BEGINNING = 180.0
# A process that uses less of a processor than this, in so many seconds, computes nothing.
_IDLE, _SECONDS_OF_USE = 0.05, 3.0
# Whoever looks that rarely was itself stopped, and the others with it.
_PAUSE = 2.0


class Hang:
    """Watches one process.

    Attributes:
      waited: seconds since it did something: a step, or any work before the first one.
      busy: whether it computes.
    """

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._steps = 0
        self._slowest = 0.0
        now = time.monotonic()
        self._since = self._stopped_since = self._looked = self._seen = self._excused = now
        self._used = 0.0
        self._beginning = True
        self.waited = 0.0
        self.busy = True

    def look(self, steps: int, stepping: bool) -> None:
        """Notices what it did.

        Args:
          steps: that it has done; 0 where it counts none.
          stepping: whether it is doing steps.
        """
        now = time.monotonic()
        pause = now - self._seen if now - self._seen > _PAUSE else 0.0
        self._since, self._stopped_since, self._seen = self._since + pause, self._stopped_since + pause, now
        self._excused += pause
        try:
            is_stopped = self._process.status() == psutil.STATUS_STOPPED
            used = sum(self._process.cpu_times()[:2])
        except psutil.Error:
            return
        if not is_stopped:
            self._stopped_since = now
        if now - self._looked >= _SECONDS_OF_USE:
            self.busy = used - self._used > _IDLE * (now - self._looked)
            self._looked, self._used = now, used
        self._beginning = not stepping or steps == 0
        if steps != self._steps:
            if self._steps and stepping:
                self._slowest = max(self._slowest, now - self._since)
            self._steps, self._since = steps, now
        elif self._beginning and self.busy:
            self._since = now
        self.waited = now - self._since

    def stopped(self) -> str:
        """Since when it is stopped, as the end of a sentence that begins with its name; '' where it is not."""
        waited = self._seen - self._stopped_since
        return f'has been stopped by a signal for {waited:.0f} seconds' if waited > _STOPPED else ''

    def without_step(self, others: Sequence[Hang], *, slack: float = 0.0) -> str:
        """How it hangs, as the end of a sentence that begins with its name; '' where it does not.

        Args:
          others: that it may wait for.
          slack: so many seconds earlier than otherwise.
        """
        waits = any(other.busy and other.waited > _SECONDS_OF_USE for other in others)
        # One that does no steps may be at a meeting, to which another comes when its own steps are done.
        if waits or (self._beginning and any(other.busy for other in others)):
            self._excused = self._seen
        waited = self.waited
        if self._beginning:
            limit = _BEGINNING
            waited = min(waited, self._seen - self._excused)
        elif self.busy or waits:
            slowest = max(each._slowest for each in (self, *others))
            limit = _UNKNOWN_SECONDS if self._steps < _KNOWN else max(_BUSY_LEAST, _BUSY_TIMES * slowest)
        else:
            limit = max(_LEAST, _TIMES * self._slowest)
            # Whoever waited for a long step of another goes on only after that one is done.
            waited = min(waited, self._seen - self._excused)
        if waited <= limit - slack:
            return ''
        return f'hangs: it did no step for {self.waited:.0f} seconds{", though it computes" if self.busy else ""}'
