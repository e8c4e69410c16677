"""The command `machine`: what this machine and this build of TensorFlow are, and what to set."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from bench.machine import advice, facts, probe, report, requirements
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
    found = facts.collect(seen)
    advised = advice.advise(found)
    if config.json:
        print(json.dumps({**found, 'advice': [dataclasses.asdict(each) for each in advised]}, indent=2))
    else:
        print(report.render(found, advised, colours=sys.stdout.isatty()))
    return 0


def _require(config: MachineConfig) -> int:
    answers = requirements.answers(config.required(), _ask)
    if config.json:
        print(json.dumps([dataclasses.asdict(each) for each in answers], indent=2))
    else:
        for each in answers:
            print(f'{each.requirement}: {"met" if each.met else "not met"}: {each.reason}')
    return 0 if all(each.met for each in answers) else 1


def _ask() -> probe.Probe | str:
    """Starts TensorFlow, and shows that while it lasts."""
    with Screen(to_stderr=True) as screen:
        screen.progress('asking TensorFlow and oneDNN, in a process of their own')
        return probe.run()
