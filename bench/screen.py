"""What a person sees while a command works: lines, and on a terminal one live line of progress below them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from types import TracebackType
from typing import Any, TextIO

# Drawing takes a millisecond or so; more often would cost the measurement something.
_SECONDS_BETWEEN_DRAWINGS = 0.5


class Screen:
    """Lines go to standard output, or to standard error where standard output belongs to JSON.

    Used as a context manager, so that the terminal is left as it was found. A silent one shows nothing.

    Attributes:
      lost_lines: some could not be written, for another reason than that nobody reads them any more.
    """

    def __init__(self, *, to_stderr: bool = False, silent: bool = False) -> None:
        # sys.stderr is another one while libraries are silenced there (bench/machine/quiet.py): asked for at each line.
        self._stream: TextIO | None = None if to_stderr else sys.stdout
        self._silent = silent
        self._live: Any = None
        self._plain: Any = None
        self._segment: Any = None
        self._segments: Any = None
        self._drawn = 0.0
        self._waiting = ''
        self.lost_lines = False

    def __enter__(self) -> Screen:
        # mpirun gives its ranks terminals of its own, and what they write is lines of its output.
        if (self._stream or sys.stderr).isatty() and not self._silent and 'OMPI_COMM_WORLD_RANK' not in os.environ:
            from rich.console import Console
            from rich.live import Live
            from rich.segment import Segment, Segments
            from rich.text import Text

            self._live = Live(
                console=Console(file=self._stream, stderr=not self._stream), auto_refresh=False, transient=True
            )
            self._live.start()
            self._plain, self._segment, self._segments = Text, Segment, Segments
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the terminal as it was found."""
        if self._live:
            with contextlib.suppress(OSError):  # a terminal that is gone needs no order
                self._live.stop()
            self._live = None

    def line(self, text: str) -> None:
        """Prints a line, exactly as it is where the output is no terminal."""
        if not self._silent:
            self._print(text)

    def _print(self, text: str) -> None:
        try:
            if self._live:
                # As segments, because text would have its tabs expanded.
                self._live.console.print(self._segments([self._segment(text), self._segment.line()]), soft_wrap=True)
            else:
                print(text, file=self._stream or sys.stderr, flush=True)
        except OSError as error:
            self._lose(error)

    def progress(self, text: str) -> None:
        """Shows what is going on, on a terminal alone."""
        if not self._live:
            return
        now = time.monotonic()
        if now - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
            try:
                self._live.update(self._plain(text), refresh=True)
            except OSError as error:
                self._lose(error)
            self._drawn = now

    def waiting(self, text: str) -> None:
        """Tells for whom this process waits: where there is no terminal by a line, once as long as it is the same.

        A silent screen tells it too: others may say all else that this one would, but wait for other processes.
        """
        if self._live:
            self.progress(text)
        elif text != self._waiting:
            self._waiting = text
            self._print(text)

    def _lose(self, error: OSError) -> None:
        """Goes on without a reader: he went away (`head`, a closed terminal), or the disk is full."""
        self._live = None
        if not isinstance(error, BrokenPipeError):
            self.lost_lines = True
            with contextlib.suppress(OSError):
                print(f'error: standard output: {error.strerror}. The run goes on without it.', file=sys.stderr)
        nowhere = open(os.devnull, 'w')  # noqa: PTH123, SIM115  (stays open as long as the process)
        os.dup2(nowhere.fileno(), (self._stream or sys.stderr).fileno())
        self._stream = nowhere


def say(text: str) -> None:
    """Prints a line on standard output for work that goes on: also where nobody reads it, or the disk is full."""
    Screen().line(text)
