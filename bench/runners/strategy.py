"""How the processes of a job share a step. The base class is one process by itself, which has nothing to share.

bench/runners/step.py and execution.py ask it where they build and run a step; timing.py, which knows of no TensorFlow,
asks it when to begin and to end. There is one subclass for each --variable_update that has several processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from bench.distribution import HOROVOD, INDEPENDENT, PARAMETER_SERVER, REPLICATED, DistributionOptions
from bench.record import Json
from bench.runners import member
from bench.runners.member import Place, Progress
from bench.runners.timing import Group
from bench.runners.unfinished import leave_now
from bench.screen import Screen

Tensor = Any
Pairs = list[tuple[Any, Any]]


class Strategy(Group):
    """One process by itself.

    Attributes:
      rank: of this process among those that compute; their data are different ones.
      size: how many compute.
      batches: of how many workers or copies an update is; the learning rate decays as often per image as with one.
      shares_variables: whether all use the same variables.
    """

    rank = 0
    size = 1
    batches = 1
    shares_variables = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def placement(self) -> contextlib.AbstractContextManager[Any]:
        """Where the variables and operations of a training step are put: entered while its graph is built."""
        return contextlib.nullcontext()

    def inputs(self) -> contextlib.AbstractContextManager[Any]:
        """Entered within `placement` while the input is built."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def clone(self, index: int) -> Iterator[None]:
        """Entered while a clone is built. Clones share variables; the first one's images move batch norm's averages."""
        updates = tf.get_collection_ref(tf.GraphKeys.UPDATE_OPS)
        before = len(updates)
        with tf.variable_scope(tf.get_variable_scope(), reuse=index > 0):
            yield
        if index > 0:
            del updates[before:]

    def trained(self, variables: list[Any]) -> list[Any]:
        """Those to be trained, from those that the options name; none for all."""
        return variables

    def loss(self, loss: Tensor) -> Tensor:
        """What gradients are computed of: this worker's part of the loss of all."""
        return loss

    def gradients(self, pairs: Pairs) -> Pairs:
        """Gradients of all workers' losses, from the pairs of this worker's gradient and variable."""
        return pairs

    def optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """What applies gradients."""
        return optimizer

    def statistics(self, updates: list[Any]) -> list[Any]:
        """The updates of batch norm's moving averages, from those by this worker's images."""
        return updates

    def initializers(self) -> tuple[tf.Operation, ...]:
        """Run after all other initializers; made last in the graph of a training step."""
        return ()

    def session(self, graph: tf.Graph, config: tf.ConfigProto) -> contextlib.AbstractContextManager[tf.Session]:
        """The session that the step is run in."""
        return tf.Session(graph=graph, config=config)

    def initialize(self, session: tf.Session, initializers: Sequence[tf.Operation]) -> None:
        """Gives variables their values, by running these in their order."""
        for initializer in initializers:
            session.run(initializer)

    def call(self, session: tf.Session, operation: tf.Operation, loss: Tensor | None) -> Callable[[], float | None]:
        """The function that does one step and tells its loss, with nothing else fetched."""
        return plain_call(session, operation, loss)

    def exchange(self) -> Json | None:
        """What a step exchanges, for the record: payload_bytes and sent_bytes; None for nothing."""
        return None

    def lost(self, error: BaseException | None) -> str:
        """A sentence where an error says only that another process is gone; '' where it says anything else."""
        return ''

    def gather(self, part: Json) -> list[Json]:
        """The parts of all workers, by rank, where nobody who started them collects these."""
        return [part]


def plain_call(session: tf.Session, operation: tf.Operation, loss: Tensor | None) -> Callable[[], float | None]:
    """The function that runs an operation and gives the loss, with nothing else fetched."""
    if loss is None:
        return session.make_callable(operation)
    call = session.make_callable([operation, loss])
    return lambda: float(call()[1])


def of(
    options: DistributionOptions,
    place: Place | None,
    screen: Screen | None = None,
    progress: Progress | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    give_up: Callable[[str], None] = lambda _lost: leave_now(),
    terms: Json | None = None,
) -> Strategy:
    """The strategy of a process that computes.

    Args:
      options: resolved.
      place: of the process among several; None where it is the only one.
      screen: on which it tells for whom it waits.
      progress: told when it waits for others who still do steps.
      stop_requested: asked while it waits for others to begin.
      give_up: ends the process, in another thread, where it waits for ever for one that is gone; told who that is.
      terms: what all that compute must have alike, to be compared before the first step; None where they do.

    Raises:
      BenchError: this process and the others cannot meet.
      UsageError: they have different flags.
    """
    progress = progress or Progress(None)
    if options.kind == HOROVOD:
        from bench.runners.horovod import Horovod

        return Horovod(options, place, terms)
    if options.kind == PARAMETER_SERVER:
        from bench.runners.parameter_server import ParameterServers

        return ParameterServers(options, place, screen or Screen(), progress, stop_requested, give_up, terms)
    if options.kind == REPLICATED:
        from bench.runners.replicated import Replicated

        return Replicated(options.replicas)
    if options.kind == INDEPENDENT and place is not None:
        return Independent(place, progress)
    return Strategy()


class Independent(Strategy):
    """One of several processes that share nothing but the time in which they are measured.

    Each ends with the step that it does when the first one has enough, so that all are measured under the same load.
    """

    is_synchronous = False

    def __init__(self, place: Place, progress: Progress) -> None:
        assert place.folder is not None, 'only this program starts independent workers'
        assert place.rank is not None, 'a worker computes'
        self.rank, self.size = place.rank, place.size
        self._folder = place.folder
        self._progress = progress
        self._met = 0

    @contextlib.contextmanager
    def session(self, graph: tf.Graph, config: tf.ConfigProto) -> Iterator[tf.Session]:
        try:
            with tf.Session(graph=graph, config=config) as session:
                yield session
        finally:
            # One that ends early, interrupted or failed, keeps nobody waiting.
            member.leave(self._folder, self.rank)

    def meet(self) -> None:
        self._progress.rest()
        member.meet(self._folder, self._met, self.rank, self.size)
        self._met += 1

    def agree(self, wish: str) -> str:
        path = self._folder / f'end-{self._met}'
        if self.leads and wish:
            member.put(path, wish)
        return wish or (path.read_text() if path.exists() else '')
