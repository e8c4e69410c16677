"""The cost model against hand-computed times, and its fit and intervals against simulated jobs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis import scaling
from analysis.scaling import Exchange, Fit, Network, Point

# 10 Gbit/s and 50 microseconds; 100 MB of gradients.
NETWORK = Network(latency=50e-6, bandwidth=1.25e9)
RING = Exchange(scaling.RING, 100e6)
SERVERS = Exchange(scaling.SERVERS, 100e6, servers=2)


@pytest.mark.parametrize(
    ('exchange', 'workers', 'seconds'),
    [
        (RING, 1, 0.0),
        # Two messages, each of half the gradients.
        (RING, 2, 2 * (50e-6 + 50e6 / 1.25e9)),
        (RING, 4, 6 * (50e-6 + 25e6 / 1.25e9)),
        # Never more than twice the gradients, and the latency of every message.
        (RING, 512, 1022 * 50e-6 + 2 * 511 / 512 * 0.08),
        # Worker's link is the busiest: gradients out, weights in; three round trips.
        (SERVERS, 1, 6 * 50e-6 + 2 * 0.08),
        (SERVERS, 2, 6 * 50e-6 + 2 * 0.08),
        # Then the servers': 4 times what a worker's carries.
        (SERVERS, 8, 6 * 50e-6 + 2 * 4 * 0.08),
    ],
)
def test_the_exchange_takes_what_the_formula_says(exchange: Exchange, workers: int, seconds: float) -> None:
    assert scaling.exchange_seconds(exchange, NETWORK, workers) == pytest.approx(seconds)


def times(exchange: Exchange, compute: float, factor: float, workers: int) -> float:
    """Of a step that hides no more of its exchange than there is computing to hide it behind."""
    cost = scaling.exchange_seconds(exchange, NETWORK, workers)
    return max(compute + factor * cost, cost)


@pytest.mark.parametrize('exchange', [RING, SERVERS])
@pytest.mark.parametrize(('compute', 'factor'), [(1.0, 0.4), (0.3, 2.5), (2.0, 0.0)])
def test_exact_points_give_back_what_they_were_made_of(exchange: Exchange, compute: float, factor: float) -> None:
    points = [Point(n, times(exchange, compute, factor, n), 1e-3) for n in (1, 2, 4, 8)]
    fit = scaling.fit(points, exchange, NETWORK)
    assert fit.fitted
    assert (fit.compute, fit.factor) == pytest.approx((compute, factor), abs=1e-6)
    assert scaling.step_seconds(fit, 64).estimate == pytest.approx(times(exchange, compute, factor, 64))
    assert scaling.throughput(fit, 64, 16).estimate == pytest.approx(64 * 16 / times(exchange, compute, factor, 64))
    assert scaling.efficiency(fit, 64).estimate == pytest.approx(compute / times(exchange, compute, factor, 64))


@pytest.mark.parametrize('exchange', [RING, SERVERS])
def test_a_step_of_many_workers_is_promised_to_be_shorter_than_the_network_allows(exchange: Exchange) -> None:
    # All of the exchange is hidden while it is short, which 0.02 s of computing cannot do for longer than that.
    fit = Fit(exchange, NETWORK, 0.02, 0.0, True, np.array([[0.02, 0.0], [0.03, 0.1], [0.01, 2.0]]))
    for workers in (8, 64, 512):
        least = scaling.exchange_seconds(exchange, NETWORK, workers)
        assert least > 0.02
        seconds = scaling.step_seconds(fit, workers, confidence=1.0)
        assert seconds.estimate == pytest.approx(least)
        assert seconds.low == pytest.approx(least)
        assert seconds.high == pytest.approx(0.01 + 2 * least)
        assert scaling.throughput(fit, workers, 16).estimate == pytest.approx(16 * workers / least)
        assert scaling.efficiency(fit, workers).estimate == pytest.approx(0.02 / least)


def test_what_the_runs_of_others_say_of_one_is_less_than_the_network_allows() -> None:
    # Two and four workers seem to hide all of their exchange, which 64 cannot.
    points = [Point(n, 1.0, 1e-3) for n in (2, 4)]
    foretold = scaling.foretold([*points, Point(64, 9.0, 1e-3)], SERVERS, NETWORK)[-1]
    assert foretold == pytest.approx(scaling.exchange_seconds(SERVERS, NETWORK, 64))
    assert foretold is not None and foretold > 1


def test_it_is_not_said_that_the_servers_stay_as_many_and_have_equal_parts() -> None:
    of_rings = set(scaling.assumptions(RING))
    (two,) = set(scaling.assumptions(SERVERS)) - of_rings
    assert 'parameter servers are 2,' in two and 'each holds as many bytes of the variables' in two
    (one,) = set(scaling.assumptions(dataclasses.replace(SERVERS, servers=1))) - of_rings
    assert 'parameter servers are 1,' in one and 'each' not in one


def test_one_process_alone_tells_what_computing_takes_beside_servers() -> None:
    alone, with_servers = Point(1, 1.0, 1e-3, alone=True), Point(2, 1.0 + 3 * (6 * 50e-6 + 0.16), 1e-3)
    fit = scaling.fit([alone, with_servers], SERVERS, NETWORK)
    assert (fit.compute, fit.factor) == pytest.approx((1.0, 3.0))


def test_points_of_one_number_of_workers_do_not_tell_the_factor_and_it_is_said() -> None:
    fit = scaling.fit([Point(2, 1.08 + 1e-4, 1e-3)] * 3, RING, NETWORK)
    assert not fit.fitted
    assert (fit.compute, fit.factor) == pytest.approx((1.0, 1.0))


def test_neither_computing_nor_exchange_is_ever_below_nothing() -> None:
    fit = scaling.fit([Point(1, 1.0, 0.01), Point(2, 0.9, 0.01), Point(4, 0.8, 0.01)], RING, NETWORK)
    assert fit.factor == 0
    low = scaling.step_seconds(fit, 512).low
    assert low is not None and low > 0
    assert np.all(fit.draws >= 0)


@pytest.mark.parametrize('points', [[], [Point(1, 0.0)], [Point(0, 1.0)]])
def test_points_that_are_none_are_refused(points: list[Point]) -> None:
    with pytest.raises(ValueError, match='points'):
        scaling.fit(points, RING, NETWORK)


def simulated(random: np.random.Generator, exchange: Exchange, error: float, told: float) -> Fit:
    """A job of 1 s computing and a factor of 0.7, measured with 1, 2, 4 and 8 workers with a relative error."""
    exact = {n: times(exchange, 1.0, 0.7, n) for n in (1, 2, 4, 8)}
    points = [
        Point(n, seconds * (1 + error * random.standard_normal()), told * seconds) for n, seconds in exact.items()
    ]
    return scaling.fit(points, exchange, NETWORK, seed=int(random.integers(1 << 31)))


@pytest.mark.parametrize('exchange', [RING, SERVERS])
@pytest.mark.parametrize(
    ('error', 'told', 'least', 'widest'),
    [
        (0.02, 0.02, 0.90, 0.3),
        # Runs that differ by more than each of them could know: the distance from the model raises the errors.
        (0.05, 0.01, 0.75, 0.7),
    ],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(
    exchange: Exchange, error: float, told: float, least: float, widest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, '_DRAWS', 300)
    random = np.random.default_rng(7)
    trials, held = 150, 0
    widths: list[float] = []
    # Where the network alone does not yet tell how long a step takes.
    workers = 64 if exchange is RING else 16
    truth = times(exchange, 1.0, 0.7, workers)
    assert truth > scaling.exchange_seconds(exchange, NETWORK, workers)
    for _ in range(trials):
        found = scaling.step_seconds(simulated(random, exchange, error, told), workers)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert least <= held / trials
    # An interval that holds everything says nothing.
    assert np.mean(widths) < widest * truth


def test_a_better_network_is_worth_what_the_formula_says() -> None:
    points = [Point(n, times(RING, 1.0, 0.5, n), 1e-3) for n in (1, 2, 4)]
    fit = scaling.fit(points, RING, NETWORK)
    faster = dataclasses.replace(fit, network=Network(NETWORK.latency, 10 * NETWORK.bandwidth))
    saved = scaling.step_seconds(fit, 8).estimate - scaling.step_seconds(faster, 8).estimate
    assert saved == pytest.approx(0.5 * 2 * 7 / 8 * 0.08 * 0.9)
