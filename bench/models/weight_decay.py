"""L2 regularization of weights, remembered variable by variable, so that an optimizer can apply it by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any

# Collections of the graph, in the same order: of what a graph's export (tf.train.export_meta_graph) can write.
_VARIABLES, _FACTORS, _PENALTIES = (f'weight_decay_{part}' for part in ('variables', 'factors', 'penalties'))


@dataclasses.dataclass(frozen=True)
class WeightDecay:
    """Of one variable: `penalty`, a scalar of the regularization losses, is factor * sum(variable ** 2) / 2."""

    variable: Any
    factor: float
    penalty: Tensor


def l2(factor: float) -> Callable[[Any], Tensor]:
    """A regularizer as slim.l2_regularizer, which keeps account in the graph."""

    def penalty(variable: Any) -> Tensor:
        loss = tf.multiply(factor, tf.nn.l2_loss(variable), name='l2_regularizer')
        for collection, value in ((_VARIABLES, variable), (_FACTORS, factor), (_PENALTIES, loss)):
            tf.add_to_collection(collection, value)
        return loss

    return penalty


def collected() -> list[WeightDecay]:
    """Those of the current graph."""
    columns = (tf.get_collection(name) for name in (_VARIABLES, _FACTORS, _PENALTIES))
    return [WeightDecay(*row) for row in zip(*columns, strict=True)]
