"""What is written to terminals, and to those that are none of a person's."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest

from bench.screen import Screen


@pytest.mark.parametrize('rank', [None, '1'])
def test_a_terminal_has_a_live_line_but_not_that_which_mpirun_gives_its_ranks(
    monkeypatch: pytest.MonkeyPatch, rank: str | None
) -> None:
    controller, terminal = os.openpty()
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.delenv('OMPI_COMM_WORLD_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('OMPI_COMM_WORLD_RANK', rank)
    with os.fdopen(terminal, 'w') as stream:
        monkeypatch.setattr(sys, 'stdout', stream)
        with Screen() as screen:
            screen.progress('step 1')
            screen.line('total')
    # The system passes on what was written piece by piece, and then says that nobody writes any more.
    seen = b''
    with contextlib.suppress(OSError):
        while piece := os.read(controller, 65536):
            seen += piece
    os.close(controller)
    assert b'total\r\n' in seen
    assert (b'\x1b[' in seen, b'step 1' in seen) == (rank is None, rank is None)
