"""A clone on a machine that is pretended: with Pythons, a pip and compilers that only do as if.

The pretended Python runs the code that it is given, with another version or without a module; its pip writes down what
it was asked for. So no test needs the network.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from program import ROOT

TOOLS = ('sh', 'make', 'cat', 'cksum', 'dirname', 'echo', 'find', 'getconf', 'grep', 'head', 'mkdir', 'mv', 'rm')

PYTHON = """#!{executable} -IS
import os, pathlib, platform, shutil, sys, time
arguments, here = sys.argv[1:], pathlib.Path({here!r})
if arguments[0] == '-c':
    sys.version_info = {version}
    {change}
    exec(arguments[1])
elif arguments[:2] == ['-m', 'venv']:
    folder = pathlib.Path(arguments[2], 'bin')
    folder.mkdir()
    shutil.copy(__file__, folder / 'python')
else:
    with open(here / 'calls', 'a') as calls:
        print(*arguments, file=calls)
    (here / 'environment').write_text(' '.join(os.environ))
    trouble = here / 'trouble'
    if trouble.exists():
        step, what = trouble.read_text().split()
        if len((here / 'calls').read_text().splitlines()) == int(step):
            (here / 'reached').touch()
            time.sleep(60 if what == 'hang' else 0)
            sys.exit('c++ -c a.cc\\nc++: error: the first of many')
"""

COMPILER = """#!/bin/sh
cat > /dev/null
while [ "$1" != -o ]; do shift; done
: > "$2"
"""


class Machine:
    """A clone in an empty folder on a machine that has nothing but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / 'clone'
        self.bin = folder / 'bin'
        self.bin.mkdir()
        self.clone.mkdir()
        for name in ('Makefile', 'setup.cfg', 'pyproject.toml', 'constraints.txt'):
            shutil.copy(ROOT / name, self.clone)
        shutil.copytree(ROOT / 'tools', self.clone / 'tools')
        shutil.copytree(ROOT / '.ci', self.clone / '.ci')
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name: str, version: tuple[int, int], change: str = '') -> None:
        text = PYTHON.format(executable=sys.executable, here=str(self.folder), version=(*version, 1), change=change)
        self.program(name, text)

    def compilers(self) -> None:
        self.program('cc', COMPILER)
        self.program('c++', COMPILER)

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.clone,
            env={'PATH': str(self.bin)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # What starts the tests may ignore Ctrl-C, as shells do for what they run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )

    def make(self, *arguments: str) -> tuple[int, list[str]]:
        """Exit status and what was printed, without make's own lines."""
        process = self.start('make', *arguments)
        output = ''.join(process.communicate(timeout=60))
        return process.returncode, [line for line in output.splitlines() if not line.startswith('make')]

    def calls(self) -> list[str]:
        """What pip (and all else that is no `-c` and no `-m venv`) was called with since the last time, shortened."""
        path = self.folder / 'calls'
        found = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [re.sub(r'^-m pip install .*--constraint constraints.txt ', 'pip ', line) for line in found]
