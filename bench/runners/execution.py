"""Runs a benchmark's step in TensorFlow: session, measurement, the machine's matrix-product rate; and what went wrong.

Imports TensorFlow; local.py, which imports this late, does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow.compat.v1 as tf

from bench.config import BenchmarkConfig
from bench.data import pipeline
from bench.data.datasets import Dataset
from bench.errors import BenchError
from bench.machine import matrix_rate
from bench.models.registry import Network
from bench.runners import session as sessions
from bench.runners import step as steps
from bench.runners import timing
from bench.screen import Screen

# Kept for the summary and records: TensorFlow's own texts run to pages.
_LONGEST_ERROR = 300


@dataclasses.dataclass(frozen=True)
class Seen:
    """What came of a run.

    Attributes:
      measurement: None where it failed before any step.
      multiply_adds: of one image's forward pass.
      matrix_rate: operations per second; 0 where nothing was measured to compare with it.
      error: why the run failed, as sentences, or None.
    """

    measurement: timing.Measurement | None
    multiply_adds: int
    matrix_rate: float
    error: str | None


def execute(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    screen: Screen,
    stop_requested: Callable[[], bool],
) -> Seen:
    """Does the (resolved) run."""
    tf.get_logger().setLevel('ERROR')
    session_config = sessions.config(
        intra_threads=config.threads.num_intra_threads or 0,
        inter_threads=config.threads.num_inter_threads or 0,
        precision=config.network.precision,
        xla=config.step.xla,
    )
    try:
        screen.progress(f'building {network.name}')
        step = steps.benchmark_step(config, network, dataset, session_config)
        with tf.Session(graph=step.graph, config=session_config) as session:
            call = steps.prepare(step, session)
            measurement = timing.measure(call, config.timing, config.network.batch_size or 0, screen, stop_requested)
        has_rate = bool(step.multiply_adds and measurement.step_seconds)
        screen.progress("measuring this machine's matrix product")
        rate = matrix_rate.measure(session_config, config.network.precision) if has_rate else 0.0
    except BenchError as error:
        return Seen(None, 0, 0.0, str(error))
    except (tf.errors.OpError, *pipeline.ERRORS) as error:
        return Seen(None, 0, 0.0, _explained(error, dataset))
    return Seen(measurement, step.multiply_adds, rate, None)


def _explained(error: Exception, dataset: Dataset | None) -> str:
    """A failure of TensorFlow, for people."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return 'There is not enough memory for this run. Use a smaller --batch_size or --image_size.'
    if dataset is not None:
        return str(pipeline.trouble(error, dataset))
    return f'TensorFlow failed: {str(error)[:_LONGEST_ERROR]}'
