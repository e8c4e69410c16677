"""L2 regularization of weights, remembered variable by variable, so that an optimizer can apply it by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

Tensor = Any

_COLLECTION = 'weight_decays'


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
        tf.add_to_collection(_COLLECTION, WeightDecay(variable, factor, loss))
        return loss

    return penalty


def collected() -> list[WeightDecay]:
    """Those of the current graph."""
    return tf.get_collection(_COLLECTION)
