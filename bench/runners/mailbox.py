"""How the workers of a job with parameter servers talk: queues of texts on the first server. Imports TensorFlow.

The first worker leads: all others send to it and hear from it, each through queues of its own, so that nobody takes
what is meant for another one.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf


class Mailbox:
    """Made in the current graph, for one worker.

    Args:
      rank, size: of this worker among how many.
      device: where the queues are.
    """

    def __init__(self, rank: int, size: int, device: str) -> None:
        self._rank = rank
        self._followers = range(1, size)
        self._text = tf.placeholder(tf.string, [], name='mailbox/text')
        self._send, self._receive = {}, {}
        with tf.device(device):
            for other in self._followers if rank == 0 else (rank,):
                there, back = (
                    tf.FIFOQueue(1000, [tf.string], [()], shared_name=f'mailbox/{way}_{other}')
                    for way in ('to', 'from')
                )
                out, in_ = (there, back) if rank == 0 else (back, there)
                self._send[other] = out.enqueue(self._text)
                self._receive[other] = in_.dequeue()

    def gather(self, session: tf.Session, text: str) -> list[str] | None:
        """All workers' texts by rank, for the leader when all have come; None for the others, at once."""
        if self._rank != 0:
            session.run(self._send[self._rank], {self._text: text})
            return None
        return [text, *(session.run(self._receive[other]).decode() for other in self._followers)]

    def broadcast(self, session: tf.Session, text: str) -> str:
        """The leader's text, for all of them, as soon as there is one; the others' own is not sent."""
        if self._rank != 0:
            return str(session.run(self._receive[self._rank]).decode())
        for other in self._followers:
            session.run(self._send[other], {self._text: text})
        return text
