"""What is kept of a run whose processes could not part well, and what is said of one that failed in TensorFlow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import tensorflow.compat.v1 as tf

from bench import flags
from bench.config import BenchmarkConfig
from bench.errors import BenchError
from bench.models import registry
from bench.runners import execution, timing
from bench.runners.essence import essence
from bench.runners.member import Progress
from bench.runners.strategy import Strategy
from bench.runners.unfinished import Unfinished
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


def small() -> BenchmarkConfig:
    """Of one step to warm up and three that are measured."""
    words = ('--model=lenet', '--batch_size=2', '--num_warmup_batches=1', '--num_batches=3')
    config, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    return config.resolved(registry.get('lenet'), None, 1)


def test_a_loss_at_the_goodbye_keeps_what_was_measured() -> None:
    config, network = small(), registry.get('lenet')
    seen = execution.execute(config, network, None, Screen(silent=True), lambda: False, Parting(), Progress(None))
    assert (seen.error, seen.lost) == ('ps 0 does not answer any more.', True)
    assert seen.measurement is not None
    assert len(seen.measurement.step_seconds) == 3


class Looking(Strategy):
    """Another thread looks, between two steps, at what was seen until then."""

    def __init__(self) -> None:
        self.unfinished = Unfinished()
        self.seen: list[timing.Measurement] = []

    def agree(self, wish: str) -> str:
        assert self.unfinished.seen is not None
        self.seen.append(self.unfinished.seen().measurement)
        return wish


def test_a_thread_that_ends_the_process_knows_what_was_seen() -> None:
    looking, config, network = Looking(), small(), registry.get('lenet')
    execution.execute(
        config, network, None, Screen(silent=True), lambda: False, looking, Progress(None), looking.unfinished
    )
    # Before the step of the warm-up, behind it, and behind each measured step but the last, which all know to be that.
    assert [len(seen.warmup_seconds) for seen in looking.seen] == [0, 1, 1, 1]
    assert [len(seen.step_seconds) for seen in looking.seen] == [0, 0, 1, 2]
    assert {seen.end for seen in looking.seen} == {'failed'}
    assert looking.unfinished.seen is not None
    whole = looking.unfinished.seen().measurement
    assert (len(whole.step_seconds), whole.end) == (3, 'num_batches')


def failed(said: str) -> BaseException:
    """The error of an operation of a graph that fails with a text, as the session raises it."""

    def fail() -> None:
        raise RuntimeError(said)

    with tf.Graph().as_default(), tf.Session() as session, pytest.raises(tf.errors.OpError) as error:
        session.run(tf.identity(tf.numpy_function(fail, [], tf.float64), 'answers'), {})
    return error.value


def test_why_an_operation_failed_is_said_instead_of_where_it_was_made() -> None:
    error = failed('the disk is on fire')
    assert 'Detected at node' in str(error), 'what TensorFlow says of it'
    told = execution._explained(error, None, Screen(silent=True))
    assert told.startswith('UnknownError in TensorFlow: RuntimeError: the disk is on fire')
    assert 'Detected at node' not in told
    assert '[[{{node' not in told


BEGIN = 'Graph execution error:\n\n'
MADE = 'Detected at node {0!r} defined at (most recent call last):\n  File "program.py", line 13\nNode: {0!r}\n'
TWO = '2 root error(s) found.\n  (0) UNKNOWN: one{}\n  (1) UNKNOWN: other{}'


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (ValueError('no [[brackets]] here'), 'no [[brackets]] here'),
        (tf.errors.AbortedError(None, None, f'{BEGIN}no operation is named'), 'no operation is named'),
        (
            tf.errors.UnknownError(
                None,
                None,
                BEGIN + MADE.format('a') + MADE.format('b') + TWO.format('\n\t [[{{node a}}]]', '\n\t [[{{node b}}]]'),
            ),
            TWO.format('', ''),
        ),
    ],
    ids=['none_of_tensorflow', 'no_operation', 'two_operations'],
)
def test_its_own_text_is_what_is_left_of_an_error(error: BaseException, said: str) -> None:
    assert essence(error) == said
