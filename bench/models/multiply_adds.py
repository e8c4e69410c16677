"""Counts the multiply-adds of a network from its graph: of convolutions and matrix products, which are nearly all.

A count made from the graph that runs cannot disagree with it, and is what achieved GFLOP/s are computed from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf


def count(outputs: Sequence[Any]) -> int:
    """Multiply-adds of one image's forward pass.

    Args:
      outputs: the tensors computed, logits and auxiliary logits [N, num_classes]; only what leads to them counts.

    Raises:
      ValueError: an operation's shapes are not all known.
    """
    total = sum(_of_operation(operation) for operation in _leading_to(outputs))
    return total // _shape(outputs[0])[0]


def _leading_to(outputs: Sequence[Any]) -> set[tf.Operation]:
    waiting = [tensor.op for tensor in outputs]
    seen: set[tf.Operation] = set()
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting.extend(tensor.op for tensor in operation.inputs)
    return seen


def _of_operation(operation: tf.Operation) -> int:
    """Elements of the result, times what is summed for each of them."""
    if operation.type == 'Conv2D':
        height, width, inputs, _ = _shape(operation.inputs[1])
        return math.prod(_shape(operation.outputs[0])) * height * width * inputs
    if operation.type == 'DepthwiseConv2dNative':
        height, width, _, _ = _shape(operation.inputs[1])
        return math.prod(_shape(operation.outputs[0])) * height * width
    if operation.type == 'MatMul':
        rows, columns = _shape(operation.inputs[0])
        return math.prod(_shape(operation.outputs[0])) * (rows if operation.get_attr('transpose_a') else columns)
    return 0


def _shape(tensor: Any) -> list[int]:
    if not tensor.shape.is_fully_defined():
        raise ValueError(f'the shape of {tensor.name} is not known, so its multiply-adds cannot be counted')
    shape: list[int] = tensor.shape.as_list()
    return shape
