"""Updates of several workers' gradients by parameter servers, as one worker takes part in them. Imports TensorFlow.

TensorFlow's SyncReplicasOptimizer averages gradients and applies them when there are enough for an update. A worker
gives its own and takes a token, for which it waits; each update gives out as many as it took gradients, or as there are
workers where these are more. Gradients are dropped where the worker's last token is older than the variables.

No token is given out before the first update, unless an update takes more gradients than there are workers: with the
optimizer's own number each worker begins its second step before the first update, and may take part twice in it.
"""

from __future__ import annotations

import threading
from typing import Any

import tensorflow.compat.v1 as tf


class _SyncReplicas(tf.train.SyncReplicasOptimizer):
    """TensorFlow's, without its remark, wherever a run ends, on an operation for a hook that is not used here."""

    def apply_gradients(self, *args: Any, **kwargs: Any) -> tf.Operation:
        operation = super().apply_gradients(*args, **kwargs)
        self.ready_for_local_init_op.mark_used()
        return operation


class Updates:
    """Of one worker.

    Args:
      optimizer: what applies averages of gradients.
      gradients: of an update.
      workers: how many there are.

    Attributes:
      optimizer: what applies this worker's gradients.
      error: why an update failed that no worker's step did; None as long as none has.
    """

    def __init__(self, optimizer: tf.train.Optimizer, gradients: int, workers: int) -> None:
        self.optimizer = _SyncReplicas(optimizer, replicas_to_aggregate=gradients, total_num_replicas=workers)
        self._missing, self._workers = max(0, gradients - workers), workers
        self.error: BaseException | None = None

    def make(self, *, leads: bool) -> None:
        """What is run beside steps, in the current graph, when the optimizer has been asked to apply gradients."""
        if leads:
            tokens = self.optimizer._sync_token_queue
            self._first = self.optimizer.get_init_tokens_op(self._missing)
            self._for_all = self.optimizer.get_init_tokens_op(max(self._workers, self._missing))
            self._take_back = tokens.dequeue_many(tokens.size())

    def begin(self, session: tf.Session) -> None:
        """To be called by the leader, when the variables have their values."""
        session.run(self.optimizer.chief_init_op)
        session.run(self._first)

    def join(self, session: tf.Session) -> None:
        """This worker's next gradients count: they are of the variables as they are now, whatever its last token."""
        session.run(self.optimizer.local_step_init_op)

    def release(self, session: tf.Session) -> None:
        """Nobody waits for an update any more; to be called by the leader, which tells the others before to come."""
        session.run(self._for_all)

    def restore(self, session: tf.Session) -> None:
        """There are as many tokens as at the beginning; to be called by the leader while nobody does a step."""
        session.run(self._take_back)
        # Without these, workers that are fewer than an update's gradients would wait for it for ever.
        session.run(self._first)

    def number(self) -> Any:
        """In the current graph, of how many updates this worker knows."""
        return self.optimizer._local_step.read_value()

    def operation(self) -> tf.Operation:
        """Does one update, as soon as there are enough gradients."""
        return self.optimizer.get_chief_queue_runner().enqueue_ops[0]

    def by_themselves(self, session: tf.Session) -> None:
        """Begins a thread that does updates as gradients come, which the leader's steps do not tell."""
        update = session.make_callable(self.operation())

        def run() -> None:
            try:
                while True:
                    update()
            except Exception as error:
                # Also where the session was closed, as all is done.
                self.error = error
                session.close()

        threading.Thread(target=run, name='update', daemon=True).start()
