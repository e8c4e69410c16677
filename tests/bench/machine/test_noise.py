"""Noise: amounts by hand, warnings at their limits and not below, and a real process that disturbs."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.machine import noise
from bench.machine.counters import Events, Load, Process

ROOT = Path(__file__).parents[3]
QUIET: dict[str, Any] = {
    'seconds': 20.0, 'samples': 41, 'processors': 2, 'other_processors': 0.02, 'other_processors_most': 0.3,
    'stolen_seconds': 0.04, 'quota_periods': 0, 'quota_seconds': 0.0, 'thermal_throttles': 0,
    'megahertz': {'low': 3290.0, 'median': 3300.0, 'high': 3310.0}, 'major_faults': 3, 'swapped_pages': 0,
    'preemptions': 400, 'memory_stall_seconds': 0.0, 'busiest': [], 'whole_host': False,
}  # fmt: skip
UNKNOWN = {
    'other_processors': None, 'other_processors_most': None, 'stolen_seconds': None, 'quota_periods': None,
    'quota_seconds': None, 'thermal_throttles': None, 'megahertz': None, 'swapped_pages': None,
    'memory_stall_seconds': None,
}  # fmt: skip
EVENTS = Events(
    quota_periods=100,
    quota_seconds=7.0,
    thermal=None,
    major_faults=10,
    swapped_pages=5,
    preemptions=1000,
    memory_stall_seconds=3.0,
)


def codes(seen: dict[str, Any], threads: int = 2) -> list[str]:
    return [warning['code'] for warning in noise.warnings(seen, threads)]


def load(seconds: float, busy: float, own: float, megahertz: float | None = None) -> Load:
    return Load(seconds, busy, 0.25 * seconds, own, megahertz)


def test_amounts_are_differences_and_others_what_is_not_our_own() -> None:
    after = Events(130, 8.5, None, 12, 25, 1600, 3.5)
    loads = [load(50.0, 200.0, 90.0, 3000.0), load(54.0, 208.0, 94.0, 3200.0), load(60.0, 219.0, 105.0, 3400.0)]
    seen = noise.amounts(loads, EVENTS, after, 2)
    # 19 processor seconds at work, 15 of them ours, in 10 s; 4 of 8 in the first 4 s.
    assert seen['other_processors'] == pytest.approx(0.4)
    assert seen['other_processors_most'] == pytest.approx(1.0)
    assert seen['seconds'] == pytest.approx(10.0)
    assert seen['stolen_seconds'] == pytest.approx(2.5)
    assert (seen['quota_periods'], seen['quota_seconds']) == (30, 1.5)
    assert (seen['major_faults'], seen['swapped_pages'], seen['preemptions']) == (2, 20, 600)
    assert seen['memory_stall_seconds'] == pytest.approx(0.5)
    assert seen['thermal_throttles'] is None
    assert seen['megahertz'] == pytest.approx({'low': 3040.0, 'median': 3200.0, 'high': 3360.0})


def test_a_burst_between_half_second_readings_is_seen_in_the_worst_second() -> None:
    # Others use one processor from 2.0 to 3.0 s and none else.
    times = [0.5 * index for index in range(13)]
    loads = [load(at, at + min(max(at - 2.0, 0.0), 1.0), at) for at in times]
    seen = noise.amounts(loads, EVENTS, EVENTS, 2)
    assert seen['other_processors'] == pytest.approx(1 / 6)
    assert seen['other_processors_most'] == pytest.approx(1.0)


def test_rounded_counters_never_give_less_than_nothing() -> None:
    seen = noise.amounts([load(0.0, 10.0, 5.0), load(1.0, 11.99, 7.0)], EVENTS, EVENTS, 2)
    assert seen['other_processors'] == 0.0


def test_the_busiest_are_others_and_what_they_used_meanwhile() -> None:
    before = {
        1: Process('init', 0, 500.0, 10.0, 10),
        5: Process('grandchild', 6, 1.0, 0.0, 10),
        6: Process('child', 1, 3.0, 0.0, 10),
        7: Process('bench', 1, 3.0, 0.0, 10),
        8: Process('old', 1, 4.0, 0.0, 10),
        11: Process('kworker/u8:1-flush', 2, 90.0, 0.0, 10),
    }
    after = {
        1: Process('init', 0, 500.0, 14.5, 10),  # two that descend from it ended, which had used four seconds before
        7: Process('bench', 1, 23.0, 0.0, 10),
        8: Process('reused', 1, 2.0, 0.0, 90),  # another process, which got the number
        9: Process('burn', 1, 9.0, 0.0, 80),
        10: Process('idle', 1, 0.0, 0.0, 85),
        11: Process('kworker/u8:1-events', 2, 90.1, 0.0, 10),  # the same, which has another name now
    }
    assert noise.busiest(before, after, {7}, 10.0) == [
        {'name': 'burn', 'pid': 9, 'processors': 0.9},
        {'name': 'reused', 'pid': 8, 'processors': 0.2},
        {'name': 'init', 'pid': 1, 'processors': 0.05},
    ]


def test_a_quiet_machine_and_one_that_tells_nothing_give_no_warning() -> None:
    assert codes(QUIET) == []
    assert codes({**QUIET, **UNKNOWN}) == []
    assert noise.warnings(None, 2) == []


@pytest.mark.parametrize(
    ('changes', 'code'),
    [
        ({'other_processors': 0.66}, 'other_load'),
        ({'other_processors': 0.101}, 'other_load'),
        ({'other_processors': 0.8, 'processors': 64}, 'other_load'),
        ({'other_processors': 0.95, 'processors': 128}, 'other_load'),
        ({'other_processors': 0.95, 'processors': 256}, 'other_load'),
        ({'stolen_seconds': 0.41}, 'stolen'),
        ({'quota_seconds': 0.21, 'quota_periods': 9}, 'quota'),
        ({'thermal_throttles': 1}, 'thermal'),
        ({'megahertz': {'low': 3100.0, 'median': 3300.0, 'high': 3300.0}}, 'frequency'),
        ({'major_faults': 200}, 'page_faults'),
        ({'swapped_pages': 200}, 'swapping'),
        ({'memory_stall_seconds': 0.21}, 'memory_pressure'),
    ],
)
def test_each_disturbance_beyond_its_limit_is_told_alone(changes: dict[str, Any], code: str) -> None:
    assert codes({**QUIET, **changes}) == [code]
    assert code in noise.CODES


@pytest.mark.parametrize(
    'changes',
    [
        {'other_processors': 0.09},
        {'other_processors': 0.3, 'processors': 32},
        {'other_processors': 0.49, 'processors': 256},
        {'stolen_seconds': 0.39},
        {'quota_seconds': 0.19, 'quota_periods': 9},
        {'megahertz': {'low': 3150.0, 'median': 3300.0, 'high': 3300.0}},
        {'major_faults': 199},
        {'swapped_pages': 199},
        {'memory_stall_seconds': 0.19},
        # A hundredth of a second, in which processor time is counted, is much of a short measurement.
        {'seconds': 0.1, 'other_processors': 0.3, 'stolen_seconds': 0.01, 'preemptions': 10, 'quota_seconds': 0.01},
        {'seconds': 0.01, 'major_faults': 2, 'preemptions': 0, 'stolen_seconds': 0.0},
    ],
)
def test_what_is_below_its_limit_is_no_alarm(changes: dict[str, Any]) -> None:
    assert codes({**QUIET, **changes}) == []


def test_threads_that_are_too_many_are_told_of_and_no_others() -> None:
    assert codes({**QUIET, 'preemptions': 80000}, threads=3) == ['preempted']
    assert 'preempted' in noise.CODES
    assert codes({**QUIET, 'preemptions': 79000}, threads=3) == []
    assert codes({**QUIET, 'preemptions': 800000}, threads=2) == []


def test_a_warning_of_something_else_is_counted_as_a_false_alarm() -> None:
    as_it_should_be = runpy.run_path(str(ROOT / 'tools' / 'noise_check.py'))['as_it_should_be']

    def record(*told: str) -> dict[str, Any]:
        return {'warnings': [{'code': code, 'text': ''} for code in told]}

    assert as_it_should_be(record('not_warm'), burn=False)
    assert not as_it_should_be(record('not_warm', 'preempted'), burn=False)
    assert as_it_should_be(record('not_warm', 'other_load'), burn=True)
    assert not as_it_should_be(record('stolen'), burn=True)


def test_a_warning_names_who_and_says_when_it_is_the_whole_host() -> None:
    busy = [{'name': 'python3', 'pid': 4242, 'processors': 0.64}]
    (warning,) = noise.warnings({**QUIET, 'other_processors': 0.66, 'busiest': busy, 'whole_host': True}, 2)
    assert 'of the whole host kept 0.66 of 2 processors' in warning['text']
    assert 'python3 (process 4242) 0.64' in warning['text']


BURN = 'while True: pass'


@pytest.fixture
def burning() -> Iterator[int]:
    with subprocess.Popen([sys.executable, '-c', BURN]) as process:
        yield process.pid
        process.kill()


def test_a_foreign_process_is_named(burning: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, '_BUSIEST', 1000)
    # A root without descendants: the burning process, a child of this one, is foreign to it.
    root = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    watch = noise.Watch(root.pid)
    try:
        watch.start()
        time.sleep(1)
        watch.stop()
    finally:
        root.kill()
        root.wait()
    seen = watch.noise()
    assert seen is not None
    assert burning in [each['pid'] for each in seen['busiest']]
    assert seen['other_processors_most'] > 0


def test_the_runs_own_child_is_not_told_as_foreign(burning: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, '_BUSIEST', 1000)
    watch = noise.Watch()
    watch.start()
    time.sleep(1)
    watch.stop()
    seen = watch.noise()
    assert seen is not None
    assert not {burning, os.getpid()} & {each['pid'] for each in seen['busiest']}


# Bound to one processor, this one works on it while its sibling works elsewhere.
BOUND = """
import os, time
from bench.machine import noise
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
watch = noise.Watch(os.getppid())
watch.start()
end = time.monotonic() + 0.5
while time.monotonic() < end:
    pass
watch.stop()
print(watch.noise()['processors'])
"""


def test_a_bound_worker_watches_all_processors_that_its_siblings_compute_on() -> None:
    done = subprocess.run([sys.executable, '-c', BOUND], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(os.sched_getaffinity(0))


def test_watching_that_never_began_ends_and_tells_nothing() -> None:
    watch = noise.Watch()
    watch.stop()
    assert watch.noise() is None
