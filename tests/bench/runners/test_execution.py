"""What is kept of a run whose processes could not part well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from bench import flags
from bench.config import BenchmarkConfig
from bench.errors import BenchError
from bench.models import registry
from bench.runners import execution
from bench.runners.member import Progress
from bench.runners.strategy import Strategy
from bench.screen import Screen


class Parting(Strategy):
    """Another process is gone when this one says goodbye."""

    @contextlib.contextmanager
    def session(self, graph: tf.Graph, config: tf.ConfigProto) -> Iterator[tf.Session]:
        with tf.Session(graph=graph, config=config) as session:
            yield session
        raise BenchError('ps 0 does not answer any more.')

    def lost(self, error: BaseException | None) -> str:
        return str(error)


def test_a_loss_at_the_goodbye_loses_what_was_measured() -> None:
    words = ('--model=lenet', '--batch_size=2', '--num_warmup_batches=1', '--num_batches=3')
    config, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    network = registry.get('lenet')
    config = config.resolved(network, None, 1)
    seen = execution.execute(config, network, None, Screen(silent=True), lambda: False, Parting(), Progress(None))
    assert (seen.error, seen.lost) == ('ps 0 does not answer any more.', True)
    assert seen.measurement is not None
    assert len(seen.measurement.step_seconds) == 3
