"""Successive halving against simulated machines whose fastest setting is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis import halving

SPEEDS = {'default': 10.0, 'a': 10.0, 'b': 9.0, 'c': 10.3, 'd': 7.0, 'e': 11.0, 'f': 10.1, 'g': 9.9}
ARMS = [name for name in SPEEDS if name != 'default']


class Machine:
    """Runs settings with noise of 2 %, and is as much as half slower in some blocks than in others."""

    def __init__(self, seed: int, blocks: int = 100, fails: str = '') -> None:
        self.random = np.random.default_rng(seed)
        self.blocks: list[list[str]] = []
        self._most, self._fails = blocks, fails

    def __call__(self, arms: Sequence[str]) -> Mapping[str, float | None] | None:
        if len(self.blocks) == self._most:
            return None
        self.blocks.append(list(arms))
        of_the_block = self.random.uniform(0.5, 1)
        noise = self.random.lognormal(0, 0.02, len(arms))
        return {
            arm: None if arm == self._fails else SPEEDS[arm] * of_the_block * each
            for arm, each in zip(arms, noise, strict=True)
        }


def test_the_fastest_of_seven_is_missed_on_a_machine_that_drifts() -> None:
    found = [halving.halve(ARMS, 'default', Machine(seed))[0].arm for seed in range(300)]
    assert found.count('e') >= 0.95 * 300


def test_more_runs_are_spent_than_the_halving_needs() -> None:
    # Seven, four and two are left: one block each with the default among them, and as many again as there were.
    machine = Machine(1)
    gains = halving.halve(ARMS, 'default', machine)
    assert [len(block) for block in machine.blocks] == [8, 5, 3, 3]
    assert all('default' in block for block in machine.blocks)
    assert [gain.blocks for gain in gains] == [4, 4, 2, 2, 1, 1, 1]


def test_what_was_seen_before_the_time_was_over_is_lost() -> None:
    assert halving.halve(ARMS, 'default', Machine(1, blocks=0)) == []
    gains = halving.halve(ARMS, 'default', Machine(1, blocks=1))
    assert [gain.blocks for gain in gains] == [1] * 7
    assert [gain.times for gain in gains[:4]] == sorted((gain.times for gain in gains[:4]), reverse=True)


def test_a_setting_that_cannot_be_run_ends_the_search_or_wins_it() -> None:
    gains = halving.halve(ARMS, 'default', Machine(1, fails='e'))
    assert 'e' not in {gain.arm for gain in gains}
    assert len(gains) == 6
    assert halving.halve(ARMS, 'default', Machine(1, fails='default')) == []


def test_gains_are_taken_to_another_block_or_are_no_geometric_means() -> None:
    blocks = iter([{'default': 10.0, 'x': 20.0, 'y': 5.0, 'z': 10.0}, {'default': 1.0, 'x': 8.0, 'z': 1.0}])
    gains = halving.halve(['x', 'y', 'z'], 'default', lambda arms: next(blocks))
    assert [(gain.arm, round(gain.times, 9), gain.blocks) for gain in gains] == [
        ('x', 4.0, 2),
        ('z', 1.0, 2),
        ('y', 0.5, 1),
    ]


def test_a_single_setting_is_not_run_at_all() -> None:
    machine = Machine(1)
    (gain,) = halving.halve(['e'], 'default', machine)
    assert machine.blocks == [['default', 'e']]
    assert 1.0 < gain.times < 1.2
