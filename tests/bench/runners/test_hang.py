"""When a process counts as hanging, on a clock that the test moves."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from bench.runners.hang import Hang


class Machine:
    """A clock, and processes that use as much of a processor as they are told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def watch(self, use: float) -> Watched:
        return Watched(self, use)

    def run(self, seconds: float, *watched: Watched) -> None:
        """Lets time pass, looking five times a second."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += 0.2
            for each in watched:
                each.look()


class Watched:
    def __init__(self, machine: Machine, use: float) -> None:
        self._machine, self.use = machine, use
        self.steps, self.stepping, self.state = 0, False, psutil.STATUS_RUNNING
        self._used, self._at = 0.0, machine.now
        self.hang = Hang(self)  # type: ignore[arg-type]

    def status(self) -> str:
        return self.state

    def cpu_times(self) -> Any:
        self._used += self.use * (self._machine.now - self._at)
        self._at = self._machine.now
        return (self._used, 0.0, 0.0, 0.0)

    def look(self) -> None:
        self.hang.look(self.steps, self.stepping)

    def step(self, times: int = 1) -> None:
        self.steps, self.stepping = self.steps + times, True


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(time, 'monotonic', lambda: found.now)
    return found


def stepping(machine: Machine, seconds: float, *watched: Watched) -> None:
    """Ten steps of so many seconds, of all together."""
    for _ in range(10):
        machine.run(seconds, *watched)
        for each in watched:
            each.step()


def told(one: Watched, *others: Watched) -> str:
    return one.hang.without_step([other.hang for other in others])


def test_workers_that_wait_for_each_other_are_noticed_within_half_a_minute(machine: Machine) -> None:
    one, other = machine.watch(0.9), machine.watch(0.9)
    stepping(machine, 1.0, one, other)
    one.use = other.use = 0.01
    machine.run(17, one, other)
    assert told(one, other) == ''
    machine.run(5, one, other)
    assert 'no step' in told(one, other)
    assert 'though it computes' not in told(one, other)


def test_a_step_that_takes_15_seconds_where_the_others_took_4_is_no_hang(machine: Machine) -> None:
    one, other = machine.watch(0.2), machine.watch(0.2)
    machine.run(10, one, other)
    for _ in range(2):
        machine.run(4, one, other)
        one.step()
        other.step()
    machine.run(40, one, other)
    assert told(one, other) == told(other, one) == ''


def test_one_that_waits_for_a_slow_step_of_another_is_no_hang(machine: Machine) -> None:
    one, other = machine.watch(0.9), machine.watch(0.9)
    stepping(machine, 4.0, one, other)
    one.use = 0.01
    machine.run(60, one, other)
    assert told(one, other) == told(other, one) == ''
    machine.run(30, one, other)
    assert 'though it computes' in told(other, one)


def test_one_that_hangs_alone_is_noticed_while_others_go_on(machine: Machine) -> None:
    one, other = machine.watch(0.9), machine.watch(0.9)
    stepping(machine, 1.0, one, other)
    one.use = 0.0
    for _ in range(20):
        machine.run(1.0, one, other)
        other.step()
    assert 'no step' in told(one, other)
    assert told(other, one) == ''


def test_what_begins_may_compute_for_an_hour_but_not_do_nothing(machine: Machine) -> None:
    one = machine.watch(0.5)
    machine.run(3600, one)
    assert told(one) == ''
    one.use = 0.0
    machine.run(200, one)
    assert 'no step' in told(one)


def test_a_stopped_process_is_noticed_but_not_where_whoever_looks_was_stopped_too(machine: Machine) -> None:
    one = machine.watch(0.9)
    stepping(machine, 0.4, one)
    one.state = psutil.STATUS_STOPPED
    machine.now += 600
    machine.run(1, one)
    assert (one.hang.stopped(), told(one)) == ('', '')
    machine.run(8, one)
    assert 'has been stopped by a signal' in one.hang.stopped()


def test_one_that_waited_for_a_slow_step_of_another_may_go_on_when_that_is_done(machine: Machine) -> None:
    one, other = machine.watch(0.9), machine.watch(0.9)
    stepping(machine, 3.0, one, other)
    one.use = 0.0
    for _ in range(150):  # 30 seconds: more than one that waits for nothing has
        machine.run(0.2, one, other)
        assert told(one, other) == told(other, one) == ''
    other.step()
    machine.run(1, one, other)
    assert told(one, other) == ''
    other.use = 0.0
    machine.run(40, one, other)
    assert 'no step' in told(one, other)


def test_one_at_a_meeting_does_not_hang_while_another_does_its_steps_to_come_there(machine: Machine) -> None:
    one, other = machine.watch(0.9), machine.watch(0.9)
    stepping(machine, 1.0, one, other)
    one.use, one.stepping = 0.01, False
    for _ in range(600):
        machine.run(1.0, one, other)
        other.step()
        assert told(one, other) == told(other, one) == ''
    other.use, other.stepping = 0.01, False
    machine.run(170, one, other)
    assert told(one, other) == ''
    machine.run(20, one, other)
    assert 'no step' in told(one, other)
