"""How much memory a training step needs, told by its graph before it runs: for a default batch that a container allows.

A control group's limit ends a process without a word, so a default batch is halved until the estimate is below it. The
estimate was fitted to the largest resident sets of vgg_16, resnet_v1_50, inception_v3 and others at several batches,
which it meets within a tenth; for networks that nobody measured it may be further off, and a system may swap. So a run
of which it says that not even a batch of 1 fits is not refused, but warned. Inference is left alone: what it needs most
is for copies of the weights, which no batch changes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import tensorflow.compat.v1 as tf

from bench.config import BenchmarkConfig
from bench.distribution import REPLICATED
from bench.models.registry import Network
from bench.record import Json
from bench.runners import step as steps
from bench.runners import strategy as strategies

# TensorFlow itself, oneDNN's generated code, Python.
_PROGRAM = 600 * 2**20
# Activations of the largest size that are there at once in the backward pass, besides those that were kept for it.
_LARGEST_AT_ONCE = 3
# So far off the estimate may be.
_MARGIN = 1.1
# Operations that give another name or shape to their input's memory.
_SAME_MEMORY = ('Identity', 'Reshape', 'Squeeze', 'StopGradient')
_NO_ACTIVATION = ('Const', 'ReadVariableOp', 'VarHandleOp')
_GRADIENTS = 'gradients/'
# The warning of a run that may not fit, to be told before it begins: afterwards there may be nobody to tell it.
MAY_BE_KILLED = 'memory_short'


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Bytes: what does not depend on the batch, and what an image of it adds."""

    fixed: int
    per_image: int

    def of(self, batch_size: int) -> int:
        """What a step needs, with a margin."""
        return int(_MARGIN * (self.fixed + batch_size * self.per_image))


def fitted(config: BenchmarkConfig, network: Network, limit: int | None) -> tuple[BenchmarkConfig, list[Json]]:
    """The (resolved) run with a default batch that fits, and warnings: it is not the network's own, not even 1 fits.

    Args:
      limit: bytes that a control group allows; None for no limit.
    """
    if limit is None or config.step.forward_only or config.data.input_only:
        return config, []
    tf.get_logger().setLevel('ERROR')
    batch = config.network.batch_size or 1
    # Of clones or replicas, of which replicas have variables of their own.
    copies = config.images_per_step // batch
    shared = strategies.of(config.distribution, None) if config.distribution.kind == REPLICATED else None
    step = steps.benchmark_step(config, network, None, None, strategy=shared)
    found = measure(step.graph, config.images_per_step)
    smaller = batch
    while smaller > 1 and found.of(smaller * copies) > limit:
        smaller //= 2
    warnings: list[Json] = []
    if smaller != batch:
        text = (
            f"{network.name}'s default batch of {batch} needs about {_gib(found.of(batch * copies))} GiB, and the "
            f'control group allows {_gib(limit)}: {smaller} is taken. To have another, give --batch_size.'
        )
        warnings.append({'code': 'batch_reduced', 'text': text})
    if found.of(smaller * copies) > limit:
        text = (
            f'{network.name} needs about {_gib(found.of(smaller * copies))} GiB with a batch of {smaller}, by an '
            f'estimate, and the control group allows {_gib(limit)}: the kernel may kill this run without a word. Allow '
            'more memory (docker run -m), or take a smaller --image_size.'
        )
        warnings.append({'code': MAY_BE_KILLED, 'text': text})
    return dataclasses.replace(config, network=dataclasses.replace(config.network, batch_size=smaller)), warnings


def measure(graph: tf.Graph, images: int) -> Footprint:
    """The footprint of a graph of a training step on so many images."""
    kept: dict[str, Any] = {}
    for operation in graph.get_operations():
        if operation.name.startswith(_GRADIENTS):
            found = [_memory_of(tensor) for tensor in operation.inputs if not tensor.op.name.startswith(_GRADIENTS)]
            kept.update({tensor.name: tensor for tensor in found if tensor.op.type not in _NO_ACTIVATION})
    sizes = [_bytes(tensor) for tensor in kept.values()]
    # Of a map beside copies of itself, for a gradient as a product (bench/models/gradients.py), and of its part.
    beside = [
        _bytes(each.outputs[0])
        for each in graph.get_operations()
        if each.type == 'ConcatV2' and each.name.startswith(_GRADIENTS)
    ]
    at_once = _LARGEST_AT_ONCE * max(sizes, default=0) + 2 * max(beside, default=0)
    variables = sum(map(_bytes, graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)))
    trained = sum(map(_bytes, graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)))
    return Footprint(_PROGRAM + variables + trained, (sum(sizes) + at_once) // images)


def _memory_of(tensor: Any) -> Any:
    """The tensor whose memory a tensor has."""
    while tensor.op.type in _SAME_MEMORY:
        tensor = tensor.op.inputs[0]
    return tensor


def _bytes(tensor: Any) -> int:
    """0 where the shape is not known."""
    return math.prod(tensor.shape.as_list()) * tensor.dtype.size if tensor.shape.is_fully_defined() else 0


def _gib(size: int) -> str:
    return f'{size / 2**30:.2f}'
