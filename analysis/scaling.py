"""What more workers would reach: a cost model of a step that exchanges gradients, fitted to measured steps.

t(n) = compute + factor * exchange(n), and no less than exchange(n), which is what the network needs at least, from its
latency and its bandwidth: for a ring all-reduce as in Thakur, Rabenseifner and Gropp (Optimization of collective
communication operations in MPICH, 2005) and Patarasuk and Yuan (Bandwidth optimal all-reduce algorithms, 2009); for
parameter servers what goes through the busiest link. `factor` is what the measured points say of the rest: below 1
where the exchange hides behind the computing, above 1 where processors copy and add for it. With many workers there is
more to exchange than computing to hide it behind: then the network alone tells how long a step takes.

Pure functions of numbers; the intervals are judged by simulation in the tests.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import Interval

RING, SERVERS = 'ring', 'servers'
# Round trips of a step with servers, whatever the number of tensors, as they travel together: for weights, for
# gradients and for the token that ends the step.
_ROUND_TRIPS = 3
_DRAWS = 2000
# Two runs of the same work differ by this much, whatever the interval within each says.
_LEAST_RELATIVE_ERROR = 0.01

_ASSUMPTIONS = (
    'every worker has as many cores and the same batch as those measured, whatever the number of workers',
    'every machine has a link of the measured bandwidth in each direction, and the network between them is no narrower',
    'workers and servers are on machines of their own',
    'no worker is slower than those measured: a step waits for the slowest, which of 512 is slower than of 2',
    'the exchange hides behind the computing, or costs processors, as much as it did in the measured runs',
)


@dataclasses.dataclass(frozen=True)
class Network:
    """Between two machines: seconds one way for a small message, and bytes per second of a long one."""

    latency: float
    bandwidth: float


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What is exchanged in a step.

    Attributes:
      kind: 'ring' (all-reduce) or 'servers'.
      payload_bytes: of one worker's gradients; the weights that come back from servers are as many.
      servers: how many there are.
    """

    kind: str
    payload_bytes: float
    servers: int = 0


@dataclasses.dataclass(frozen=True)
class Point:
    """A measured run.

    Attributes:
      workers: their number.
      seconds: the mean of a step.
      error: that mean's standard error; None where it is not known.
      alone: one process that exchanged nothing.
    """

    workers: int
    seconds: float
    error: float | None = None
    alone: bool = False


@dataclasses.dataclass(frozen=True)
class Fit:
    """What the points say.

    Attributes:
      compute: seconds of a step without exchange.
      factor: of the exchange.
      fitted: False where the exchange is the same at all points: factor is then 1 by assumption.
      draws: [n, 2], (compute, factor) that would fit as well, for intervals.
    """

    exchange: Exchange
    network: Network
    compute: float
    factor: float
    fitted: bool
    draws: NDArray[np.float64]


def assumptions(exchange: Exchange) -> tuple[str, ...]:
    """What a projection assumes."""
    if exchange.kind == RING:
        return _ASSUMPTIONS
    servers = f'parameter servers are {exchange.servers}, whatever the number of workers'
    return (
        *_ASSUMPTIONS,
        servers + (', and each holds as many bytes of the variables' if exchange.servers > 1 else ''),
    )


def exchange_seconds(exchange: Exchange, network: Network, workers: int) -> float:
    """The least time that the network needs for the exchange of one step.

    A ring passes 2 (n - 1) messages of 1/n of the gradients one after the other. Servers, among which the variables
    are spread evenly, send weights to and get gradients from all workers, one after the other, each in its direction.
    """
    if exchange.kind == RING:
        passes = 2 * (workers - 1)
        return passes * (network.latency + exchange.payload_bytes / workers / network.bandwidth)
    busiest = max(1.0, workers / exchange.servers) * exchange.payload_bytes
    return 2 * _ROUND_TRIPS * network.latency + 2 * busiest / network.bandwidth


def fit(points: Sequence[Point], exchange: Exchange, network: Network, seed: int = 0) -> Fit:
    """Least squares with neither compute nor factor below 0, weighted by the points' errors.

    For intervals the fit is repeated on points that are drawn about the fitted ones with their errors, which are
    raised where the points lie further from the model than they explain (the Birge ratio).

    Raises:
      ValueError: there is no point, or a number of one is not above 0.
    """
    if not points or any(point.seconds <= 0 or point.workers < 1 for point in points):
        raise ValueError('a fit needs points with workers and seconds above 0')
    seconds, errors, costs = _numbers(points, exchange, network)
    fitted = bool(np.ptp(costs) > 0)
    compute, factor = _solve(seconds, errors, costs, fitted=fitted)
    model = compute + factor * costs
    freedom = len(points) - (2 if fitted else 1)
    if freedom > 0:
        errors = errors * math.sqrt(max(1.0, float((((seconds - model) / errors) ** 2).sum()) / freedom))
    random = np.random.default_rng(seed)
    drawn = model + errors * random.standard_normal((_DRAWS, len(points)))
    draws = np.array([_solve(row, errors, costs, fitted=fitted) for row in drawn])
    return Fit(exchange, network, compute, factor, fitted, draws)


def foretold(points: Sequence[Point], exchange: Exchange, network: Network) -> list[float | None]:
    """For each point the seconds that a fit to the points of all other numbers of workers says: does the model hold?

    None where there are no others, or where they exchanged nothing and thus say nothing of an exchange.
    """
    found: list[float | None] = []
    for point in points:
        others = [each for each in points if (each.workers, each.alone) != (point.workers, point.alone)]
        seconds, errors, costs = _numbers(others, exchange, network)
        own = _cost(point, exchange, network)
        if not others or (own > 0 and not costs.any()):
            found.append(None)
            continue
        compute, factor = _solve(seconds, errors, costs, fitted=bool(np.ptp(costs) > 0))
        found.append(float(_step(compute, factor, own)))
    return found


def _cost(point: Point, exchange: Exchange, network: Network) -> float:
    return 0.0 if point.alone else exchange_seconds(exchange, network, point.workers)


def _numbers(
    points: Sequence[Point], exchange: Exchange, network: Network
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of each point the seconds, their error, and what the exchange costs."""
    seconds = np.array([point.seconds for point in points])
    errors = np.array([max(point.error or 0.0, _LEAST_RELATIVE_ERROR * point.seconds) for point in points])
    return seconds, errors, np.array([_cost(point, exchange, network) for point in points])


def _step(compute: Any, factor: Any, cost: float) -> Any:
    """Seconds of a step, of numbers or of arrays of them."""
    return np.maximum(compute + factor * cost, cost)


def step_seconds(fit: Fit, workers: int, confidence: float = 0.95) -> Interval:
    """Of a step with so many workers."""
    cost = exchange_seconds(fit.exchange, fit.network, workers)
    compute, factor = fit.draws.T
    return _interval(float(_step(fit.compute, fit.factor, cost)), _step(compute, factor, cost), confidence)


def throughput(fit: Fit, workers: int, images_per_worker: float, confidence: float = 0.95) -> Interval:
    """Images/sec of all workers together."""
    seconds = step_seconds(fit, workers, confidence)
    images = workers * images_per_worker
    low, high = seconds.low or 0.0, seconds.high or math.inf
    return Interval(images / seconds.estimate, images / high, images / low if low > 0 else None, confidence)


def efficiency(fit: Fit, workers: int, confidence: float = 0.95) -> Interval:
    """The part of a step in which workers compute for themselves; 1 where the rate grows with the workers."""
    cost = exchange_seconds(fit.exchange, fit.network, workers)
    compute, factor = fit.draws.T
    parts = np.divide(compute, _step(compute, factor, cost), out=np.zeros_like(compute), where=compute > 0)
    return _interval(fit.compute / float(_step(fit.compute, fit.factor, cost)), parts, confidence)


def _solve(
    seconds: NDArray[np.float64], errors: NDArray[np.float64], costs: NDArray[np.float64], *, fitted: bool
) -> tuple[float, float]:
    from scipy.optimize import nnls

    if not fitted:
        weights = errors**-2
        return max(0.0, float(((seconds - costs) * weights).sum() / weights.sum())), 1.0
    (compute, factor), _ = nnls(np.stack([1 / errors, costs / errors], axis=1), seconds / errors)
    return float(compute), float(factor)


def _interval(estimate: float, draws: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), confidence)
