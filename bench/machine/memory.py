"""Memory: what the machine has, what this process may use, what it used at most."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

# cgroup v1 writes "no limit" as a number near 2**63.
_NO_LIMIT = 1 << 60


def cgroup_limit(root: Path = Path('/sys/fs/cgroup')) -> int | None:
    """Bytes that the control group (v2 or v1) allows, or None for no limit."""
    for path in (root / 'memory.max', root / 'memory' / 'memory.limit_in_bytes'):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        return None if text == 'max' or int(text) > _NO_LIMIT else int(text)
    return None


def peak_bytes() -> int:
    """The largest resident set that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def facts() -> dict[str, Any]:
    """Memory for the record, in bytes."""
    import psutil

    return {'total_bytes': psutil.virtual_memory().total, 'cgroup_limit_bytes': cgroup_limit()}
