"""Timing against a clock that only the steps move, so that every printed figure can be computed by hand."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from bench.options import TimingOptions
from bench.runners import timing
from bench.screen import Screen


class Clock:
    """A step that takes what it is told and a clock that shows it."""

    def __init__(
        self, durations: Iterator[float], loss: Callable[[int], float | None] = lambda step: 8.0 - step
    ) -> None:
        self.now = 100.0
        self.steps = 0
        self._durations = durations
        self._loss = loss

    def perf_counter(self) -> float:
        return self.now

    def step(self) -> float | None:
        self.now += next(self._durations)
        self.steps += 1
        return self._loss(self.steps)


def measured(
    clock: Clock, options: TimingOptions, monkeypatch: pytest.MonkeyPatch, stop: Callable[[], bool] = lambda: False
) -> timing.Measurement:
    monkeypatch.setattr(time, 'perf_counter', clock.perf_counter)
    return timing.measure(clock.step, options, 16, Screen(), stop)


def test_printed_lines_are_those_that_scripts_parse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two warm-up steps, then 2.0, 2.0, 1.0, 4.0 seconds for 16 images each: speeds 8, 8, 16, 4.
    clock = Clock(iter([9.0, 5.0, 2.0, 2.0, 1.0, 4.0]))
    measured(clock, TimingOptions(num_batches=4, num_warmup_batches=2, display_every=2), monkeypatch)
    # After step 4 the mean is 16 / 2.25 s, the speeds' standard deviation sqrt(19), their median 8, its deviations'
    # median 2.
    assert capsys.readouterr().out == (
        'Running warm up\n'
        'Done warm up\n'
        'Step\tImg/sec\ttotal_loss\n'
        '1\timages/sec: 8.0 +/- 0.0 (jitter = 0.0)\t5.000\n'
        '2\timages/sec: 8.0 +/- 0.0 (jitter = 0.0)\t4.000\n'
        '4\timages/sec: 7.1 +/- 2.2 (jitter = 3.0)\t2.000\n' + '-' * 64 + '\ntotal images/sec: 7.11\n' + '-' * 64 + '\n'
    )


def test_every_duration_is_kept_apart_from_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(iter([9.0, 5.0, 2.0, 2.0, 1.0]))
    seen = measured(clock, TimingOptions(num_batches=3, num_warmup_batches=2), monkeypatch)
    assert seen.warmup_seconds == (9.0, 5.0)
    assert seen.step_seconds == (2.0, 2.0, 1.0)
    assert seen.losses == (5.0, 4.0, 3.0)
    assert (seen.end, seen.warmed_up) == ('num_batches', None)


def test_without_numbers_it_warms_up_until_steady_and_stops_when_precise(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_start = [10.0, 4.0, 1.5]
    clock = Clock(iter([*slow_start, *(1.0 + 0.001 * (step % 3) for step in range(1000))]))
    seen = measured(clock, TimingOptions(), monkeypatch)
    assert seen.warmed_up is True
    assert seen.warmup_seconds[:3] == tuple(slow_start)
    assert max(seen.step_seconds) < 1.01
    assert seen.end == 'precise'
    assert len(seen.step_seconds) < 60


def test_fast_steps_are_measured_for_ten_seconds_because_a_machine_wanders(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(iter([0.01] * 5000))
    seen = measured(clock, TimingOptions(num_warmup_batches=0), monkeypatch)
    assert seen.end == 'precise'
    assert 10 <= sum(seen.step_seconds) < 15  # where the next check is


def test_max_seconds_ends_a_series_that_never_gets_precise(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(iter([0.5, 1.5] * 1000))
    seen = measured(clock, TimingOptions(max_seconds=30, num_warmup_batches=0), monkeypatch)
    assert seen.end == 'max_seconds'
    assert 30 <= sum(seen.step_seconds) < 32


def test_a_stop_request_ends_after_the_step_with_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(iter([1.0] * 100))
    seen = measured(
        clock, TimingOptions(num_batches=50, num_warmup_batches=1), monkeypatch, stop=lambda: clock.steps >= 5
    )
    assert seen.end == 'interrupted'
    assert seen.step_seconds == (1.0,) * 4


def test_a_stop_request_in_the_warm_up_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(iter([1.0] * 100))
    seen = measured(
        clock, TimingOptions(num_batches=5, num_warmup_batches=50), monkeypatch, stop=lambda: clock.steps >= 3
    )
    assert (seen.end, seen.step_seconds, len(seen.warmup_seconds)) == ('interrupted', (), 3)


@pytest.mark.parametrize(('first', 'losses'), [(4, (1.0, 1.0, None, None)), (1, (None,) * 4)])
def test_a_loss_that_is_not_finite_is_null_and_warned_of(
    monkeypatch: pytest.MonkeyPatch, first: int, losses: tuple[float | None, ...]
) -> None:
    clock = Clock(iter([1.0] * 100), loss=lambda step: float('nan') if step >= first else 1.0)
    seen = measured(clock, TimingOptions(num_batches=4, num_warmup_batches=1), monkeypatch)
    assert seen.losses == losses
    assert [warning['code'] for warning in timing.warnings(seen)] == ['loss_not_finite']


def test_a_step_without_a_loss_prints_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(iter([1.0] * 9), loss=lambda step: None)
    seen = measured(clock, TimingOptions(num_batches=2, num_warmup_batches=0), monkeypatch)
    assert re.search(r'^1\timages/sec: 16\.0 \+/- 0\.0 \(jitter = 0\.0\)$', capsys.readouterr().out, re.MULTILINE)
    assert timing.warnings(seen) == []


def test_a_series_that_slows_down_is_said_to_be_unsteady() -> None:
    steps = tuple(1.0 + (0.3 if step >= 20 else 0.0) + 0.01 * (step % 2) for step in range(40))
    seen = timing.Measurement((), steps, (None,) * 40, False, 'num_batches')
    assert [warning['code'] for warning in timing.warnings(seen)] == ['not_warm', 'not_steady']


_MODULES_OF_A_MEASUREMENT = """
import sys
from bench.options import TimingOptions
from bench.runners import timing
from bench.screen import Screen

loaded = []
def step():
    loaded.append(len(sys.modules))
    return 1.0
timing.measure(step, TimingOptions(num_warmup_batches=1, max_seconds=0.5), 16, Screen(), lambda: False)
assert len(loaded) > 30, loaded
assert loaded[1] == loaded[-1], (loaded[1], loaded[-1])
"""


def test_nothing_is_imported_between_steps_whose_time_would_be_a_steps() -> None:
    # In a process of its own: here everything has been imported already.
    words = [sys.executable, '-c', _MODULES_OF_A_MEASUREMENT]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
