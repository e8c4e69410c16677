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

from analysis import statistics
from bench.options import TimingOptions
from bench.screen import Screen

_RULE = '-' * 64
_CHANGE_WORTH_TELLING = 0.01


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was seen.

    Attributes:
      warmup_seconds: each warm-up step's duration.
      step_seconds: each measured step's duration.
      losses: each measured step's loss; None where it is none, or not finite.
      warmed_up: whether the warm-up ended steady, or None where its length was given.
      end: why the measurement ended: num_batches, precise, max_seconds, interrupted or failed.
    """

    warmup_seconds: tuple[float, ...]
    step_seconds: tuple[float, ...]
    losses: tuple[float | None, ...]
    warmed_up: bool | None
    end: str


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
) -> Measurement:
    """Warms up, measures and prints.

    Args:
      step: does one step and gives its loss.
      images_per_step: of all that takes part in a step.
      stop_requested: asked after each step.
      has_loss: whether a step has one to print.
      begin: called before the first step that is measured.

    Raises:
      StepFailedError: a step raised.
    """
    screen.line('Running warm up')
    warmup: list[float] = []
    try:
        warmed_up = _warm_up(step, options, screen, stop_requested, warmup)
    except Exception as error:
        raise StepFailedError(Measurement(tuple(warmup), (), (), None, 'failed')) from error
    if stop_requested():
        return Measurement(tuple(warmup), (), (), warmed_up, 'interrupted')
    screen.line('Done warm up')
    screen.line('Step\tImg/sec\ttotal_loss' if has_loss else 'Step\tImg/sec')
    # An array, which numpy reads without copying: what is done between steps must not grow with their number.
    durations = array.array('d')
    losses: list[float | None] = []
    end = ''
    begin()
    last = start = time.perf_counter()
    while not end:
        try:
            loss = step()
        except Exception as error:
            seen = Measurement(tuple(warmup), tuple(durations), tuple(losses), warmed_up, 'failed')
            raise StepFailedError(seen) from error
        now = time.perf_counter()
        durations.append(now - last)
        last = now
        losses.append(loss if loss is not None and math.isfinite(loss) else None)
        if len(durations) == 1 or len(durations) % options.display_every == 0:
            screen.line(_step_line(durations, images_per_step, loss))
        screen.progress(f'step {len(durations)}, {images_per_step * len(durations) / (now - start):.2f} images/sec')
        end = 'interrupted' if stop_requested() else _reason_to_end(durations, now - start, options)
    screen.line(_RULE)
    screen.line(f'total images/sec: {images_per_step * len(durations) / (last - start):.2f}')
    screen.line(_RULE)
    return Measurement(tuple(warmup), tuple(durations), tuple(losses), warmed_up, end)


def _warm_up(
    step: Callable[[], float | None],
    options: TimingOptions,
    screen: Screen,
    stop_requested: Callable[[], bool],
    durations: list[float],
) -> bool | None:
    """Appends the durations of the warm-up's steps and tells whether they ended steady."""
    while True:
        if options.num_warmup_batches is not None and len(durations) >= options.num_warmup_batches:
            return None
        if options.num_warmup_batches is None:
            if statistics.is_steady(durations):
                return True
            if sum(durations) > options.max_seconds:
                return False
        if stop_requested():
            return None
        screen.progress(f'warm-up, step {len(durations) + 1}')
        start = time.perf_counter()
        step()
        durations.append(time.perf_counter() - start)


def _reason_to_end(durations: Sequence[float], elapsed: float, options: TimingOptions) -> str:
    """Why no further step is needed, or '' where one is."""
    if options.num_batches is not None:
        return 'num_batches' if len(durations) >= options.num_batches else ''
    if statistics.precise_enough(durations):
        return 'precise'
    return 'max_seconds' if elapsed >= options.max_seconds else ''


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
    if any(loss is None for loss in measurement.losses) and not all(loss is None for loss in measurement.losses):
        found.append(
            {'code': 'loss_not_finite', 'text': 'The loss became infinite or NaN. Use a smaller --learning_rate.'}
        )
    return found
