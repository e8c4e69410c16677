"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.errors import BenchError


def write(path: Path, text: str) -> None:
    """Writes a text, in the place of what was there.

    Raises:
      BenchError: it cannot be written; what was there stands.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile('w', dir=path.parent, prefix=f'.{path.name}-', delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        give_usual_permissions(temporary)
        temporary.replace(path)
    except OSError as error:
        raise BenchError(f'{path} could not be written: {error.strerror}. Make room, or name another place.') from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                temporary.unlink()


def make(path: Path, how: Callable[[Path], object]) -> None:
    """Has a file made, such as a plot, in the place of what was there.

    Args:
      how: makes it at the path that it is given, whose name is hidden and ends alike.

    Raises:
      BenchError: it cannot be written; what was there stands.
    """
    hidden = path.with_name(f'.{path.name}')
    try:
        how(hidden)
        hidden.replace(path)
    except OSError as error:
        raise BenchError(f'{path} could not be written: {error.strerror}. Make room, or name another place.') from None
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink()


def give_usual_permissions(path: Path) -> None:
    """Those that a new file has here; temporary files are for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
