"""Limits that a control group (v2 or v1) sets on this process, in whichever of its ancestors they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path('/sys/fs/cgroup')
_SELF = Path('/proc/self/cgroup')


def values(name: str, controller: str = '', root: Path = _ROOT, membership: Path = _SELF) -> Iterator[str]:
    """The contents of the file `name` in this process's group and in each of its ancestors.

    Args:
      controller: of version 1, whose hierarchies are a folder each; '' for version 2.
      root: where the hierarchies are.
      membership: which groups this process is in, as /proc/self/cgroup tells it. In a container the path that it tells
        may not exist below `root`, whose top is then the container's own group.
    """
    top = root / controller
    group = top / _path(controller, membership).lstrip('/')
    for folder in (group, *group.parents):
        if folder.is_relative_to(top):
            try:
                yield (folder / name).read_text().strip()
            except OSError:
                continue


def version(root: Path = _ROOT) -> str | None:
    """'v2', 'v1', or 'v1 and v2' where controllers are divided among both; None where there are no control groups."""
    second = (root / 'cgroup.controllers').exists()
    first = any((root / controller).is_dir() for controller in ('cpu', 'memory', 'cpu,cpuacct'))
    if first:
        return 'v1 and v2' if second or (root / 'unified/cgroup.controllers').exists() else 'v1'
    return 'v2' if second else None


def _path(controller: str, membership: Path) -> str:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return ''
    for line in lines:
        _, controllers, path = line.split(':', 2)
        if controller in controllers.split(','):
            return path
    return ''
