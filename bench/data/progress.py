"""How far a long piece of work is: how much is done, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from bench.screen import Screen

_SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """A live line on a terminal; elsewhere a line each tenth of the work and each 20 seconds.

    Used as a context manager.

    Args:
      what: what is being done, such as 'converting'.
      unit: what is counted, such as 'pictures'.
      scale: units in one that `advance` counts.
      screen: to be shown on, where one is in use already; it is then no context manager.
    """

    def __init__(self, what: str, unit: str, scale: float = 1, screen: Screen | None = None) -> None:
        self._what = what
        self._unit = unit
        self._scale = scale
        self._screen = screen or Screen()
        self._is_terminal = sys.stdout.isatty()
        self.start(0, None)

    def __enter__(self) -> Progress:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, error, trace)

    def start(self, done: int, total: int | None) -> None:
        """Begins to measure, with so much done already of so much, where that is known."""
        self._begun = self._told = time.monotonic()
        self._before = self._done = done
        self._total = total

    def line(self, text: str) -> None:
        """Prints a line of its own."""
        self._screen.line(text)

    def advance(self, amount: int) -> None:
        """Counts what was done."""
        earlier, self._done = self._done, self._done + amount
        if self._is_terminal:
            self._screen.progress(self._text())
            return
        now = time.monotonic()
        tenth = self._total and self._done * 10 // self._total > earlier * 10 // self._total
        if tenth or now - self._told > _SECONDS_BETWEEN_LINES:
            self._told = now
            self._screen.line(self._text())

    def _text(self) -> str:
        done, total = self._done * self._scale, (self._total or 0) * self._scale
        rate = (self._done - self._before) / max(time.monotonic() - self._begun, 1e-9) * self._scale
        text = f'{self._what}: {done:,.0f}' + (f' of {total:,.0f}' if total else '') + f' {self._unit}'
        text += f', {rate:,.0f} {"images" if self._unit == "pictures" else self._unit}/sec'
        if self._total and rate:
            text += f', {_duration((total - done) / rate)} left'
        return text


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{minutes} min' if minutes < 100 else f'{minutes // 60} h {minutes % 60} min'
