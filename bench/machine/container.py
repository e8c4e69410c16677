"""Which container this process runs in, if any, and of which image.

Told by what container engines leave in it: Docker's /.dockerenv, Podman's /run/.containerenv, the variables of
Kubernetes and Apptainer, the names of control groups and mounts. An image is not told by any but Podman; this
project's own images say it in TF_BENCH_IMAGE, and whoever starts one may say its digest in TF_BENCH_IMAGE_DIGEST. Where
no engine left a mark (containerd's nerdctl with version 2 of control groups), that variable tells of a container.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

# Names of control groups; /docker.service and the like are the engines themselves, on the host.
_MARKS = (
    (r'kubepods', 'kubernetes'),
    (r'docker[/-][0-9a-f]{64}', 'docker'),
    (r'libpod-', 'podman'),
    (r'crio-[0-9a-f]{64}', 'cri-o'),
    (r'cri-containerd[-:]', 'containerd'),
    (r'/lxc[./]', 'lxc'),
)
_ID = re.compile(r'(?:containers/|docker[/-]|libpod-|crio-|cri-containerd[-:])([0-9a-f]{64})\b')
# What engines mount over the image's own, from a folder of theirs that bears the container's id.
_MOUNTED = ('/etc/hosts', '/etc/hostname', '/etc/resolv.conf')


def facts(environ: Mapping[str, str] | None = None, root: Path = Path('/')) -> dict[str, str | None] | None:
    """The engine (`runtime`), `image`, its `digest` and the container's `id`, None for what is not told; or None.

    Args:
      environ, root: stand in for this process's environment and file system in tests.
    """
    environ = os.environ if environ is None else environ
    podman = _read(root / 'run/.containerenv')
    mounts = _mounted_from(_read(root / 'proc/self/mountinfo'))
    groups = _read(root / 'proc/self/cgroup') + _read(root / 'proc/1/cgroup')
    runtime = _runtime(environ, root, mounts, groups)
    if runtime is None:
        return None
    fields = dict(re.findall(r'^(\w+)="(.*)"$', podman, re.MULTILINE))
    found = _ID.search(groups) or _ID.search(mounts)
    return {
        'runtime': runtime,
        'image': environ.get('TF_BENCH_IMAGE') or fields.get('image') or None,
        'digest': environ.get('TF_BENCH_IMAGE_DIGEST') or None,
        'id': fields.get('id') or (found[1] if found else None),
    }


def _runtime(environ: Mapping[str, str], root: Path, mounts: str, groups: str) -> str | None:
    if 'KUBERNETES_SERVICE_HOST' in environ or '/kubelet/pods/' in mounts:
        return 'kubernetes'
    if (root / 'run/.containerenv').exists():
        return 'podman'
    # A disk that was made from an image still has the file, without being in a container.
    if (root / '.dockerenv').exists() and mounts:
        return 'docker'
    if environ.get('APPTAINER_CONTAINER') or environ.get('SINGULARITY_CONTAINER'):
        return 'apptainer'
    # systemd's interface for containers.
    if environ.get('container'):
        return environ['container']
    unmarked = 'unknown' if environ.get('TF_BENCH_IMAGE') else None
    return next((runtime for mark, runtime in _MARKS if re.search(mark, groups)), unmarked)


def _mounted_from(mountinfo: str) -> str:
    """Where the files that engines mount come from; proc(5): the source is the fourth field, the place the fifth."""
    fields = (line.split() for line in mountinfo.splitlines())
    return '\n'.join(field[3] for field in fields if len(field) > 4 and field[4] in _MOUNTED)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors='replace')
    except OSError:
        return ''
