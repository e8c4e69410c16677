"""Runs a benchmark's step in TensorFlow: session, measurement, profile, the machine's rates; and what went wrong.

Imports TensorFlow; local.py, which imports this late, does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import tensorflow.compat.v1 as tf

from bench.config import BenchmarkConfig
from bench.data import pipeline, trouble
from bench.data.datasets import Dataset
from bench.errors import BenchError, NotMetError, StoppedError, UsageError
from bench.machine import memory, noise, rates, remarks
from bench.models.registry import Network
from bench.record import Json
from bench.runners import session as sessions
from bench.runners import step as steps
from bench.runners import timing, trace
from bench.runners.essence import essence
from bench.runners.member import Progress
from bench.runners.strategy import Strategy, plain_call
from bench.runners.unfinished import Unfinished
from bench.screen import Screen
from bench.training import checkpoint_files

# Kept for the summary and records: TensorFlow's own texts run to pages.
_LONGEST_ERROR = 300
# What reading raises; anything else has another cause.
_CAUSED_BY_DATA = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    UnicodeDecodeError,
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What came of a run.

    Attributes:
      measurement: None where it failed before any step.
      multiply_adds: of one image's forward pass.
      peak_memory_bytes: of the process, before anything but the steps was run.
      error: why the run failed, as sentences, or None.
      noise: what disturbed the measured steps; None where there were none.
      machine_rates: what this machine does at the most, by precision; none where nothing was measured to compare with.
      traced: of the steps that were run for the profile.
      alone_seconds: durations of steps without the exchange with other workers.
      lost: the run failed because another worker was gone.
    """

    measurement: timing.Measurement | None
    multiply_adds: int
    peak_memory_bytes: int
    error: str | None
    noise: Json | None = None
    machine_rates: Mapping[str, rates.Rates] = dataclasses.field(default_factory=dict)
    traced: trace.Trace | None = None
    alone_seconds: tuple[float, ...] = ()
    lost: bool = False


def begin(config: BenchmarkConfig) -> None:
    """Makes TensorFlow ready for the (resolved) run; to be called before anything computes: it decides the threads."""
    # The input pipeline compiles too.
    compiling = config.step.xla or config.data.data_dir is not None
    session_config = _session_config(config, config.network.precision, xla=config.step.xla)
    remarks.silence(session_config, compiling=compiling)


def execute(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    screen: Screen,
    stop_requested: Callable[[], bool],
    strategy: Strategy,
    progress: Progress,
    unfinished: Unfinished | None = None,
) -> Seen:
    """Does the (resolved) run.

    Args:
      strategy: how several processes share the steps.
      progress: told of each step that is done.
      unfinished: is given what is seen, step by step, and what an archive was unpacked to.

    Raises:
      UsageError: what was asked for cannot be, as the network's variables or the checkpoint show.
      StoppedError: the user wished an end while other processes were waited for.
      NotMetError: others did not come.
    """
    session_config = _session_config(config, config.network.precision, xla=config.step.xla)
    watch = noise.Watch(progress.root)
    seen: Seen | None = None
    told = unfinished or Unfinished()
    try:
        screen.progress(f'building {network.name}')
        with contextlib.ExitStack() as files:
            told.clean = files.close
            path = config.checkpoint.checkpoint_path
            checkpoint = files.enter_context(checkpoint_files.opened(path)) if path is not None else None
            step = steps.benchmark_step(config, network, dataset, session_config, checkpoint, strategy)
            with strategy.session(step.graph, session_config) as session:
                call = progress.counting(steps.prepare(step, session, strategy))
                # What an archive was unpacked to is not needed any more, and shall not outlive a killed run.
                files.close()
                seen = _measured(config, step, call, screen, stop_requested, strategy, watch, told)
                progress.rest()
                if config.profile.profile:
                    seen = _profiled(seen, session, step, screen, stop_requested)
                if (strategy.size > 1 or strategy.shares_variables) and not _is_interrupted(seen):
                    alone = _alone(config, network, dataset, session_config, session, step, strategy)
                    seen = _without_exchange(seen, alone, screen, stop_requested, strategy)
    except timing.StepFailedError as error:
        watch.stop()
        return dataclasses.replace(
            _failed(error.__cause__, dataset, screen, strategy), measurement=error.measurement, noise=watch.noise()
        )
    except (UsageError, StoppedError, NotMetError):
        raise
    except (BenchError, MemoryError, ValueError, OverflowError, *pipeline.ERRORS) as error:
        return _kept(seen, _failed(error, dataset, screen, strategy))
    assert seen is not None, 'there were steps'
    has_steps = seen.measurement is not None and seen.measurement.step_seconds and not _is_interrupted(seen)
    if step.multiply_adds and has_steps and not seen.error and not stop_requested():
        return dataclasses.replace(seen, machine_rates=_machine_rates(config, seen.traced, screen))
    return seen


def _measured(
    config: BenchmarkConfig,
    step: steps.Step,
    call: Callable[[], float | None],
    screen: Screen,
    stop_requested: Callable[[], bool],
    strategy: Strategy,
    watch: noise.Watch,
    unfinished: Unfinished,
) -> Seen:
    """What came of the steps; `unfinished` is told of what was seen until then, and of this."""
    series = timing.Series()

    def told(measurement: timing.Measurement) -> Seen:
        watch.stop()
        return Seen(measurement, step.multiply_adds, memory.peak_bytes(), None, watch.noise())

    unfinished.seen = lambda: told(series.measurement('failed'))
    measurement = timing.measure(
        call,
        config.timing,
        config.images_per_step * (strategy.size if strategy.is_synchronous else 1),
        screen,
        stop_requested,
        has_loss=step.loss is not None,
        begin=watch.start,
        group=strategy,
        series=series,
    )
    seen = told(measurement)
    unfinished.seen = lambda: seen
    return seen


def _is_interrupted(seen: Seen) -> bool:
    """Whether the user ended the steps, of this process or of another one."""
    return seen.measurement is not None and seen.measurement.end == 'interrupted'


def _failed(error: BaseException | None, dataset: Dataset | None, screen: Screen, strategy: Strategy) -> Seen:
    """What came of a run that failed."""
    lost = strategy.lost(error)
    return Seen(None, 0, memory.peak_bytes(), lost or _explained(error, dataset, screen), lost=bool(lost))


def _kept(seen: Seen | None, failed: Seen) -> Seen:
    """With what was measured, where that was over, and this process and the others could not part well."""
    if seen is None or seen.error:
        return seen or failed
    return dataclasses.replace(seen, error=failed.error, lost=failed.lost)


@contextlib.contextmanager
def _alone(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    session_config: tf.ConfigProto,
    session: tf.Session,
    step: steps.Step,
    strategy: Strategy,
) -> Iterator[Callable[[], float | None] | None]:
    """The function that does a step which exchanges nothing; None where there is none.

    Where the variables are on servers, it is the step of a process by itself, with variables of its own.
    """
    if step.alone is not None:
        yield plain_call(session, step.alone, step.loss)
    elif strategy.shares_variables:
        own = steps.benchmark_step(config, network, dataset, session_config)
        with tf.Session(graph=own.graph, config=session_config) as alone:
            yield steps.prepare(own, alone)
    else:
        yield None


def _without_exchange(
    seen: Seen,
    step: contextlib.AbstractContextManager[Callable[[], float | None] | None],
    screen: Screen,
    stop_requested: Callable[[], bool],
    strategy: Strategy,
) -> Seen:
    """With durations of steps that exchange nothing, if there are such, after which the weights of workers differ."""
    assert seen.measurement is not None, 'there were steps'
    try:
        with step as call:
            if call is None:
                return seen
            alone = timing.without_exchange(call, seen.measurement.step_seconds, strategy, screen, stop_requested)
    except (BenchError, MemoryError, *pipeline.ERRORS) as error:
        failed = _failed(error, None, screen, strategy)
        return dataclasses.replace(seen, error=failed.error, lost=failed.lost)
    return dataclasses.replace(seen, alone_seconds=alone)


def _profiled(
    seen: Seen, session: tf.Session, step: steps.Step, screen: Screen, stop_requested: Callable[[], bool]
) -> Seen:
    """With the trace of some steps more, or with what kept them from being traced."""
    screen.progress('tracing steps')
    try:
        return dataclasses.replace(seen, traced=trace.trace(session, [step.operation, step.loss], stop_requested))
    except (MemoryError, *pipeline.ERRORS) as error:
        return dataclasses.replace(seen, error=f'The profile could not be made. {_explained(error, None, screen)}')


def _machine_rates(config: BenchmarkConfig, traced: trace.Trace | None, screen: Screen) -> dict[str, rates.Rates]:
    """In the run's precision; for a profile also in those that its operations compute in."""
    screen.progress('measuring what this machine does at the most')
    # Some of every network are in float32; and a user's own may compute in bfloat16 unasked.
    operations = traced.operations if traced else ()
    precisions = dict.fromkeys([config.network.precision, *(each.precision for each in operations)])
    # Without XLA, so that runs with and without it are compared with the same.
    plain = _session_config(config, 'fp32', xla=False)
    return {precision: rates.measure(plain, precision) for precision in precisions}


def _session_config(config: BenchmarkConfig, precision: str, *, xla: bool) -> tf.ConfigProto:
    return sessions.config(
        intra_threads=config.threads.num_intra_threads or 0,
        inter_threads=config.threads.num_inter_threads or 0,
        precision=precision,
        xla=xla,
        frozen=config.step.forward_only,
    )


def _explained(error: BaseException | None, dataset: Dataset | None, screen: Screen) -> str:
    """A failure, for people."""
    if isinstance(error, BenchError):
        return str(error)
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return 'There is not enough memory for this run. Use a smaller --batch_size, --image_size or --num_classes.'
    if dataset is not None and isinstance(error, _CAUSED_BY_DATA):
        return str(trouble.explained(error, dataset, screen))
    text = essence(error) if error is not None else ''
    return f'{type(error).__name__} in TensorFlow: {text[:_LONGEST_ERROR]}'
