"""The commands of the README, as they are printed: a flag that was renamed or removed is found here."""

from __future__ import annotations

import re
import shlex

import pytest
from program import ROOT

from bench import cli, flags

# Lines that a backslash goes on in are one command.
_TEXT = (ROOT / 'README.md').read_text().replace('\\\n', ' ')
COMMANDS = re.findall(r'^    \./run_benchmark\.py .+$', _TEXT, re.MULTILINE)


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 30


@pytest.mark.parametrize('line', COMMANDS)
def test_a_command_of_the_readme_has_words_that_the_program_knows(line: str) -> None:
    words = shlex.split(line.partition(' > ')[0], comments=True)[1:]
    name = words.pop(0) if not words[0].startswith('-') else 'autotune' if '--autotune' in words else 'benchmark'
    given = [word for word in words if word not in ('--autotune', '--help')]
    assert flags.parse(cli.COMMANDS[name].config_class, given, 'program')[1] == []
