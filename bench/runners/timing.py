"""Times a step: warm-up until steady, then steps until there are enough. Knows nothing of what a step computes.

The printed lines are tf_cnn_benchmarks', because people's scripts read them. A step's duration runs from the end of
the step before to its own end, so that all that the harness does between steps is counted too.
"""

from __future__ import annotations

import array
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from analysis import statistics
from bench.options import TimingOptions
from bench.screen import Screen

_Result = TypeVar('_Result')
_Arguments = ParamSpec('_Arguments')

_RULE = '-' * 64
_CHANGE_WORTH_TELLING = 0.01
# A machine's speed wanders for seconds, of which a shorter series shows too little to be called precise.
_LEAST_SECONDS = 10.0
# Why a warm-up or a measurement ends, in the order of their weight: several processes end for the weightiest of theirs.
REASONS = ('', 'warm', 'not_warm', 'num_batches', 'precise', 'max_seconds', 'interrupted')
# Steps without exchange: a tenth of the measurement's time, and so many at the least and at the most, after some more
# that TensorFlow takes to prepare.
_ALONE, _LEAST_ALONE, _MOST_ALONE, _PREPARING = 0.1, 3, 20, 2


class Group:
    """The processes that are measured together, as one of them sees it. The base class is one process by itself.

    Attributes:
      is_synchronous: whether all of them do each step together.
      goes_on: where they do not, whether one that has done as many steps as were asked for goes on until the leader has
        done them: a step of the others may wait for its part.
    """

    is_synchronous = True
    goes_on = False

    @property
    def leads(self) -> bool:
        """Whether this process decides, from its own times, when there is enough of them."""
        return True

    def meet(self) -> None:
        """Returns when all have come here."""

    def agree(self, wish: str) -> str:
        """Tells the others why this process would end, and gives the reason for which all of them end now.

        To be called after each step. A wish may reach the others with the next step only, and then ends it for all.

        Args:
          wish: one of REASONS; '' to go on.
        """
        return wish


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was seen.

    Attributes:
      warmup_seconds: each warm-up step's duration.
      step_seconds: each measured step's duration.
      losses: each measured step's loss; None where it is none, or not finite.
      warmed_up: whether the warm-up ended steady, or None where its length was given.
      end: why the measurement ended: num_batches, precise, max_seconds, interrupted or failed.
      not_finite: how many of the measured steps had a loss that was infinite or NaN.
    """

    warmup_seconds: tuple[float, ...]
    step_seconds: tuple[float, ...]
    losses: tuple[float | None, ...]
    warmed_up: bool | None
    end: str
    not_finite: int = 0


class StepFailedError(Exception):
    """A step raised (its cause); `measurement` is what was seen until then."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__('a step failed')
        self.measurement = measurement


def measure(
    step: Callable[[], float | None],
    options: TimingOptions,
    images_per_step: int,
    screen: Screen,
    stop_requested: Callable[[], bool],
    *,
    has_loss: bool = True,
    begin: Callable[[], None] = lambda: None,
    group: Group | None = None,
    series: Series | None = None,
) -> Measurement:
    """Warms up, measures and prints.

    Args:
      step: does one step and gives its loss.
      images_per_step: of all that takes part in a step.
      stop_requested: asked after each step.
      has_loss: whether a step has one to print.
      begin: called before the first step that is measured.
      group: whose other processes do the same steps; they begin and end together.
      series: of no steps yet, for whoever wants to know what was seen while a step is done.

    Raises:
      StepFailedError: a step raised.
    """
    group, series = group or Group(), series or Series()
    durations = series.durations
    step, meet, agree = _guarded(step, series), _guarded(group.meet, series), _guarded(group.agree, series)
    screen.line('Running warm up')
    warm = _warm_up(step, options, screen, stop_requested, series.warmup, group, agree)
    series.warmed_up = {'warm': True, 'not_warm': False}.get(warm)
    if 'interrupted' in (warm, agree('interrupted' if stop_requested() else '')):
        if group.goes_on:
            meet()  # or else one that waits for this one's part would not hear of it
        return series.measurement('interrupted')
    screen.line('Done warm up')
    screen.line('Step\tImg/sec\ttotal_loss' if has_loss else 'Step\tImg/sec')
    begin()
    meet()
    end = ''
    last = start = time.perf_counter()
    while not end:
        loss = step()
        now = time.perf_counter()
        series.add(now - last, loss)
        last = now
        if len(durations) == 1 or len(durations) % options.display_every == 0:
            screen.line(_step_line(durations, images_per_step, loss))
        screen.progress(f'step {len(durations)}, {images_per_step * len(durations) / (now - start):.2f} images/sec')
        end = _end(durations, now - start, options, stop_requested, group, agree)
    before_meeting = time.perf_counter()
    meet()
    if group.is_synchronous:
        # The last step ends when it has ended everywhere.
        durations[-1] += time.perf_counter() - before_meeting
    screen.line(_RULE)
    screen.line(f'total images/sec: {images_per_step * len(durations) / sum(durations):.2f}')
    screen.line(_RULE)
    return series.measurement(end)


class Series:
    """What a measurement has seen until now."""

    def __init__(self) -> None:
        self.warmup: list[float] = []
        # An array, which numpy reads without copying: what is done between steps must not grow with their number.
        self.durations = array.array('d')
        self.losses: list[float | None] = []
        self.not_finite = 0
        self.warmed_up: bool | None = None

    def add(self, seconds: float, loss: float | None) -> None:
        """A step that was measured."""
        self.durations.append(seconds)
        is_finite = loss is not None and math.isfinite(loss)
        self.losses.append(loss if is_finite else None)
        self.not_finite += loss is not None and not is_finite

    def measurement(self, end: str) -> Measurement:
        """What was seen, and why there was no more."""
        return Measurement(
            tuple(self.warmup), tuple(self.durations), tuple(self.losses), self.warmed_up, end, self.not_finite
        )


def _guarded(function: Callable[_Arguments, _Result], series: Series) -> Callable[_Arguments, _Result]:
    """The function, whose failure tells what was seen until then."""

    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise StepFailedError(series.measurement('failed')) from error

    return call


def _warm_up(
    step: Callable[[], float | None],
    options: TimingOptions,
    screen: Screen,
    stop_requested: Callable[[], bool],
    durations: list[float],
    group: Group,
    agree: Callable[[str], str],
) -> str:
    """Appends the durations of the warm-up's steps and tells why they ended: '' for as many as were asked for."""
    while True:
        enough = options.num_warmup_batches is not None and len(durations) >= options.num_warmup_batches
        if enough and (group.leads or not group.goes_on or not durations):
            return ''
        wish = 'interrupted' if stop_requested() else ''
        if not wish and group.leads and options.num_warmup_batches is None:
            if statistics.is_steady(durations):
                wish = 'warm'
            elif sum(durations) > options.max_seconds:
                wish = 'not_warm'
        end = agree(wish)
        if end:
            return end
        screen.progress(f'warm-up, step {len(durations) + 1}')
        start = time.perf_counter()
        step()
        durations.append(time.perf_counter() - start)


def without_exchange(
    step: Callable[[], float | None],
    step_seconds: Sequence[float],
    group: Group,
    screen: Screen,
    stop_requested: Callable[[], bool],
) -> tuple[float, ...]:
    """Durations of steps that exchange nothing, done by all of the group at the same time, after a measurement.

    What the measured steps took longer is the time in which a step waits for its exchange. That a step computes while
    it exchanges is thus not counted, and needs no trace, which would take time itself.

    Args:
      step: computes all that a measured step does, and exchanges nothing.
      step_seconds: of the measured steps.
    """
    typical = statistics.quantile(step_seconds, 0.5)
    count = min(_MOST_ALONE, max(_LEAST_ALONE, round(_ALONE * sum(step_seconds) / typical)))
    durations: list[float] = []
    group.meet()
    while len(durations) < _PREPARING + count and not stop_requested():
        screen.progress(f'step {len(durations) + 1} of {_PREPARING + count} without exchange')
        start = time.perf_counter()
        step()
        durations.append(time.perf_counter() - start)
    group.meet()
    return tuple(durations[_PREPARING:])


def _end(
    durations: Sequence[float],
    elapsed: float,
    options: TimingOptions,
    stop_requested: Callable[[], bool],
    group: Group,
    agree: Callable[[str], str],
) -> str:
    """Why the measurement ends now, or '' where it goes on.

    Of processes that do not do each step together the leader's steps alone are counted, so that all end at about the
    same time: one that was faster would leave the machine to the others, and these would look faster than they are.
    """
    enough = options.num_batches is not None and len(durations) >= options.num_batches
    if enough and group.is_synchronous:
        return 'num_batches'  # which all know by themselves
    wish = ''
    if stop_requested():
        wish = 'interrupted'
    elif group.leads and enough:
        wish = 'num_batches'
    elif group.leads and options.num_batches is None:
        if elapsed >= _LEAST_SECONDS and statistics.precise_enough(durations):
            wish = 'precise'
        elif elapsed >= options.max_seconds:
            wish = 'max_seconds'
    return agree(wish)


def _step_line(durations: Sequence[float], images_per_step: int, loss: float | None) -> str:
    speed, uncertainty, jitter = statistics.speed_line(durations, images_per_step)
    line = f'{len(durations)}\timages/sec: {speed:.1f} +/- {uncertainty:.1f} (jitter = {jitter:.1f})'
    return line if loss is None else f'{line}\t{loss:.3f}'


def warnings(measurement: Measurement) -> list[dict[str, str]]:
    """What makes the measurement less believable, each with what to do about it."""
    if not measurement.step_seconds:
        return []
    found = []
    if measurement.warmed_up is False:
        found.append(
            {
                'code': 'not_warm',
                'text': f'The step time was still changing after {len(measurement.warmup_seconds)} warm-up steps. '
                'Close other programs, or raise --max_seconds.',
            }
        )
    trend = statistics.trend(measurement.step_seconds)
    # In a long series the slightest change is significant.
    if trend.significant and abs(trend.relative_change or 0.0) >= _CHANGE_WORTH_TELLING:
        found.append(
            {
                'code': 'not_steady',
                'text': f'The step time changed by {100 * (trend.relative_change or 0.0):+.1f} % during the '
                'measurement, which is more than chance explains. Look for other programs, thermal or quota '
                'throttling, and run again.',
            }
        )
    if measurement.not_finite:
        found.append(
            {
                'code': 'loss_not_finite',
                'text': 'The loss became infinite or NaN. In training use a smaller --learning_rate; in inference look '
                'for such values in the checkpoint, or in what the network computes.',
            }
        )
    return found
