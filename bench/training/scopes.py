"""Variables chosen by the beginnings of their names, as slim's flags of comma-separated scopes choose them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.errors import UsageError, nearest


def within(variables: Sequence[Any], scopes: str | None, flag: str) -> list[Any]:
    """Those variables whose name begins with one of the scopes.

    Args:
      scopes: separated by commas; None for none.
      flag: by which they were given.

    Raises:
      UsageError: a scope that no variable is in.
    """
    names = [variable.op.name for variable in variables]
    beginnings = tuple(scope.strip() for scope in (scopes or '').split(',') if scope.strip())
    known = {name[:index] for name in names for index, letter in enumerate(name) if letter == '/'}
    problems = [
        f'--{flag}={scopes}: no variable is in {beginning}.{nearest(beginning, known)}'
        for beginning in beginnings
        if not any(name.startswith(beginning) for name in names)
    ]
    if problems:
        raise UsageError(problems)
    return [variable for variable in variables if variable.op.name.startswith(beginnings)] if beginnings else []
