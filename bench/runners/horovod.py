"""Workers as copies whose gradients Horovod averages (Sergeev and Del Balso, arXiv:1802.05799). Imports TensorFlow.

Each worker computes the gradients of its images' part of the loss of all: its own loss divided by the number of
workers. Their sum, which Horovod leaves in every worker, is the gradient of the mean; asking it for an average instead
would pass over all gradients once more. Weights begin as those of worker 0 and stay equal, since all do the same with
the same gradients: clipping, weight decay and the optimizer come after the exchange.

When to end is decided by worker 0 and travels with the step: each step sums a few numbers, one for each reason to end,
in which every worker has a 1 at its wish. It is exchanged while the step computes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import tensorflow.compat.v1 as tf

from bench.distribution import DistributionOptions
from bench.errors import BenchError, UsageError
from bench.machine import cores
from bench.models.slim import slim
from bench.record import Json
from bench.runners import agreement
from bench.runners.essence import essence
from bench.runners.member import Place
from bench.runners.strategy import Pairs, Strategy, Tensor
from bench.runners.timing import REASONS

_COMPRESSION = {'none': hvd.Compression.none, 'fp16': hvd.Compression.fp16}
_BYTES = {'none': 4, 'fp16': 2}
# When others have waited for a worker for so long, Horovod ends the job, which it would not by itself: longer than any
# worker is slower than another in some steps, or begins later.
_STALL_SECONDS = 600
# What Horovod and Gloo say where another worker is gone.
_GONE = re.compile(r'Horovod|gloo/|Timed out waiting')
_ADDRESS = re.compile(r'\[([\w.:]+)\]:\d+')
_TIME_LIMIT = re.compile(r'Timed out waiting (\d+)ms')


class Horovod(Strategy):
    """One of several workers that exchange gradients.

    Args:
      options: resolved.
      place: of this process in a job; None where it is the only worker.
      terms: what must be the same in all workers (bench/runners/agreement.py); None where it is known to be.

    Raises:
      BenchError: the workers do not meet.
      UsageError: they have different flags.
    """

    def __init__(self, options: DistributionOptions, place: Place | None, terms: Json | None = None) -> None:
        # The user's environment wins; config has looked whether the flags differ from it.
        os.environ.setdefault('HOROVOD_CYCLE_TIME', f'{options.cycle_time_ms:g}')
        os.environ.setdefault('HOROVOD_FUSION_THRESHOLD', str(round((options.fusion_threshold_mb or 0) * 2**20)))
        os.environ.setdefault('HOROVOD_STALL_SHUTDOWN_TIME_SECONDS', str(_STALL_SECONDS))
        try:
            # The thread that exchanges may run where a worker waits for another one.
            with cores.pinned(place.all_cpus if place is not None else ()):
                hvd.init()
        except (RuntimeError, ValueError, ImportError) as error:
            raise BenchError(f'The workers do not meet: Horovod says {str(error).strip()}') from None
        self.rank, self.size = hvd.rank(), hvd.size()
        self.batches = self.size
        expected = place.size if place is not None else 1
        if self.size != expected:
            raise BenchError(
                f'{expected} processes were started, and Horovod sees {self.size}: it was built without the support '
                'that this launcher needs. Use horovodrun --gloo, or --num_workers.'
            )
        self._compression = _COMPRESSION[options.compression]
        self._bytes_of_a_number = _BYTES[options.compression]
        self._averages_statistics = options.batch_norm_statistics == 'averaged'
        self._payload = 0
        self._wish, self._answer = '', ''
        if terms is not None:
            self._compare(terms)

    def _compare(self, terms: Json) -> None:
        """Refuses flags that differ among the workers, in all of them alike."""
        problems = agreement.problems(self._of_all(terms, 'terms'))
        if problems:
            # Nobody leaves before all know: who is gone is all that the others would be told of.
            with contextlib.suppress(BenchError, tf.errors.OpError):
                self._of_all(None, 'told')
            raise UsageError(problems)

    def loss(self, loss: Tensor) -> Tensor:
        return loss / self.size

    def gradients(self, pairs: Pairs) -> Pairs:
        self._payload += sum(self._bytes_of_a_number * variable.shape.num_elements() for _, variable in pairs)
        return [
            (hvd.allreduce(gradient, op=hvd.Sum, compression=self._compression), variable)
            for gradient, variable in pairs
        ]

    def statistics(self, updates: list[Any]) -> list[Any]:
        if not self._averages_statistics:
            return updates
        trained = {variable.ref() for variable in tf.trainable_variables()}
        moving = [variable for variable in slim.get_model_variables() if variable.ref() not in trained]
        self._payload += sum(4 * variable.shape.num_elements() for variable in moving)
        with tf.control_dependencies([getattr(update, 'op', update) for update in updates]):
            averages = [hvd.allreduce(variable.read_value() / self.size, op=hvd.Sum) for variable in moving]
        return [*updates, *(variable.assign(mean) for variable, mean in zip(moving, averages, strict=True))]

    def initializers(self) -> tuple[tf.Operation, ...]:
        self._wishes = tf.placeholder(tf.float32, [len(REASONS)], 'wishes')
        self._answers = hvd.allreduce(self._wishes, op=hvd.Sum, name='answers')
        # Of what is fed too, because grappler would compute a sum of constants once and for all.
        self._meeting = hvd.allreduce(self._wishes, op=hvd.Sum, name='meeting')
        return (hvd.broadcast_variables(tf.global_variables(), root_rank=0),)

    def initialize(self, session: tf.Session, initializers: Any) -> None:
        super().initialize(session, initializers)
        self._meet = session.make_callable(self._meeting, feed_list=[self._wishes])

    def call(self, session: tf.Session, operation: tf.Operation, loss: Tensor | None) -> Callable[[], float | None]:
        step = session.make_callable([operation, loss, self._answers], feed_list=[self._wishes])
        said = dict(zip(REASONS, np.eye(len(REASONS), dtype=np.float32), strict=True))

        def call() -> float:
            _, value, answers = step(said[self._wish])
            self._answer = REASONS[np.flatnonzero(answers)[-1]]
            return float(value)

        return call

    def meet(self) -> None:
        self._meet(np.zeros(len(REASONS), np.float32))

    def agree(self, wish: str) -> str:
        self._wish = wish
        return self._answer

    def exchange(self) -> Json:
        # Gloo sums along a ring: each worker sends (and receives) all but its own part twice.
        return {'payload_bytes': self._payload, 'sent_bytes': round(2 * (self.size - 1) / self.size * self._payload)}

    def lost(self, error: BaseException | None) -> str:
        kinds = (tf.errors.UnknownError, tf.errors.AbortedError, tf.errors.CancelledError)
        text = essence(error) if isinstance(error, kinds) else ''
        if not _GONE.search(text):
            return ''
        # Gloo tells the address of who is at the other end of a connection, but not for whom it waited.
        peer, limit = _ADDRESS.search(text), _TIME_LIMIT.search(text)
        if peer:
            return f'Another worker is gone: the connection to {peer[1]} was lost.'
        if limit:
            waited = f'it did not answer for {int(limit[1]) / 1000:g} seconds'
            return f'Another worker is gone: {waited}. It is stopped, hangs, or is cut off the network.'
        return 'Another worker is gone: killed, stopped, hanging, or cut off the network.'

    def gather(self, part: Json) -> list[Json]:
        return self._of_all(part, 'part')

    def _of_all(self, found: Any, name: str) -> list[Any]:
        """What each worker has, by rank.

        Raises:
          BenchError: a worker is gone.
        """
        try:
            with tf.Graph().as_default(), tf.Session() as session:
                return hvd.allgather_object(found, session=session, name=name)
        except tf.errors.OpError as error:
            if not self.lost(error):
                raise
            raise BenchError(self.lost(error)) from None
