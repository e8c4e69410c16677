"""The command `machine`: what this machine and this build of TensorFlow are, and what to set."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence

from bench.machine import advice, capabilities, environment, facts, libraries, probe, report, requirements
from bench.machine.options import MachineOptions
from bench.machine.requirements import MachineConfig
from bench.screen import Screen


def run(config: MachineConfig, words: Sequence[str]) -> int:
    """Prints tables, JSON, or with `--require` the answers.

    Returns:
      The exit status: 1 where a requirement is not met.
    """
    del words
    if config.require is not None:
        return _require(config)
    seen = _ask()
    found = facts.collect(seen, _if_on(seen, config.machine), config.machine)
    advised = advice.advise(found)
    if config.json:
        print(json.dumps({**found, 'advice': [dataclasses.asdict(each) for each in advised]}, indent=2))
    else:
        print(report.render(found, advised, colours=sys.stdout.isatty()))
    return 0


def _require(config: MachineConfig) -> int:
    answers = requirements.answers(config.required(), _ask, config.machine.variables())
    if config.json:
        print(json.dumps([dataclasses.asdict(each) for each in answers], indent=2))
    else:
        for each in answers:
            print(f'{each.requirement}: {"met" if each.met else "not met"}: {each.reason}')
    return 0 if all(each.met for each in answers) else 1


def _if_on(seen: probe.Probe | str, options: MachineOptions) -> probe.Probe | None:
    """What oneDNN would do where TensorFlow alone decided to leave it off; None where it is on or somebody decided."""
    if isinstance(seen, str) or seen.onednn or options.mkl != 'auto':
        return None
    turn = capabilities.switch(libraries.openmp())
    other = None if turn.name in environment.user() else _ask({turn.name: turn.on})
    return other if isinstance(other, probe.Probe) else None


def _ask(variables: Mapping[str, str] | None = None) -> probe.Probe | str:
    """Starts TensorFlow, and shows that while it lasts."""
    with Screen(to_stderr=True) as screen:
        screen.progress('asking TensorFlow and oneDNN, in a process of their own')
        return probe.run(variables)
