"""Shared libraries: those that TensorFlow was linked with, allocators that are installed, and the one in use."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

# Intel's (and LLVM's) OpenMP runtime reads KMP_* and OMP_*; GNU's reads OMP_* and GOMP_*.
INTEL_OPENMP = ('libiomp5', 'libomp')
_OPENMP = (*INTEL_OPENMP, 'libgomp')
# Without the profiler before with it, which is the same allocator.
_ALLOCATORS = {'tcmalloc': ('libtcmalloc_minimal', 'libtcmalloc'), 'jemalloc': ('libjemalloc',)}
_MALLOCS = ('libtcmalloc', 'libjemalloc', 'libmimalloc', 'libhoard', 'libtbbmalloc_proxy')
# The packages that bring them: Debian and Ubuntu, Fedora and Red Hat.
PACKAGES = {'tcmalloc': ('libtcmalloc-minimal4', 'gperftools-libs'), 'jemalloc': ('libjemalloc2', 'jemalloc')}
# TensorFlow's own libraries, of which one or the other holds its kernels.
_TENSORFLOW = ('libtensorflow_cc.so.2', 'libtensorflow_cc.2.dylib', 'python/_pywrap_tensorflow_internal.so')


@functools.cache
def openmp() -> tuple[str, ...] | None:
    """The OpenMP runtimes that TensorFlow's libraries are linked with, such as 'libiomp5'; None where unknown.

    The loader itself is asked (ldd), which neither imports TensorFlow nor takes more than some milliseconds.
    """
    spec = importlib.util.find_spec('tensorflow')
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
    libraries = [folder / name for folder in folders for name in _TENSORFLOW if (folder / name).exists()]
    if not libraries:
        return None
    try:
        done = subprocess.run(['ldd', libraries[0]], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return named(done.stdout.split(), _OPENMP)


def named(paths: Iterable[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that are a library among the paths: 'libiomp5' of 'libiomp5.so' or '/x/libiomp5-1.so.2'."""
    files = {path.rpartition('/')[2] for path in paths}
    return tuple(
        name for name in names if any(file.startswith(name) and file[len(name) :][:1] in ('.', '-') for file in files)
    )


def find_allocator(name: str, folders: Iterable[Path] | None = None) -> Path | None:
    """The installed library of 'tcmalloc' or 'jemalloc', or None.

    Args:
      folders: where to look; those of the loader where not given.
    """
    for folder in _folders() if folders is None else folders:
        for stem in _ALLOCATORS[name]:
            # The name without a version comes with development files alone, and is a link to one of the others.
            found = sorted(folder.glob(f'{stem}.so*'), key=lambda path: (len(path.name), path.name))
            if found:
                return found[0]
    return None


def preloaded_allocator(environ: dict[str, str]) -> str | None:
    """The allocator's library in LD_PRELOAD, as it is written there, or None."""
    for path in environ.get('LD_PRELOAD', '').replace(':', ' ').split():
        if path.rpartition('/')[2].startswith(_MALLOCS):
            return path
    return None


def glibc() -> tuple[int, int] | None:
    """The version of the GNU C library, or None where the C library is another one."""
    name, version = platform.libc_ver()
    parts = version.split('.')
    return (int(parts[0]), int(parts[1])) if name == 'glibc' and all(map(str.isdecimal, parts[:2])) else None


def allocator(maps: Path = Path('/proc/self/maps')) -> str | None:
    """The library whose malloc this process uses: 'libtcmalloc_minimal.so.4', 'glibc 2.36', or None where unknown."""
    try:
        files = [line.split()[-1].rpartition('/')[2] for line in maps.read_text().splitlines() if line]
    except OSError:
        return None
    found = next((file for file in files if file.startswith(_MALLOCS)), None)
    return found or ' '.join(platform.libc_ver()).strip() or None


def _folders() -> list[Path]:
    """Where the loader looks: LD_LIBRARY_PATH, then the system's folders, and a conda environment's."""
    machine = platform.machine()
    named_folders = [*os.environ.get('LD_LIBRARY_PATH', '').split(':'), os.environ.get('CONDA_PREFIX', '')]
    folders = [Path(folder) for folder in named_folders[:-1] if folder]
    folders += [Path(named_folders[-1], 'lib')] if named_folders[-1] else []
    system = (f'/usr/lib/{machine}-linux-gnu', f'/lib/{machine}-linux-gnu', '/usr/lib64', '/usr/local/lib', '/usr/lib')
    return folders + [Path(folder) for folder in system]
