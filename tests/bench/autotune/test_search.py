"""The search for the fastest settings on simulated machines: what it finds, what it claims, what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from bench.autotune.changes import DEFAULT, Change, combined
from bench.autotune.search import LEAST_PAIRS, MOST_PAIRS, Found, Sample, Search, Stopped


def change(name: str, value: str = 'on') -> Change:
    return Change(((name, value),))


CHANGES = [change(name) for name in ('precision', 'inter', 'allocator', 'xla', 'layout', 'intra')]
# How many times as fast each makes it; together they multiply.
GAINS = {'precision': 1.4, 'inter': 1.02, 'allocator': 1.08, 'xla': 0.8, 'layout': 0.75, 'intra': 0.6}
NO_GAINS = {'precision': 1.0, 'inter': 0.99, 'allocator': 1.0, 'xla': 0.8, 'layout': 0.75, 'intra': 0.6}


class Machine:
    """Simulated runs of 20 s, whose speeds drift by a random walk and vary by `noise`."""

    def __init__(self, gains: dict[str, float], seed: int, noise: float = 0.02, slow: Sequence[str] = ()) -> None:
        self.now = 0.0
        self.runs = 0
        self._gains, self._noise, self._slow = gains, noise, slow
        self._random = np.random.default_rng(seed)
        self._drift = 0.0

    def speed(self, setting: Change) -> float:
        return 10 * math.prod(self._gains[name] for name, _ in setting.flags)

    def measure(self, setting: Change, longest: float | None) -> Sample:
        self.runs += 1
        if longest is not None and setting.names & set(self._slow):
            self.now += longest
            return Sample(setting, None, longest)
        self.now += 20
        self._drift += self._random.normal(0, 0.01)
        noise = self._random.normal(0, self._noise)
        return Sample(setting, self.speed(setting) * math.exp(self._drift + noise), 20)


def search(machine: Machine, seconds: float = 900, seed: int = 0, changes: Sequence[Change] = CHANGES) -> Found:
    return Search(machine.measure, lambda: machine.now, seconds, lambda _: True, seed).run(changes)


def test_the_best_combination_is_missed() -> None:
    found = [search(Machine(GAINS, seed), seed=seed) for seed in range(200)]
    near_best = sum(each.best is not None and {'precision', 'allocator'} <= each.best.names for each in found)
    harmful = sum(each.best is not None and bool(each.best.names & {'xla', 'layout', 'intra'}) for each in found)
    assert near_best >= 0.9 * 200
    assert harmful <= 0.02 * 200
    assert sum(each.proven for each in found) >= 0.98 * 200


def test_settings_that_bring_nothing_are_said_to_be_faster() -> None:
    machines = [Machine(NO_GAINS, seed) for seed in range(300)]
    found = [search(machine, seed=seed) for seed, machine in enumerate(machines)]
    assert sum(each.proven for each in found) <= 0.04 * 300
    # It looked for something, and often believed to have found it: the fresh pairs are what keeps it honest.
    assert sum(each.best is not None for each in found) >= 0.15 * 300


def test_the_gain_that_is_told_is_the_one_that_made_the_setting_look_best() -> None:
    looked, told, covered = [], [], []
    for seed in range(400):
        machine = Machine(NO_GAINS, seed)
        found = search(machine, seed=seed)
        if found.best is None or found.gain is None or found.gain.low is None or found.gain.high is None:
            continue
        true = machine.speed(found.best) / machine.speed(DEFAULT)
        looked.append(next(gain.times for gain in found.looked if gain.arm == found.best) / true)
        told.append(found.gain.estimate / true)
        covered.append(found.gain.low <= true <= found.gain.high)
    assert np.mean(looked) > 1.01
    assert np.mean(told) == pytest.approx(1, abs=0.004)
    assert np.mean(covered) >= 0.92


@pytest.mark.parametrize('seconds', [60, 200, 400, 900, 3000])
def test_the_budget_is_overdrawn_by_more_than_a_pair(seconds: float) -> None:
    for seed in range(50):
        machine = Machine(GAINS, seed)
        found = search(machine, seconds, seed)
        assert machine.now <= seconds + 2 * 20
        assert len(found.pairs) <= MOST_PAIRS
        if seconds >= 900:
            assert len(found.pairs) >= LEAST_PAIRS


def test_a_budget_for_nothing_claims_something() -> None:
    found = search(Machine(GAINS, 1), seconds=25)
    assert [sample.change for sample in found.samples] == [DEFAULT]
    assert found.best is None
    assert not found.proven
    assert found.not_tried == CHANGES


def test_a_little_time_is_not_used_for_the_first_change() -> None:
    # One run of the default, one of it and the change, and two pairs.
    found = search(Machine(GAINS, 1), seconds=180)
    assert {sample.change for sample in found.samples} == {DEFAULT, CHANGES[0]}
    assert len(found.pairs) >= 2


def test_a_short_search_spends_its_time_on_the_last_changes() -> None:
    found = search(Machine(GAINS, 1), seconds=300)
    tried = {sample.change for sample in found.samples}
    assert found.not_tried
    assert found.not_tried == CHANGES[-len(found.not_tried) :]
    assert tried.isdisjoint(found.not_tried)


def test_a_setting_that_takes_too_long_stops_the_search() -> None:
    found = search(Machine(GAINS, 1, slow=['xla']))
    assert found.best is not None
    assert 'precision' in found.best.names
    assert found.proven
    assert sum(sample.speed is None for sample in found.samples) == 1


def test_a_run_that_fails_as_it_was_typed_is_searched_on() -> None:
    def measure(setting: Change, longest: float | None) -> Sample:
        return Sample(setting, None, 5)

    found = Search(measure, lambda: 0.0, 900, lambda _: True, 0).run(CHANGES)
    assert [sample.change for sample in found.samples] == [DEFAULT]
    assert found.best is None


def test_what_the_user_stopped_is_taken_for_proven() -> None:
    machine = Machine(GAINS, 1)

    def measure(setting: Change, longest: float | None) -> Sample:
        if machine.runs == 30:
            raise Stopped
        return machine.measure(setting, longest)

    found = Search(measure, lambda: machine.now, 900, lambda _: True, 0).run(CHANGES)
    assert found.interrupted
    assert found.gain is None
    assert not found.proven


def test_changes_of_one_flag_are_combined_or_a_worse_one_is_taken() -> None:
    a1, a2, b, c = change('a', '1'), change('a', '2'), change('b'), change('c')
    assert combined({a1: 1.1, b: 1.3, a2: 1.2, c: 1.05}, lambda _: True) == [b + a2, b + a2 + c]
    assert combined({b: 1.3}, lambda _: True) == []
    assert combined({a1: 1.1, a2: 1.2}, lambda _: True) == []


def test_combinations_that_are_refused_are_run() -> None:
    a, b, c = change('a'), change('b'), change('c')
    assert combined({a: 1.3, b: 1.2, c: 1.1}, lambda each: not {'a', 'b'} <= each.names) == [a + c]
    machine = Machine(GAINS, 1)
    found = Search(machine.measure, lambda: machine.now, 900, lambda _: False, 0).run(CHANGES)
    assert {sample.change for sample in found.samples} == {DEFAULT, *CHANGES}
