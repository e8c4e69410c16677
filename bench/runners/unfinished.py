"""What a process leaves whose main thread waits for what never comes: another thread leaves it, and ends the process.

A step that waits for a process that was stopped or cut off cannot be ended: to cancel it, or to close its session,
TensorFlow waits for that one, too. Knows nothing of TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


class Unfinished:
    """A run that another thread than the main one may have to end.

    Attributes:
      seen: gives what was seen until now; None where no step was begun.
      clean: removes what must not outlive the process.
    """

    def __init__(self) -> None:
        self.seen: Callable[[], Any] | None = None
        self.clean: Callable[[], None] = lambda: None
        self._leave: Callable[[str], None] = lambda _lost: None
        self._one = threading.Lock()

    def begin(self, leave: Callable[[str], None]) -> None:
        """From here on there may be something to leave.

        Args:
          leave: leaves what was seen, in another thread; it is told who is gone, in a sentence, or ''.
        """
        self._leave = leave

    def finish(self) -> None:
        """Says that the main thread leaves what it saw itself; where another one is doing that, it does not return."""
        if not self._one.acquire(blocking=False):
            threading.Event().wait()

    def end(self, lost: str) -> None:
        """Leaves what was seen and ends the process, with status 1; returns only where the main thread does that.

        Args:
          lost: who is gone, in a sentence; '' where the process is ended for another reason.
        """
        if not self._one.acquire(blocking=False):
            return
        try:
            self._leave(lost)
        except Exception:
            # Here, because the process does not live to print it.
            traceback.print_exc()
        finally:
            # The main thread may just be writing there.
            with contextlib.suppress(Exception):
                self.clean()
            leave_now()


def leave_now(status: int = 1) -> NoReturn:
    """Ends a process that failed when all is said, without a wait for what others still do in it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
