"""Counts the multiply-adds of a network from its graph: of convolutions and matrix products, which are nearly all.

A count made from the graph that runs cannot disagree with it, and is what achieved GFLOP/s are computed from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from bench.errors import BenchError

# Products of matrices, and the attribute that says whether the first one is transposed.
_PRODUCTS = {'MatMul': 'transpose_a', 'BatchMatMul': 'adj_x', 'BatchMatMulV2': 'adj_x', 'BatchMatMulV3': 'adj_x'}


def count(outputs: Sequence[Any]) -> int:
    """Multiply-adds of one image's forward pass.

    Args:
      outputs: the tensors computed, logits and auxiliary logits [N, num_classes]; only what leads to them counts.

    Raises:
      BenchError: an operation's shapes are not all known, as a user's own network may have them.
    """
    total = sum(_of_operation(operation) for operation in leading_to(outputs))
    return total // _shape(outputs[0])[0]


def leading_to(outputs: Sequence[Any]) -> set[tf.Operation]:
    """All operations that tensors are computed from."""
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
    if operation.type == 'Conv2DBackpropInput':  # a transposed convolution
        height, width, outputs, _ = _shape(operation.inputs[1])
        return math.prod(_shape(operation.inputs[2])) * height * width * outputs
    if operation.type in _PRODUCTS:
        rows, columns = _shape(operation.inputs[0])[-2:]
        summed = rows if operation.get_attr(_PRODUCTS[operation.type]) else columns
        return math.prod(_shape(operation.outputs[0])) * summed
    return 0


def _shape(tensor: Any) -> list[int]:
    if not tensor.shape.is_fully_defined():
        raise BenchError(
            f'The shape of {tensor.name} is not known, so that its multiply-adds cannot be counted. Give it one: sizes '
            'as Python numbers instead of tensors, or set_shape().'
        )
    shape: list[int] = tensor.shape.as_list()
    return shape
