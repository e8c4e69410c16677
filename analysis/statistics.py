"""What the durations of a benchmark's steps say: pure functions of numbers, judged by simulation.

Step durations (seconds) follow each other in time: a slow step is often followed by a slow one, some are far slower,
and the machine may drift. So the usual std/sqrt(n) is too small, and `mean_interval` is what stands in its place:
the effective number of samples of a first-order autoregressive series, from
  Zwiers and von Storch, Taking serial correlation into account in tests of the mean, Journal of Climate 8, 1995,
with the correction of the autocorrelation's bias by Marriott and Pope (Biometrika 41, 1954) and Bartlett's standard
error of it, and batch means (Law, Simulation Modeling and Analysis, 5th ed., 9.5.3) for slower changes.

Compared by simulation before it was chosen: overlapping batch means, cosine-weighted and prewhitened
quadratic-spectral variances (Lazarus et al. 2018; Andrews and Monahan 1992), the initial monotone sequence (Geyer
1992) and the stationary bootstrap (Politis and Romano 1994). At n = 20 and autocorrelation 0.6 these covered 0.86,
0.93, 0.93, 0.86 and 0.70; of the two at 0.93, the first was 1.9 times as wide as Student's interval on independent
samples, the second 21 times as wide on correlated ones (mean_interval: 0.95 with 1.3 and 4.4 times).

Numbers that cannot be had are None and never NaN, so that a record can hold them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Not scipy.stats, which takes a second to import; and not late, which would be within the measurement of a step.
from scipy.special import stdtrit

Samples = Sequence[float] | NDArray[np.float64]

# The largest autocorrelation believed: beyond it a series has hardly a mean.
_LARGEST_CORRELATION = 0.99
# Batch means join in from this many samples, so that a batch has at least five.
_BATCHES, _LEAST_FOR_BATCHES = 10, 50
# How far apart the checks of the stopping rule are.
_CHECK_RATIO = 1.25
# How many times its lower end the upper end of an interval may be: a wider one says nothing but that it is.
_WIDEST = 20.0
# Fewer samples show no trend at a false-alarm rate worth having.
_LEAST_FOR_TREND = 10


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds the true value with probability `confidence`.

    Attributes:
      low, high: both None where the samples are too few for an interval.
    """

    estimate: float
    low: float | None
    high: float | None
    confidence: float

    @property
    def relative_half_width(self) -> float | None:
        """Half the interval's width as a fraction of the estimate; None without an interval or for an estimate of 0."""
        if self.low is None or self.high is None or self.estimate == 0:
            return None
        return (self.high - self.low) / 2 / abs(self.estimate)


@dataclasses.dataclass(frozen=True)
class Trend:
    """Whether a series is steady.

    Attributes:
      relative_change: median of the second half / median of the first half - 1; None with fewer than 10 samples.
      significant: the series rises or falls by more than its own noise explains.
    """

    relative_change: float | None
    significant: bool


def tells(low: float | None, high: float | None) -> bool:
    """Whether an interval of a speed or of a ratio is worth showing: the numbers of a very wide one pass for some."""
    return low is not None and high is not None and 0 < high <= _WIDEST * low


def mean_interval(samples: Samples, confidence: float = 0.95) -> Interval:
    """The mean of an autocorrelated series, and its interval.

    Student's interval for n_e effective samples, where n_e follows from the autocorrelation of neighbours: corrected
    for its bias, half a standard error added since a small series shows too little of it, and never below 0, so that
    negative autocorrelation does not narrow the interval. From 50 samples on, the interval of 10 batch means is taken
    where it is the wider one. O(n).

    Coverage of the 95 % interval, and its mean width over that of Student's interval on the same samples, in 10,000
    simulated series each (drift: 70 % of the variance is white noise, 30 % autocorrelated with 0.95; slow: 5 % of
    steps take 1.5 times as long; lognormal: sigma 0.5, autocorrelation 0.5 of the logarithms):

         n  independent   rho 0.3    rho 0.6    rho 0.9    lognormal    slow       drift
         3   .95 1.0x    .91 1.0x   .82 1.0x   .54 1.0x   .82 1.0x   .88 1.0x   .90 1.0x
         5   .98 1.6x    .94 1.8x   .88 1.9x   .64 2.0x   .88 1.9x   .87 1.6x   .90 1.6x
        10   .98 1.8x    .95 2.7x   .93 3.4x   .81 3.8x   .92 3.2x   .77 1.5x   .83 2.0x
        20   .97 1.3x    .95 2.3x   .95 4.4x   .90 5.9x   .93 3.3x   .71 1.2x   .71 1.6x
        50   .98 1.2x    .97 1.6x   .96 2.9x   .94 9.1x   .94 2.1x   .92 1.2x   .64 1.5x
       200   .97 1.2x    .97 1.6x   .97 2.3x   .96 6.8x   .96 2.0x   .96 1.2x   .81 2.4x
      1000   .97 1.2x    .97 1.6x   .97 2.4x   .97 5.1x   .97 2.0x   .97 1.2x   .93 3.5x

    It falls short where the samples do not show what they come from: strong autocorrelation in few samples, drift
    that is slower than the series is long, and slow steps so rare that most short series have none. It is about the
    time of the measurement: a shared machine that is at another speed minutes later is outside it.

    Args:
      samples: [n], in the order of measurement.
      confidence: of the interval.

    Returns:
      low and high are None for n < 3.

    Raises:
      ValueError: no samples, or one that is not finite.
    """
    x = _series(samples)
    mean = float(x.mean())
    if len(x) < 3:
        return Interval(mean, None, None, confidence)
    if np.ptp(x) == 0:
        return Interval(mean, mean, mean, confidence)
    residuals = x - mean
    effective = max(3.0, _effective_samples(residuals, fitted=1))
    half = _student(effective - 1, confidence) * math.sqrt(np.mean(residuals**2) / (effective - 1))
    if len(x) >= _LEAST_FOR_BATCHES:
        size = len(x) // _BATCHES
        means = x[-size * _BATCHES :].reshape(_BATCHES, size).mean(axis=1)
        half = max(half, _student(_BATCHES - 1, confidence) * float(means.std(ddof=1)) / math.sqrt(_BATCHES))
    return Interval(mean, mean - half, mean + half, confidence)


def throughput_interval(durations: Samples, images_per_step: float, confidence: float = 0.95) -> Interval:
    """Images/sec: images_per_step / mean duration, and the inverse of the mean's interval.

    Args:
      durations: [n], seconds, in the order of measurement.
      images_per_step: of all processes that the step waits for.
      confidence: of the interval.

    Returns:
      low and high are None for n < 3, and where the mean's interval reaches 0, so that no speed is excluded.

    Raises:
      ValueError: no durations, or one that is not finite and above 0.
    """
    mean = mean_interval(_positive(durations), confidence)
    estimate = images_per_step / mean.estimate
    if mean.low is None or mean.high is None or mean.low <= 0:
        return Interval(estimate, None, None, confidence)
    return Interval(estimate, images_per_step / mean.high, images_per_step / mean.low, confidence)


def precise_enough(durations: Samples, relative: float = 0.01, minimum_samples: int = 10) -> bool:
    """Whether to stop measuring: the 95 % interval of the throughput is within +- `relative`.

    To be asked after every step. A rule that stops at the first interval that is narrow enough picks intervals that
    are too narrow: with autocorrelation 0.6 its coverage fell to 0.88. So it looks only at 10, 13, 17, 22,
    28, 35 ... samples (each a quarter more than the last), and wants the interval narrow at two checks in succession:
    at other numbers of samples the answer is False, at once. The earliest stop is thus at 13.

    Coverage of the interval after stopping, the lowest over coefficients of variation from 0.2 % to 5 %, and the
    mean number of steps at 1 % and 2 % (simulated):

        rho 0: .96, 17 and 34 steps    rho 0.3: .93, 24 and 56    rho 0.6: .90, 44 and 111    rho 0.9: .81, 154 and 456

    Args:
      durations: [n], seconds, in the order of measurement.
      relative: half the interval's width as a fraction of the throughput.
      minimum_samples: of the first check; at least 3.
    """
    n, previous, check = len(durations), 0, minimum_samples
    while check < n:
        previous, check = check, math.ceil(check * _CHECK_RATIO)
    if check != n or previous == 0:
        return False
    widths = (throughput_interval(durations[:size], 1).relative_half_width for size in (n, previous))
    return all(width is not None and width <= relative for width in widths)


def is_steady(durations: Samples, tolerance: float = 0.02) -> bool:
    """Whether the start-up is over: the newest three steps are not faster than the two before them.

    To be asked after every warm-up step. Simulated with noise of 1 % to 5 %: a series that is steady from the start
    passes at its 5th or 6th step, one whose first three steps are slow at its 8th or 9th; of an excess that decays
    to 1/e in 4 or 5 steps, 1 % to 6 % of a step is left.

    Args:
      durations: [n], seconds, of the warm-up's steps so far.
      tolerance: by which fraction the means may still differ.
    """
    if len(durations) < 5:
        return False
    x = _positive(durations[-5:])
    return bool(x[:2].mean() <= (1 + tolerance) * x[2:].mean())


def trend(durations: Samples) -> Trend:
    """Whether a measured series drifts or jumps to another level.

    A test of the ranks' correlation with time (Spearman) with the effective number of samples of the residuals about
    the fitted line, at a level of 1 %. Ranks, so that a few slow steps neither hide a trend nor make one. A change
    that comes and goes again is not seen, and of long series a very small change is significant: look at both fields.

    False alarms and power (simulated; rises of 5 % in the course of the series with noise of 2 %):

           n   rho 0   0.3   0.6   0.9   line, rho 0   line, rho 0.6   jump in the middle, rho 0
          10    .007  .016  .046  .120          .18             .23                         .14
          20    .004  .015  .025  .077          .43             .19                         .34
          50    .005  .010  .011  .043          .96             .34                         .94
         200    .007  .011  .012  .017         1.00             .98                        1.00

    Args:
      durations: [n], seconds, in the order of measurement; fewer than 10 are never called unsteady.
    """
    x = _positive(durations)
    n = len(x)
    if n < _LEAST_FOR_TREND:
        return Trend(None, False)
    change = float(np.median(x[(n + 1) // 2 :]) / np.median(x[: n // 2]) - 1)
    if np.ptp(x) == 0:
        return Trend(change, False)
    ranks = np.unique(x, return_inverse=True)[1].astype(np.float64)
    ranks -= ranks.mean()
    time = np.arange(n) - (n - 1) / 2
    residuals = ranks - time * (ranks @ time) / (time @ time)
    unexplained = float((residuals @ residuals) / (ranks @ ranks))
    if unexplained < 1e-12:
        return Trend(change, True)
    freedom = max(4.0, _effective_samples(residuals, fitted=2)) - 2
    statistic = math.sqrt((1 - unexplained) / unexplained * freedom)
    return Trend(change, statistic > _student(freedom, 0.99))


def speed_line(durations: Samples, images_per_step: float) -> tuple[float, float, float]:
    """The numbers of tf_cnn_benchmarks' line `images/sec: MEAN +/- UNCERTAINTY (jitter = JITTER)`.

    As its benchmark_cnn.get_perf_timing computes them: images_per_step / mean duration; the population's standard
    deviation of the steps' speeds / sqrt(n), which is too small for correlated steps and here for comparison only;
    and 1.4826 times the median absolute deviation of the speeds from their median.

    Args:
      durations: [n], seconds.
      images_per_step: of all processes that the step waits for.

    Returns:
      mean, uncertainty, jitter; all in images/sec.

    Raises:
      ValueError: no durations, or one that is not finite and above 0.
    """
    x = _positive(durations)
    speeds = images_per_step / x
    uncertainty = speeds.std() / math.sqrt(len(x))
    jitter = 1.4826 * np.median(np.abs(speeds - np.median(speeds)))
    return float(images_per_step / x.mean()), float(uncertainty), float(jitter)


def quantile(samples: Samples, q: float) -> float:
    """The value that a fraction q of the samples lies below, interpolated linearly between two (numpy's default).

    A tail needs samples: with fewer than 1 / (1 - q) of them (100 for q = 0.99, 20 for 0.95) it lies between the two
    largest and says nothing but how slow the slowest were.

    Args:
      samples: [n], in any order.
      q: from 0 to 1.

    Raises:
      ValueError: no samples, one that is not finite, or q outside [0, 1].
    """
    return float(np.quantile(_series(samples), q))


def geometric_mean(values: Samples) -> float:
    """The n-th root of the product of n values above 0: the mean for ratios.

    Raises:
      ValueError: no values, or one that is not finite and above 0.
    """
    return float(np.exp(np.log(_positive(values)).mean()))


def geometric_mean_interval(values: Samples, confidence: float = 0.95) -> Interval:
    """The geometric mean of independent values above 0, with Student's interval of the logarithms' mean.

    Args:
      values: [n], the speeds of runs in fresh processes, say.
      confidence: of the interval.

    Returns:
      low and high are None for a single value.

    Raises:
      ValueError: no values, or one that is not finite and above 0.
    """
    logs = np.log(_positive(values))
    mean = float(logs.mean())
    if len(logs) < 2:
        return Interval(math.exp(mean), None, None, confidence)
    half = _student(len(logs) - 1, confidence) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), confidence)


def paired_ratio_interval(a: Samples, b: Samples, confidence: float = 0.95) -> Interval:
    """How many times as large a is as b: the geometric mean of a[i] / b[i], with Student's interval on the logarithms.

    For two programs run in turn, where a[i] and b[i] are the speeds of neighbouring runs: what slows both of a pair
    cancels. Pairs count as independent of each other.

    Args:
      a, b: [n], above 0.
      confidence: of the interval.

    Returns:
      low and high are None for a single pair.

    Raises:
      ValueError: not as many a as b, none, or one that is not finite and above 0.
    """
    above, below = _positive(a), _positive(b)
    if len(above) != len(below):
        raise ValueError(f'pairs need as many of both, and these are {len(above)} and {len(below)}')
    return geometric_mean_interval(above / below, confidence)


def _effective_samples(residuals: NDArray[np.float64], fitted: int) -> float:
    """As many independent samples have a mean of the same variance: n / (1 + 2 sum (1 - k/n) rho^k), k from 1 to n - 1.

    Args:
      residuals: [n], not all 0.
      fitted: parameters that were fitted (1: a mean, 2: a line): each takes about 1/n from the autocorrelation seen.
    """
    n = len(residuals)
    rho = _LARGEST_CORRELATION
    if n > 4:
        seen = float(residuals[1:] @ residuals[:-1] / (residuals @ residuals))
        rho = (n * seen + fitted) / (n - 4)
        rho += 0.5 * math.sqrt(max(0.0, 1 - rho**2) / n)
        rho = min(max(rho, 0.0), _LARGEST_CORRELATION)
    return n / (1 + 2 * rho * (n * (1 - rho) - (1 - rho**n)) / (n * (1 - rho) ** 2))


def _student(freedom: float, confidence: float) -> float:
    """Student's t that holds `confidence` between -t and t."""
    return float(stdtrit(freedom, (1 + confidence) / 2))


def _series(samples: Samples) -> NDArray[np.float64]:
    x = np.asarray(samples, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f'statistics need a list of at least one finite number, not {samples!r}')
    return x


def _positive(samples: Samples) -> NDArray[np.float64]:
    x = _series(samples)
    if x.min() <= 0:
        raise ValueError(f'durations, speeds and ratios are above 0, and one of these is {x.min()}')
    return x
