"""Parameter servers: variables on servers, the graph of a step in each worker (between-graph replication).

Imports TensorFlow, whose own parts are used: tf.train.Server, replica_device_setter, SyncReplicasOptimizer (Chen,
Monga, Bengio and Jozefowicz, Revisiting distributed synchronous SGD, arXiv:1604.00981; bench/runners/updates.py). What
is of this program:

- A worker fetches each variable once a step, however many operations read it, and sends one gradient for it.
- Processes wait for each other with a time limit, notice when one is gone, and end by themselves, servers too.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from bench.distribution import DistributionOptions
from bench.errors import BenchError, UsageError
from bench.machine import quiet
from bench.record import Json
from bench.runners import agreement, peers, placement, server
from bench.runners.cluster import SERVER, WORKER
from bench.runners.mailbox import Mailbox
from bench.runners.member import Place, Progress
from bench.runners.strategy import Pairs, Strategy
from bench.runners.unfinished import leave_now
from bench.runners.updates import Updates
from bench.screen import Screen

Tensor = Any

# For what is said to others when things have gone wrong already.
_SHORT_MS = 3000
# For a step that another one's end has made useless, before the process is ended in it.
_SECONDS_TO_END_A_STEP = 3.0
# What TensorFlow raises where a process that it talks to, or the session, is gone.
_GONE = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
    RuntimeError,
)


class ParameterServers(Strategy):
    """One worker of a job with parameter servers.

    Attributes:
      is_synchronous: an update is of one gradient of each worker, so that all do each step together.
      goes_on: an update is of more or fewer gradients than there are workers: one that stops could leave the others
        waiting for it.
      shares_variables: there is one set of variables for all workers.
    """

    shares_variables = True

    def __init__(
        self,
        options: DistributionOptions,
        place: Place | None,
        screen: Screen,
        progress: Progress,
        stop_requested: Callable[[], bool],
        give_up: Callable[[str], None],
        terms: Json | None = None,
    ) -> None:
        """
        Args:
          options: resolved.
          place: of this process among the workers.
          screen: on which it tells for whom it waits.
          progress: told when it waits for others who still do steps.
          stop_requested: asked while it waits for others to begin.
          give_up: ends this process, in another thread, where it waits for ever for one that is gone; told who that is.
          terms: what must be the same in all workers (bench/runners/agreement.py); None where it is known to be.
        """
        self._options, self._screen, self._progress = options, screen, progress
        self._stop_requested, self._give_up, self._terms = stop_requested, give_up, terms
        self._cluster = server.cluster_of(options)
        # Whether those who started this process collect what it saw, and tell who failed first.
        self._is_collected = place is not None and place.folder is not None
        self.rank, self.size = self._cluster.task, len(self._cluster.workers)
        self.device = f'/job:{WORKER}/task:{self.rank}/cpu:0'
        self.batches = (options.replicas_to_aggregate or self.size) if options.sync_replicas else 1
        self.is_synchronous = options.is_synchronous
        self.goes_on = options.sync_replicas and not options.is_synchronous
        self._payload = 0
        self._updates: Updates | None = None
        self._ends_at: int | None = None
        # What the leader says of the end, or to the leader another worker; and how many updates are done.
        self._heard, self._asked, self._steps = '', '', 0

    # The graph

    def placement(self) -> contextlib.AbstractContextManager[Any]:
        """Variables on the servers, all else on this worker."""
        servers = len(self._cluster.servers)
        strategy = placement.BySize(servers) if self._options.ps_placement == 'size' else None
        return tf.device(
            tf.train.replica_device_setter(ps_tasks=servers, worker_device=self.device, ps_strategy=strategy)
        )

    def inputs(self) -> contextlib.AbstractContextManager[Any]:
        """On this worker, variables too."""
        return tf.device(self.device)

    def gradients(self, pairs: Pairs) -> Pairs:
        self._payload = sum(variable.shape.num_elements() * variable.dtype.size for _, variable in pairs)
        return pairs

    def optimizer(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Averages the workers' gradients before an update, where that is wanted."""
        if not self._options.sync_replicas:
            return optimizer
        self._updates = Updates(optimizer, self.batches, self.size)
        return self._updates.optimizer

    # The session

    @contextlib.contextmanager
    def session(self, graph: tf.Graph, config: tf.ConfigProto) -> Iterator[tf.Session]:
        """A session of this worker's server, once all processes are there; it fails when one of them is gone.

        Raises:
          NotMetError: the port is taken, or a process does not come.
          LostError: one is gone.
          StoppedError: the user wished an end while one was waited for.
          UsageError: the workers have different flags.
        """
        self._server = server.start(self._cluster, config)
        with graph.as_default(), tf.device(self.device):
            placement.read_once(graph, self.device)
            self._make_coordination()
        waiting = server.waiting_lines(self._screen)
        peers.wait(self._cluster.peers, self._options.wait_seconds, waiting, self._stop_requested)
        with self._watched_session(graph, config) as session:
            self._compare(session)
            yield session
            # It is only about what servers print.
            with contextlib.suppress(*_GONE):
                session.run(self._goodbye, {self._text: server.ENDING})
                session.run(self._heard_by_all, options=tf.RunOptions(timeout_in_ms=_SHORT_MS))
            if self._is_collected:
                with self._told():
                    self._part(session)

    @contextlib.contextmanager
    def _watched_session(self, graph: tf.Graph, config: tf.ConfigProto) -> Iterator[tf.Session]:
        """A session that is closed when another process is gone, so that nobody waits in it for ever."""
        self._config, self._knows_loss = config, False
        visible = server.visible(config, self._cluster)
        session = self._session = tf.Session(self._server.target, graph=graph, config=visible)
        self._watch = peers.Watch(self._cluster.peers, self._end_step)
        with graph.as_default(), session.as_default(), self._watch:
            try:
                yield session
            except BaseException as error:
                if not self._knows_loss:
                    how = server.refusal(error) if isinstance(error, UsageError) else server.FAILED
                    with contextlib.suppress(*_GONE):
                        session.run(self._goodbye, {self._text: how}, tf.RunOptions(timeout_in_ms=_SHORT_MS))
                # To close it, and to delete it as Python ends, is to wait for processes that may be gone.
                session._session = None
                atexit.register(leave_now, error.exit_status if isinstance(error, BenchError) else 1)
                raise
            finally:
                if session._session is not None:
                    with quiet.standard_error():
                        session.close()

    def _compare(self, session: tf.Session) -> None:
        """Refuses flags that differ among the workers, in all of them alike. Their graphs may not fit each other."""
        if self._terms is None:
            return
        with self._told():
            texts = self._mailbox.gather(session, json.dumps(self._terms))
            found = agreement.problems([json.loads(text) for text in texts]) if texts is not None else []
            problems = json.loads(self._mailbox.broadcast(session, json.dumps(found)))
        if problems:
            # Nobody leaves before all know, and with the first one the servers leave.
            with contextlib.suppress(*_GONE):
                self._mailbox.gather(session, '')
                self._mailbox.broadcast(session, '')
            raise UsageError(problems)

    def _end_step(self) -> None:
        """Ends what this process waits for as another one is gone, and where that does not end, the process.

        To close a session is to wait until its operations have ended everywhere, which they do where one was killed;
        of one that was stopped or cut off no answer comes.
        """
        session, watch = self._session, self._watch

        def close() -> None:
            # TensorFlow remarks that it cancels the step.
            with quiet.libraries(), contextlib.suppress(*_GONE):
                session.close()

        threading.Thread(target=close, name='close', daemon=True).start()
        if not watch.is_over(_SECONDS_TO_END_A_STEP):
            self._give_up(watch.lost or '')

    def initialize(self, session: tf.Session, initializers: Sequence[tf.Operation]) -> None:
        """The leader gives the variables their values, and the others wait for that."""
        shared, *own = initializers
        with self._told():
            for initializer in own:
                session.run(initializer)
            if self.leads:
                session.run(shared)
                session.run([self._say, self._ask], {self._text: ''})
                if self._updates is not None:
                    self._updates.begin(session)
            self._mailbox.broadcast(session, '')
            if self._updates is not None and not self.leads:
                self._updates.join(session)

    def call(self, session: tf.Session, operation: tf.Operation, loss: Tensor | None) -> Callable[[], float | None]:
        """One step; with it comes what the leader says of the end."""
        with session.graph.as_default(), tf.device(self.device):
            said, asked = self._end.read_value(), self._wish.read_value()
            steps = self._updates.number() if self._updates is not None else tf.constant(0)
        if self._updates is not None:
            # Behind the update, so that all who waited for it hear what the leader said before it took part in it. In
            # tf.control_dependencies the operation would be marked, and TensorFlow remarks that a session knows it.
            for each in (said, asked, steps):
                (read,) = (tensor.op for tensor in each.op.inputs)
                read._add_control_input(operation)
        fetched = [operation, loss, said, asked, steps]
        if self._updates is not None and self.leads:
            if self.is_synchronous:
                fetched.append(self._updates.operation())
            else:
                self._updates.by_themselves(session)
        step = session.make_callable(fetched)

        def run() -> float:
            with self._told():
                _, value, heard, asked_for, done, *_ = step()
            self._steps = int(done)
            self._heard = heard.decode()
            if self.leads:
                self._asked = asked_for.decode()
            return float(value)

        return run

    # Beginning and ending together

    def meet(self) -> None:
        """Returns when all workers are here, none of them within a step; no wish to end is left then."""
        session, updates = self._session, self._updates if self.goes_on else None
        if not self.is_synchronous:
            self._progress.rest()
        with self._told():
            if self.leads and updates is not None:
                # Who waits for an update that this worker has no part in any more is let go, and told to come.
                session.run(self._say, {self._text: f'0 {self._heard.partition(" ")[2] or "num_batches"}'})
                updates.release(session)
            self._mailbox.gather(session, '')
            if self.leads:
                session.run([self._say, self._ask], {self._text: ''})
                if updates is not None:
                    updates.restore(session)
            self._mailbox.broadcast(session, '')
            if updates is not None:
                updates.join(session)
        self._ends_at, self._heard, self._asked = None, '', ''

    def agree(self, wish: str) -> str:
        """The reason on which all end now, or ''.

        The leader decides; another worker's wish, which can only be an interruption, goes to it with the next step.
        Where steps are done together, the end is the step after the one that the leader has just done: none of the
        others can be done with that before it could hear of it. Otherwise it is now, for each when it hears of it.
        """
        with self._told():
            if not self.leads:
                if wish and not self._asked:
                    self._asked = wish
                    self._session.run(self._ask, {self._text: wish})
            elif self._ends_at is None and (wish or self._asked):
                self._ends_at = self._steps + 1 if self.is_synchronous else 0
                self._heard = f'{self._ends_at} {wish or self._asked}'
                self._session.run(self._say, {self._text: self._heard})
        at, _, reason = self._heard.partition(' ')
        return reason if reason and self._steps >= int(at) else ''

    def gather(self, part: Json) -> list[Json]:
        """All workers' parts for the leader, who writes the record; for the others their own."""
        with self._watched_session(self._session.graph, self._config) as session, self._told():
            texts = self._mailbox.gather(session, json.dumps(part))
            # Nobody leaves before: whoever waits for a slow one's part would take those for lost.
            self._mailbox.broadcast(session, '')
            self._part(session)
        return [part] if texts is None else [json.loads(text) for text in texts]

    def _part(self, session: tf.Session) -> None:
        """Tells the servers that this worker is done, which may end then."""
        session.run(self._goodbye, {self._text: server.DONE})
        self._watch.end()

    def exchange(self) -> Json | None:
        """Bytes of a worker's gradients in a step, and of what it sends: the servers send as much back, the weights."""
        return {'payload_bytes': self._payload, 'sent_bytes': self._payload}

    def lost(self, error: BaseException | None) -> str:
        """What says only that another process is gone, where those who started this one know better."""
        return str(error) if self._is_collected and isinstance(error, server.LostError) else ''

    def _make_coordination(self) -> None:
        """What workers and servers tell each other, in the current graph."""
        first = f'/job:{SERVER}/task:0/cpu:0'
        self._mailbox = Mailbox(self.rank, self.size, first)
        self._text = tf.placeholder(tf.string, [], name='coordination/text')
        with tf.device(first):
            self._end, self._wish = (
                # In a collection of their own: they are no part of a checkpoint.
                tf.get_variable(
                    f'coordination/{name}', initializer=tf.constant(''), trainable=False, collections=['coordination']
                )
                for name in ('end', 'wish')
            )
            self._say, self._ask = self._end.assign(self._text).op, self._wish.assign(self._text).op
        words = tf.strings.join([f'{self.rank} ', self._text])
        servers = range(len(self._cluster.servers))
        self._goodbye = tf.group(*(server.goodbyes(task).enqueue(words) for task in servers))
        self._heard_by_all = tf.group(*(server.heard(task).dequeue() for task in servers))
        if self._updates is not None:
            self._updates.make(leads=self.leads)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Within it, an error that comes of another process's end is told as that."""
        try:
            yield
        except _GONE as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> BaseException:
        """Who is gone, where that is what an error comes of."""
        lost = self._watch.lost or peers.gone(self._cluster.peers)
        if lost:
            self._knows_loss = True
            return server.LostError(lost)
        # A failed update closed the session; the step only tells that it is closed.
        return (self._updates.error if self._updates is not None else None) or error
