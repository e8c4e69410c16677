"""conversion.json: what was converted with which flags, left beside the shards so that a repeated conversion is known.

Knows nothing of TensorFlow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = 'conversion.json'


def read(folder: Path) -> dict[str, Any] | None:
    """The report of the finished conversion in a folder; None where there is none."""
    try:
        found = json.loads((folder / NAME).read_text(encoding='utf-8'))
        shards(found)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found


def shards(content: dict[str, Any]) -> list[str]:
    """The names of all shards of a report."""
    return [name for names in content['shards'].values() for name in names]


def write(folder: Path, content: dict[str, Any]) -> None:
    """Writes the report to a folder, under a temporary name first."""
    unfinished = folder / f'{NAME}.part'
    try:
        unfinished.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        unfinished.replace(folder / NAME)
    finally:
        unfinished.unlink(missing_ok=True)
