"""Builds a registered network into the current graph."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow.compat.v1 as tf

from bench.errors import BenchError, UsageError
from bench.models import multiply_adds, user_network
from bench.models.layers import Layers, Tensor
from bench.models.registry import Network
from bench.models.slim import slim


@dataclasses.dataclass(frozen=True)
class Output:
    """What a network gives.

    Attributes:
      logits: [N, num_classes], float32.
      aux_logits: of the auxiliary heads, where the network has them; [N, num_classes] each.
      end_points: named activations in the data format.
    """

    logits: Tensor
    aux_logits: tuple[Tensor, ...]
    end_points: dict[str, Tensor]


def build(network: Network, images: Tensor, **options: Any) -> Output:
    """Builds `network` on images [N, H, W, C] (NHWC) or [N, C, H, W] (NCHW); `options` are those of Layers.

    Raises:
      UsageError: the images are too small for it, or in a layout that it has not.
      BenchError: a user's own fails or gives no logits, or clones would not share its variables.
    """
    layers = Layers(**options)
    problems = network.size_problems(min(layers.map_size(images))) + network.data_format_problems(layers.data_format)
    if problems:
        raise UsageError(problems)
    logits = network.build(layers, images) if network.file is None else _build_own(network, layers, images)
    return Output(logits, tuple(layers.aux_logits), layers.end_points)


def _build_own(network: Network, layers: Layers, images: Tensor) -> Tensor:
    """A user's own network: what is wrong with it is told in a sentence, with the line of the user's file."""
    assert network.file
    before = tf.global_variables()
    try:
        logits = network.build(layers, images)
    except (Exception, SystemExit) as error:
        raise BenchError(f'{network.name} fails with {user_network.explained(error, network.file)}') from error
    wanted = [images.shape[0], layers.num_classes]
    for given in (logits, *layers.aux_logits):
        seen = _seen(given)
        if seen != _described(tf.float32, wanted):
            raise BenchError(
                f'{network.name} gives {seen}; logits of the shape {wanted} in float32 are expected: [N, num_classes].'
            )
    if images.op not in multiply_adds.leading_to([logits]):
        raise BenchError(f'{network.name} gives logits that do not depend on the images: nothing would be computed.')
    if layers.is_training and not tf.trainable_variables():
        raise BenchError(f'{network.name} has no variables, and so nothing to train. Give --forward_only.')
    known = {variable.ref() for variable in before}
    unshared = [variable.op.name for variable in tf.global_variables() if variable.ref() not in known]
    if unshared and tf.get_variable_scope().reuse:
        raise BenchError(
            f'{network.name}: --num_clones makes a copy of {unshared[0]} for each clone, which would train apart. Make '
            'it with tf.get_variable or a layer of `net`, or leave out --num_clones.'
        )
    _count_as_the_networks(known)
    return logits


def _seen(given: Any) -> str:
    if not isinstance(given, tf.Tensor):
        return 'None' if given is None else f'an object of the type {type(given).__name__}'
    return _described(given.dtype, None if given.shape.rank is None else given.shape.as_list())


def _described(dtype: Any, shape: list[int | None] | None) -> str:
    return f'a tensor of the shape {shape or "unknown"} in {dtype.name}'


def _count_as_the_networks(before: set[Any]) -> None:
    """Checkpoints and moving averages hold what it made by TensorFlow's own functions, as what `Layers` made.

    But for integers, which nothing averages: counters, and the global step.
    """
    known = before | {variable.ref() for variable in slim.get_model_variables()}
    for variable in tf.global_variables():
        if variable.ref() not in known and variable.dtype.is_floating:
            tf.add_to_collection(tf.GraphKeys.MODEL_VARIABLES, variable)
