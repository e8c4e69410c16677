"""A user's own network: a Python file that registers it, named on the command line as path/to/file.py:name.

Nothing here knows TensorFlow; the file reaches it as any family's file does, through the `Layers` argument.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path


def parts(word: str) -> tuple[str, str] | None:
    """Path and network's name ('' where none is given) of a word such as `nets/mine.py:tiny`; None for other words."""
    if word.endswith('.py'):
        return word, ''
    path, colon, name = word.partition('.py:')
    return (f'{path}.py', name) if colon else None


def run(file: Path) -> str | None:
    """Runs the file, so that its decorators do; why that was not possible, as a sentence, or None."""
    if not file.is_file():
        return 'there is no such file. Name a Python file that registers a network.'
    name = f'user_network_{file.stem}'
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader, 'the name of a Python file gives a loader'
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # as of a script: what lies beside it can be imported, within functions too
    sys.modules[name] = module  # where dataclasses, among others, look for the module that they are in
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        return f'the file fails with {explained(error, file)}'
    return None


def explained(error: BaseException, file: Path) -> str:
    """One sentence: the exception, the line of the file that it came from, what it says."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line, text = error.lineno, error.msg
    else:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line, text = (lines[-1] if lines else None), str(error).partition('\n')[0]
    where = f' in line {line}' if line else ''
    return f'{type(error).__name__}{where}: {text.rstrip(".") or "no reason given"}.'
