"""The kernel's counters, read from recorded texts: numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import counters
from bench.machine.counters import Process

# Of a virtual machine with two processors; ticks are hundredths.
STAT = """\
cpu  2398626 494124 367127 1302349 6112 0 803 4135 0 0
cpu0 1133296 233712 173957 741833 1114 0 153 2070 0 0
cpu1 1265330 260411 193169 560516 4997 7 650 2065 500 20
intr 228838413 0 9 0 0
ctxt 1088723413
"""


def test_waiting_and_idling_are_not_counted_as_work() -> None:
    busy, stolen = counters.processor_seconds(STAT, {0}, ticks=100)
    assert busy == pytest.approx((1133296 + 233712 + 173957 + 0 + 153) / 100)
    assert stolen == pytest.approx(20.70)


def test_guests_are_not_counted_twice_and_processors_are_added() -> None:
    busy, stolen = counters.processor_seconds(STAT, {0, 1}, ticks=100)
    assert busy == pytest.approx((1541118 + 1265330 + 260411 + 193169 + 7 + 650) / 100)
    assert stolen == pytest.approx(41.35)


def test_processors_that_may_not_be_used_do_not_count() -> None:
    assert counters.processor_seconds(STAT, {1}, ticks=100)[1] == pytest.approx(20.65)
    assert counters.processor_seconds(STAT, {7}, ticks=100) == (None, None)
    assert counters.processor_seconds('', {0}) == (None, None)


def test_a_process_whose_name_looks_like_fields_is_read() -> None:
    text = (
        '4242 (a) R 1 (b) S 17 4242 4242 34816 4242 4194304 1180 75000 3 9 250 50 1000 200 20 0 5 0 8071 '
        '231538688 29573 18446744073709551615\n'
    )
    assert counters.parse_process(text, ticks=100) == Process('a) R 1 (b', 17, 3.0, 12.0, 8071)


def test_a_process_that_has_vanished_is_none() -> None:
    assert counters.parse_process('') is None


def test_quotas_of_both_versions_and_of_all_groups_above_count() -> None:
    version_2 = 'usage_usec 900\nuser_usec 500\nnr_periods 120\nnr_throttled 30\nthrottled_usec 2500000\nnr_bursts 0\n'
    version_1 = 'nr_periods 50\nnr_throttled 4\nthrottled_time 750000000\n'
    assert counters.quota([version_2]) == (30, 2.5)
    assert counters.quota([version_1]) == (4, 0.75)
    assert counters.quota([version_1, version_1]) == (8, 1.5)


def test_a_group_without_a_quota_is_none_and_one_that_never_stopped_is_zero() -> None:
    assert counters.quota(['usage_usec 32606889697\nuser_usec 28927575695\nsystem_usec 3679314001\n']) == (None, None)
    assert counters.quota(['nr_periods 0\nnr_throttled 0\nthrottled_time 0\n']) == (0, 0.0)


def test_pages_swapped_both_ways_are_added() -> None:
    assert counters.swapped_pages('pgpgin 9\npswpin 11\npswpout 31\npgmajfault 12262\n') == 42
    assert counters.swapped_pages('pgpgin 9\n') is None


def test_stalls_are_those_of_some_tasks_in_seconds() -> None:
    text = (
        'some avg10=0.00 avg60=0.04 avg300=0.49 total=10181257\nfull avg10=0.00 avg60=0.04 avg300=0.49 total=9255033\n'
    )
    assert counters.stalled_seconds(text) == pytest.approx(10.181257)
    assert counters.stalled_seconds('') is None


def test_heat_that_nothing_counts_is_taken_for_none_and_what_is_counted_for_nothing(tmp_path: Path) -> None:
    # Processor 0 of Intel's, whose package has a counter too; 1 without the package's; 2 of a virtual machine.
    for name, text in (('cpu0', '3'), ('cpu1', '0')):
        (tmp_path / name / 'thermal_throttle').mkdir(parents=True)
        (tmp_path / name / 'thermal_throttle' / 'core_throttle_count').write_text(f'{text}\n')
    (tmp_path / 'cpu0' / 'thermal_throttle' / 'package_throttle_count').write_text('4\n')
    (tmp_path / 'cpu2').mkdir()
    assert counters.thermal_throttles({0, 1, 2}, tmp_path) == 7
    assert counters.thermal_throttles({1}, tmp_path) == 0
    assert counters.thermal_throttles({2, 9}, tmp_path) is None


def test_a_family_has_grandchildren_and_no_neighbours() -> None:
    known = {pid: Process('x', parent, 0, 0, 0) for pid, parent in ((1, 0), (5, 1), (6, 5), (7, 6), (8, 1))}
    assert counters.family(5, known) == {5, 6, 7}
