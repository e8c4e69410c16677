"""Copies of the network in one process, each with variables of its own.

So does tf_cnn_benchmarks with --variable_update=replicated, where a copy is on a graphics processor. Here all are on
the same processors, so that this is no way to be faster than one copy with the whole batch: it shows what copies, their
memory and the sum of their gradients cost, without network and without a second process. All copies begin with the
first one's values and get the same average of all gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from bench.runners.strategy import Pairs, Strategy


class Replicated(Strategy):
    """One process with several copies."""

    def __init__(self, copies: int) -> None:
        self.batches = copies
        # Of each copy, in the order of their making, which is the same for all.
        self._variables: list[list[tf.Variable]] = []
        self._trainable: list[list[tf.Variable]] = []

    @contextlib.contextmanager
    def clone(self, index: int) -> Iterator[None]:
        """Entered while a copy is built.

        The first one has the names of a network by itself, and alone is in checkpoints, moving averages and the
        regularization's loss: its share of that reaches all copies with the sum of the gradients.
        """
        kept = [
            (key, len(tf.get_collection(key)))
            for key in (tf.GraphKeys.MODEL_VARIABLES, tf.GraphKeys.REGULARIZATION_LOSSES)
        ]
        variables, trainable = len(tf.global_variables()), len(tf.trainable_variables())
        with contextlib.ExitStack() as stack:
            if index > 0:
                stack.enter_context(tf.variable_scope(f'replica_{index}'))
            yield
        if index > 0:
            for key, size in kept:
                del tf.get_collection_ref(key)[size:]
        self._variables.append(tf.global_variables()[variables:])
        self._trainable.append(tf.trainable_variables()[trainable:])

    def trained(self, variables: list[tf.Variable]) -> list[tf.Variable]:
        """Those of the first copy that are to be trained, and the same of all others."""
        names = {variable.name for variable in variables}
        wanted = [index for index, variable in enumerate(self._trainable[0]) if variable.name in names]
        return [copy[index] for copy in self._trainable for index in wanted]

    def gradients(self, pairs: Pairs) -> Pairs:
        """The sum of all copies' gradients, for each of them: the loss is their mean, so that this is an average."""
        found = {variable.name: gradient for gradient, variable in pairs}
        averaged = []
        for same in zip(*self._trainable, strict=True):
            if all(found.get(variable.name) is not None for variable in same):
                total = tf.add_n([found[variable.name] for variable in same])
                averaged += [(total, variable) for variable in same]
        return averaged

    def initializers(self) -> tuple[tf.Operation, ...]:
        """Copies the first one's values."""
        first, *others = self._variables
        return (
            tf.group(
                *(
                    variable.assign(original.read_value())
                    for copy in others
                    for original, variable in zip(first, copy, strict=True)
                )
            ),
        )
