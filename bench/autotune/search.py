"""The search within a time budget: halving of single changes, then of their combinations, then fresh pairs.

Knows nothing of processes: how a setting is measured, and what time it is, are given, so that simulation can judge it.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence

from analysis import halving, statistics
from bench.autotune.changes import DEFAULT, Change, combined

# Pairs of the comparison at the end: fewer only where the time is over, more where there is time left.
LEAST_PAIRS, MOST_PAIRS = 5, 9
# What looked like less is not worth a flag.
_WORTH_TRYING = 1.01
# A setting that takes so many times as long as the default to start and run is given up.
_LONGEST = 4.0
# How much more than was seen a run may take, in plans.
_MARGIN = 1.15
# How much of the time to look single changes get; their combinations get the rest.
_FOR_SINGLES = 0.6


@dataclasses.dataclass(frozen=True)
class Sample:
    """A run of a setting.

    Attributes:
      speed: images/sec; None where it could not be run.
      seconds: that it took, its start included.
      warnings: codes of what its record warns of.
    """

    change: Change
    speed: float | None
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass
class Found:
    """What came of a search.

    Attributes:
      samples: all runs, in order.
      not_tried: changes for which there was no time.
      looked: how fast settings looked beside the default while they were looked for, the fastest first.
      best: the setting that was compared with the default, or None where nothing looked faster.
      pairs: speeds of the default and of it, in fresh runs.
      gain: how many times as fast it is, from the pairs; None without any.
      interrupted: the user stopped it.
    """

    samples: list[Sample] = dataclasses.field(default_factory=list)
    not_tried: list[Change] = dataclasses.field(default_factory=list)
    looked: list[halving.Gain[Change]] = dataclasses.field(default_factory=list)
    best: Change | None = None
    pairs: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    gain: statistics.Interval | None = None
    interrupted: bool = False

    @property
    def proven(self) -> bool:
        """Whether it is faster with at least 97.5 % confidence: its 95 % interval lies above 1."""
        return self.gain is not None and self.gain.low is not None and self.gain.low > 1


class Stopped(Exception):  # noqa: N818  (no error: the user's wish)
    """The user stopped the search."""


Measure = Callable[[Change, float | None], Sample]


class Search:
    """A search.

    Args:
      measure: runs a setting, for so many seconds at the most, in a fresh process. It raises Stopped.
      clock: seconds.
      budget: seconds for all of it.
      possible: whether a combination of changes can be run.
      seed: of the order of runs.
    """

    def __init__(
        self, measure: Measure, clock: Callable[[], float], budget: float, possible: Callable[[Change], bool], seed: int
    ) -> None:
        self._measure, self._clock, self._possible = measure, clock, possible
        self._end = self._until = clock() + budget
        self._random = random.Random(seed)
        self._found = Found()

    def run(self, changes: Sequence[Change]) -> Found:
        """Looks for the fastest of the changes and their combinations, and compares it with the default."""
        found = self._found
        try:
            self._look(changes)
            if found.best is not None:
                self._compare(found.best)
        except Stopped:
            found.interrupted = True
        return found

    def _look(self, changes: Sequence[Change]) -> None:
        found = self._found
        first = self._sample(DEFAULT, None)
        if first.speed is None:
            return
        time, run = self._time_to_look(), first.seconds * _MARGIN
        affordable = int(_FOR_SINGLES * time / run) - 1
        if affordable < 2:
            # Nothing can be combined: all of the time is for one change, or none.
            affordable = min(1, int(time / run) - 1)
        self._until = self._clock() + time * (_FOR_SINGLES if affordable > 1 else 1)
        tried, found.not_tried = list(changes[: max(0, affordable)]), list(changes[max(0, affordable) :])
        gains = halving.halve(tried, DEFAULT, self._block)
        found.looked = gains
        promising = {gain.arm: gain.times for gain in gains if gain.times >= _WORTH_TRYING}
        together = combined(promising, self._possible)
        self._until = self._clock() + self._time_to_look()
        if together:
            single = max(promising, key=lambda change: promising[change])
            again = halving.halve([*together, single], DEFAULT, self._block)
            found.looked = [*again, *(gain for gain in gains if gain.arm != single or not again)]
            if again:
                promising = {gain.arm: gain.times for gain in again if gain.times >= _WORTH_TRYING}
        found.best = next((gain.arm for gain in found.looked if gain.arm in promising), None)

    def _compare(self, best: Change) -> None:
        """Fresh pairs. How many is decided before the first: who stops when it looks good finds too much."""
        found = self._found
        pair = self._seconds(DEFAULT) + self._seconds(best)
        wanted = min(MOST_PAIRS, max(LEAST_PAIRS, int((self._end - self._clock()) / (pair * _MARGIN))))
        for _ in range(wanted):
            if self._clock() + pair > self._end and len(found.pairs) > 0:
                break
            order = [DEFAULT, best]
            self._random.shuffle(order)
            speeds = {change: self._sample(change, None).speed for change in order}
            default, other = speeds[DEFAULT], speeds[best]
            if default is None or other is None:
                break
            found.pairs.append((default, other))
        if found.pairs:
            found.gain = statistics.paired_ratio_interval(
                [other for _, other in found.pairs], [default for default, _ in found.pairs]
            )

    def _block(self, changes: Sequence[Change]) -> Mapping[Change, float | None] | None:
        """Runs each of the settings once, in random order; None where there is no time for all."""
        if sum(self._seconds(change) for change in changes) * _MARGIN > self._until - self._clock():
            return None
        order = list(changes)
        self._random.shuffle(order)
        longest = _LONGEST * self._seconds(DEFAULT)
        return {change: self._sample(change, longest).speed for change in order}

    def _time_to_look(self) -> float:
        """Seconds until the comparison at the end has to begin, which gets at most half of the time that is left."""
        left = self._end - self._clock()
        return left - min(left / 2, 2 * LEAST_PAIRS * self._seconds(DEFAULT) * _MARGIN)

    def _seconds(self, change: Change) -> float:
        """How long a run takes: as long as this setting's own, or the default's, so far."""
        mine = [sample.seconds for sample in self._found.samples if sample.change == change]
        mine = mine or [sample.seconds for sample in self._found.samples if sample.change == DEFAULT]
        return sum(mine) / len(mine)

    def _sample(self, change: Change, longest: float | None) -> Sample:
        sample = self._measure(change, longest)
        self._found.samples.append(sample)
        return sample
