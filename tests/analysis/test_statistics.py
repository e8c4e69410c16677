"""The statistics against simulated series of known truth, hand-computed numbers and second implementations."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from analysis import statistics

Rows = Any


def noise(count: int, n: int, rho: float, seed: int) -> Rows:
    """[count, n]: series of variance 1 and mean 0, with autocorrelation rho."""
    shocks = np.random.default_rng(seed).standard_normal((count, n)) * math.sqrt(1 - rho**2)
    shocks[:, 0] /= math.sqrt(1 - rho**2)
    return scipy.signal.lfilter([1], [1, -rho], shocks, axis=1)


def coverage(rows: Rows, truth: float, interval: Callable[[Rows], Any]) -> float:
    """In which part of the series the interval holds the truth."""
    return float(np.mean([found.low <= truth <= found.high for found in map(interval, rows)]))


def student(row: Rows) -> statistics.Interval:
    """The interval for independent samples, from another program."""
    mean, spread = row.mean(), scipy.stats.sem(row)
    low, high = scipy.stats.t.interval(0.95, len(row) - 1, mean, spread)
    return statistics.Interval(mean, low, high, 0.95)


def width(found: statistics.Interval) -> float:
    """Of an interval that must be there."""
    assert found.low is not None and found.high is not None
    return found.high - found.low


# The mean's interval.


@pytest.mark.parametrize(
    ('rho', 'n', 'least'),
    [
        *((0.0, n, 0.93) for n in (3, 5, 10, 20, 50, 200, 1000)),
        *((0.3, n, 0.93) for n in (10, 20, 50, 200)),
        *((0.6, n, 0.93) for n in (20, 50, 100, 200)),
        *((0.9, n, 0.92) for n in (50, 200)),
    ],
)
def test_interval_misses_the_true_mean_too_often(rho: float, n: int, least: float) -> None:
    rows = 1 + 0.03 * noise(2000, n, rho, seed=n)
    assert coverage(rows, 1, statistics.mean_interval) >= least


def test_the_simulation_would_find_an_interval_for_independent_samples_wanting() -> None:
    rows = 1 + 0.03 * noise(1000, 50, 0.6, seed=50)
    assert coverage(rows, 1, student) < 0.75


@pytest.mark.parametrize(('n', 'widest'), [(20, 1.4), (50, 1.25), (1000, 1.25)])
def test_interval_is_needlessly_wide_for_independent_samples(n: int, widest: float) -> None:
    rows = 1 + 0.03 * noise(300, n, 0, seed=n)
    ours, theirs = (
        np.mean([width(found) for found in map(interval, rows)]) for interval in (statistics.mean_interval, student)
    )
    assert ours <= widest * theirs


def test_interval_ignores_slow_drift_under_white_noise() -> None:
    drifting = math.sqrt(0.7) * noise(1000, 1000, 0, seed=1) + math.sqrt(0.3) * noise(1000, 1000, 0.95, seed=2)
    assert coverage(1 + 0.03 * drifting, 1, statistics.mean_interval) >= 0.9


def test_interval_ignores_the_tail_of_lognormal_correlated_steps() -> None:
    rows = np.exp(0.5 * noise(2000, 100, 0.5, seed=3))
    assert coverage(rows, math.exp(0.125), statistics.mean_interval) >= 0.93


def test_interval_differs_from_the_formula_summed_term_by_term() -> None:
    x = [1.0, 1.2, 1.1, 1.4, 1.5, 1.3, 1.6, 1.2, 1.1]
    n, mean = len(x), sum(x) / len(x)
    deviations = [value - mean for value in x]
    squares = sum(d * d for d in deviations)
    seen = sum(deviations[i] * deviations[i + 1] for i in range(n - 1)) / squares
    rho = (n * seen + 1) / (n - 4)
    rho += math.sqrt((1 - rho**2) / n) / 2
    assert 0 < rho < 0.99
    effective = n / (1 + 2 * sum((1 - k / n) * rho**k for k in range(1, n)))
    effective = max(effective, 3)
    half = scipy.stats.t.ppf(0.95, effective - 1) * math.sqrt(squares / n / (effective - 1))
    found = statistics.mean_interval(x, confidence=0.9)
    assert (found.estimate, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert found.confidence == 0.9


def test_three_samples_get_another_interval_than_students() -> None:
    found = statistics.mean_interval([1, 2, 3])
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2 - 2.48414, 2 + 2.48414), abs=1e-5)


def test_batch_means_of_an_uneven_number_of_samples_are_wrong() -> None:
    # Ten batches of ten, with means of 4 and 6, of steps that go up and down by 1.5; the three before are in none.
    means = np.array([4, 4, 6, 6, 4, 6, 6, 4, 4, 6])
    x = [6.5, 3.5, 5.0, *(np.repeat(means, 10) + 1.5 * (-1.0) ** np.arange(100))]
    found = statistics.mean_interval(x)
    assert width(found) == pytest.approx(2 * 2.262157 * math.sqrt(10 / 9) / math.sqrt(10), rel=1e-5)
    assert found.estimate == pytest.approx(5)


@pytest.mark.parametrize('n', [6, 20, 200])
def test_negative_autocorrelation_narrows_the_interval(n: int) -> None:
    x = 1 + 0.1 * (-1.0) ** np.arange(n) + 0.001 * np.arange(n) % 0.003
    assert width(statistics.mean_interval(x)) >= width(student(x)) * 0.999999


@pytest.mark.parametrize('n', [3, 4, 5, 50, 1000])
def test_equal_samples_get_an_interval_with_a_width(n: int) -> None:
    found = statistics.mean_interval([0.1] * n)
    assert found.low == found.estimate == found.high == pytest.approx(0.1)
    assert found.relative_half_width == 0


@pytest.mark.parametrize('n', [1, 2])
def test_too_few_samples_write_an_interval_that_json_cannot_hold(n: int) -> None:
    found = statistics.throughput_interval([0.5, 0.25][:n], 8)
    written = json.dumps([found.estimate, found.low, found.high, found.relative_half_width], allow_nan=False)
    assert json.loads(written) == [pytest.approx(8 / np.mean([0.5, 0.25][:n])), None, None, None]


@pytest.mark.parametrize('samples', [[], [1.0, math.nan, 1.0], [1.0, math.inf], [[1.0, 2.0]]])
def test_samples_without_a_mean_get_one(samples: Any) -> None:
    with pytest.raises(ValueError, match='at least one finite number'):
        statistics.mean_interval(samples)


# The throughput.


def test_throughput_interval_is_not_the_inverse_of_the_means() -> None:
    mean = statistics.mean_interval([2.0, 2.2, 1.9, 2.1])
    found = statistics.throughput_interval([2.0, 2.2, 1.9, 2.1], 16)
    assert mean.low is not None and mean.high is not None
    assert (found.low, found.estimate, found.high) == pytest.approx((16 / mean.high, 16 / 2.05, 16 / mean.low))
    assert found.relative_half_width == pytest.approx((16 / mean.low - 16 / mean.high) / 2 / (16 / 2.05))


def test_durations_that_exclude_no_speed_get_a_negative_or_infinite_one() -> None:
    found = statistics.throughput_interval([0.1, 0.1, 5.0], 16)
    assert (found.low, found.high) == (None, None)


def test_a_duration_of_zero_is_a_speed() -> None:
    with pytest.raises(ValueError, match='above 0'):
        statistics.throughput_interval([1.0, 0.0, 1.0], 16)


# When to stop.


def first_stop(row: Rows) -> int:
    """How many steps are measured; all of them where the rule never stops."""
    checks = [10, 13, 17, 22, 28, 35, 44, 55, 69, 87, 109, 137, 172, 215, 269]
    return next((n for n in checks if n <= len(row) and statistics.precise_enough(row[:n])), len(row))


@pytest.mark.parametrize('variation', [0.005, 0.01, 0.015])
@pytest.mark.parametrize(('rho', 'least'), [(0.0, 0.93), (0.6, 0.89)])
def test_stopping_picks_intervals_that_are_too_narrow(rho: float, least: float, variation: float) -> None:
    rows = 1 + variation * noise(1500, 300, rho, seed=7)
    stopped = [row[: first_stop(row)] for row in rows]
    assert coverage(stopped, 1, statistics.mean_interval) >= least


@pytest.mark.parametrize(('variation', 'most'), [(0.005, 16), (0.01, 20), (0.02, 40)])
def test_stopping_takes_far_more_steps_than_needed(variation: float, most: float) -> None:
    rows = 1 + variation * noise(300, 300, 0, seed=8)
    assert np.mean([first_stop(row) for row in rows]) <= most


def test_measuring_stops_at_other_numbers_than_those_that_the_simulation_is_about() -> None:
    assert [n for n in range(60) if statistics.precise_enough([0.1] * n)] == [13, 17, 22, 28, 35, 44, 55]
    assert [n for n in range(20) if statistics.precise_enough([0.1] * n, minimum_samples=4)] == [5, 7, 9, 12, 15, 19]


def test_one_narrow_interval_stops_the_measurement() -> None:
    # Steps in turn of 1.45 % more and less: +-1.1 % at 10, +-0.9 % at 13 and less at 17.
    row = [1.0145, 0.9855] * 9
    assert [n for n in range(18) if statistics.precise_enough(row[:n])] == [17]
    assert not statistics.precise_enough([1.0] * 10 + [1.5] * 3)


def test_the_wanted_precision_is_ignored() -> None:
    row = 1 + 0.03 * noise(1, 35, 0, seed=9)[0]
    assert statistics.precise_enough(row, relative=0.05)
    assert not statistics.precise_enough(row, relative=0.001)


# The warm-up.


def warm_up(excess: Rows, variation: float, seed: int) -> Rows:
    """Of 500 warm-ups, after how many steps each was called steady."""
    rows = (1 + excess) * (1 + variation * noise(500, len(excess), 0, seed))
    sizes = range(1, len(excess) + 1)
    return np.array([next((n for n in sizes if statistics.is_steady(row[:n])), len(excess) + 1) for row in rows])


@pytest.mark.parametrize(('variation', 'share'), [(0.01, 0.99), (0.03, 0.9), (0.05, 0.8)])
def test_steady_steps_are_warmed_up_for_long(variation: float, share: float) -> None:
    assert np.mean(warm_up(np.zeros(30), variation, seed=10) <= 6) >= share


@pytest.mark.parametrize('variation', [0.002, 0.01, 0.05])
@pytest.mark.parametrize('slow', [[9.0], [9.0, 1.0], [9.0, 4.0, 0.5]])
def test_slow_first_steps_reach_the_measurement_or_hold_it_up(slow: list[float], variation: float) -> None:
    stops = warm_up(np.array(slow + [0.0] * 30), variation, seed=11)
    assert stops.min() > len(slow)
    assert np.median(stops) <= len(slow) + 6


@pytest.mark.parametrize(('variation', 'left'), [(0.01, 0.04), (0.03, 0.06), (0.05, 0.1)])
def test_steps_that_still_fall_are_called_steady(variation: float, left: float) -> None:
    excess = 5.0 * (np.arange(60) == 0) + np.exp(-np.arange(60) / 4)
    stops = warm_up(excess, variation, seed=12)
    assert np.quantile(excess[stops], 0.9) <= left


def test_steps_that_get_slower_are_warmed_up_for_ever() -> None:
    assert statistics.is_steady([1.0, 1.1, 1.2, 1.3, 1.4])


def test_fewer_than_five_steps_are_called_steady() -> None:
    assert [statistics.is_steady([1.0] * n) for n in range(1, 7)] == [False] * 4 + [True] * 2


# Trends.


def alarms(rows: Rows) -> float:
    """Which part of the series is called unsteady."""
    return float(np.mean([statistics.trend(row).significant for row in rows]))


@pytest.mark.parametrize('n', [10, 20, 50, 200])
@pytest.mark.parametrize(('rho', 'most'), [(0.0, 0.02), (0.3, 0.035), (0.6, 0.055)])
def test_steady_series_are_called_unsteady(rho: float, most: float, n: int) -> None:
    assert alarms(1 + 0.02 * noise(2000, n, rho, seed=n)) <= most


def test_a_slow_step_now_and_then_is_called_a_trend() -> None:
    slow = np.random.default_rng(13).random((2000, 50)) < 0.05
    assert alarms(1 + 0.02 * noise(2000, 50, 0, seed=13) + 3 * slow) <= 0.02


def test_equal_durations_and_a_slow_last_one_are_called_a_trend() -> None:
    assert statistics.trend([1.0] * 30) == statistics.Trend(0.0, False)
    assert not statistics.trend([1.0] * 29 + [2.0]).significant


@pytest.mark.parametrize('rise', [np.linspace(0, 0.05, 50), np.repeat([0, 0.05], 25), -np.linspace(0, 0.05, 50)])
def test_drift_is_not_seen_among_slow_steps(rise: Rows) -> None:
    slow = np.random.default_rng(14).random((500, 50)) < 0.05
    assert alarms(1 + 0.02 * noise(500, 50, 0, seed=14) + rise + 0.5 * slow) >= 0.75


def test_the_change_has_the_wrong_size_or_sign() -> None:
    assert statistics.trend([1.0] * 6 + [1.1] * 6).relative_change == pytest.approx(0.1)
    assert statistics.trend([2.0] * 5 + [9.0] + [1.0] * 5).relative_change == pytest.approx(-0.5)
    assert statistics.trend(np.arange(10.0, 21.0)).relative_change == pytest.approx(18 / 12 - 1)


def test_a_rise_beyond_all_doubt_is_not_called_significant() -> None:
    assert statistics.trend(np.linspace(1, 2, 20)).significant
    assert alarms(np.linspace(1, 1.4, 10) + 0.01 * noise(500, 10, 0, seed=17)) >= 0.95


def test_a_smooth_wave_leaves_no_freedom_and_ends_in_an_error() -> None:
    assert not statistics.trend(2 + np.sin(np.linspace(0, 3, 12))).significant


def test_short_series_are_judged() -> None:
    assert statistics.trend(list(range(1, 10))) == statistics.Trend(None, False)


# tf_cnn_benchmarks' numbers.


def test_speed_line_differs_from_tf_cnn_benchmarks() -> None:
    # Speeds 8, 4, 2: population's deviation sqrt(56 / 9), deviations from the median 4, 0, 2.
    mean, uncertainty, jitter = statistics.speed_line([0.5, 1.0, 2.0], 4)
    assert mean == pytest.approx(24 / 7)
    assert uncertainty == pytest.approx(math.sqrt(56) / 3 / math.sqrt(3))
    assert jitter == pytest.approx(2 * 1.4826)


def test_speed_line_of_the_first_step_has_an_uncertainty() -> None:
    assert statistics.speed_line([0.5], 4) == (8.0, 0.0, 0.0)


# Quantiles and ratios.


@pytest.mark.parametrize(('q', 'value'), [(0, 1), (0.5, 2.5), (0.95, 3.85), (0.99, 3.97), (1, 4)])
def test_quantile_is_not_interpolated_between_sorted_samples(q: float, value: float) -> None:
    assert statistics.quantile([4, 1, 3, 2], q) == pytest.approx(value)


def test_quantile_of_one_sample_or_of_none() -> None:
    assert statistics.quantile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match='at least one'):
        statistics.quantile([], 0.5)
    with pytest.raises(ValueError, match=r'\[0, 1\]'):
        statistics.quantile([1.0], 95)


def test_geometric_mean_is_another_mean() -> None:
    assert statistics.geometric_mean([1, 4, 16]) == pytest.approx(4)
    with pytest.raises(ValueError, match='above 0'):
        statistics.geometric_mean([1, 0])


def test_ratio_of_pairs_differs_from_the_hand_computed_one() -> None:
    # Ratios 2 and 1/2: logarithms +-log 2, of standard error log 2; Student's t for one degree of freedom: 12.7062.
    found = statistics.paired_ratio_interval([2, 3], [1, 6])
    high = math.exp(12.706205 * math.log(2))
    assert (found.low, found.estimate, found.high) == pytest.approx((1 / high, 1, high), rel=1e-5)


def test_what_slows_both_of_a_pair_widens_the_interval() -> None:
    machine = np.exp(noise(1, 9, 0, seed=15)[0])
    found = statistics.paired_ratio_interval(1.1 * machine, machine)
    assert (found.low, found.high) == pytest.approx((1.1, 1.1))


def test_ratio_interval_misses_the_true_ratio_too_often() -> None:
    ratios = 1.1 * np.exp(0.05 * noise(2000, 9, 0, seed=16))
    covered = coverage(ratios, 1.1, lambda row: statistics.paired_ratio_interval(row, np.ones(9), 0.9))
    assert covered == pytest.approx(0.9, abs=0.02)


def test_a_single_pair_has_an_interval_or_unequal_ones_a_ratio() -> None:
    found = statistics.paired_ratio_interval([3], [2])
    assert (found.estimate, found.low, found.high) == (pytest.approx(1.5), None, None)
    with pytest.raises(ValueError, match='2 and 1'):
        statistics.paired_ratio_interval([1, 2], [1])


def test_importing_the_statistics_imports_what_takes_seconds() -> None:
    program = 'import sys, analysis.statistics as s; s.mean_interval([1, 2, 3]); print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert not {'tensorflow', 'scipy.stats', 'bench'} & set(done.stdout.split())
