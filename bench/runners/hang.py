"""Whether a process hangs, as seen from outside: stopped, or without a step though its steps were quick before.

A process that waits for another one that hangs does no step either; only the processor time tells them apart. What
begins (loading, compiling, reading a checkpoint) may take long, and is given time as long as it computes.
"""

from __future__ import annotations

import time

import psutil

# A process that was stopped by a signal is not waited for longer.
_STOPPED = 8.0
# A step may take so many times as long as the slowest before, and so many seconds in any case.
_TIMES, _LEAST = 5.0, 18.0
# What begins or ends may be without work for so long: a cold disk, a slow network.
_BEGINNING = 180.0
# A process that uses less of a processor than this, in so many seconds, has nothing to compute.
_IDLE, _SECONDS_OF_USE = 0.1, 1.0


class Hang:
    """Watches one process."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._steps = 0
        self._slowest = 0.0
        self._since = self._stopped_since = time.monotonic()
        self._looked, self._used, self._share = self._since, 0.0, 1.0

    def stopped(self) -> str:
        """Since when it is stopped, as the end of a sentence that begins with its name; '' where it is not."""
        now = time.monotonic()
        try:
            is_stopped = self._process.status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return ''
        if not is_stopped:
            self._stopped_since = now
        waited = now - self._stopped_since
        return f'is stopped by a signal since {waited:.0f} seconds' if waited > _STOPPED else ''

    def without_step(self, steps: int, stepping: bool) -> str:
        """How it hangs, as the end of a sentence that begins with its name; '' where it does not.

        Args:
          steps: that it has done.
          stepping: whether it is doing steps.
        """
        now = time.monotonic()
        try:
            used = sum(self._process.cpu_times()[:2])
        except psutil.Error:
            return ''
        beginning = not stepping or steps == 0
        busy = self._is_busy(now, used)
        if steps != self._steps:
            if self._steps and stepping:
                self._slowest = max(self._slowest, now - self._since)
            self._steps, self._since = steps, now
        elif beginning and busy:
            self._since = now
        waited = now - self._since
        if waited <= (_BEGINNING if beginning else max(_LEAST, _TIMES * self._slowest)):
            return ''
        return f'hangs: it did no step for {waited:.0f} seconds{", though it computes" if busy else ""}'

    def _is_busy(self, now: float, used: float) -> bool:
        """Whether it computes, as of about a second."""
        if now - self._looked >= _SECONDS_OF_USE:
            self._share = (used - self._used) / (now - self._looked)
            self._looked, self._used = now, used
        return self._share > _IDLE
