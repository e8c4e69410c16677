"""Makes a graph fit for inference: weights become constants, batch norm is folded into the convolutions before it.

Constant weights let oneDNN reorder them once instead of in every step; a folded batch norm costs nothing. TensorFlow's
own folding (optimize_for_inference_lib.fold_batch_norms) does the same, but scales weights one by one in Python, which
takes half a minute for ResNet-50, and forgets the layout of the biases in NCHW.
"""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

# Of a serialized graph.
_MOST_BYTES = 2**31 - 1
# The axes of a convolution's weights that its output channels are on.
_OUTPUT_AXES = {'Conv2D': (3,), 'DepthwiseConv2dNative': (2, 3)}


def can_be_frozen() -> bool:
    """Whether a graph can hold the values of the current graph's variables: those of vgg_416 are 2.2 GiB."""
    return sum(variable.dtype.size * variable.shape.num_elements() for variable in tf.global_variables()) <= _MOST_BYTES


def freeze(session: tf.Session, output: str) -> tf.GraphDef:
    """The part of the session's graph that computes the operation `output`, with its variables' present values."""
    frozen = tf.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), [output])
    functions = frozen.library
    frozen = tf.graph_util.remove_training_nodes(frozen, protected_nodes=[output])
    # Which it forgets: those of tf.cond and tf.function in a user's own network.
    frozen.library.CopyFrom(functions)
    _reshape_constants(frozen)
    return tf.graph_util.extract_sub_graph(frozen, [output])


def _reshape_constants(graph_def: tf.GraphDef) -> None:
    """Turns each Reshape of a constant into the reshaped constant.

    Grappler would as well, but copies the half gigabyte of VGG's fully connected weights several times for it, which
    takes longer than all the rest of its start.
    """
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        if node.op != 'Reshape':
            continue
        source, shape = (nodes.get(name) for name in node.input[:2])
        if source is None or shape is None or source.op != 'Const' or shape.op != 'Const':
            continue
        sizes = [int(size) for size in tf.make_ndarray(shape.attr['value'].tensor)]
        elements = math.prod(dimension.size for dimension in source.attr['value'].tensor.tensor_shape.dim)
        rest = math.prod(size for size in sizes if size >= 0)
        node.op = 'Const'
        del node.input[:]
        node.attr.clear()
        for name in ('dtype', 'value'):
            node.attr[name].CopyFrom(source.attr[name])
        node.attr['value'].tensor.tensor_shape.CopyFrom(
            tf.TensorShape([elements // rest if size < 0 else size for size in sizes]).as_proto()
        )


def fold_batch_norms(graph_def: tf.GraphDef, output: str) -> tf.GraphDef:
    """Scales each convolution's constant weights by the batch norm behind it, which becomes an addition of biases.

    Biases that are added between the two, as Keras' ResNets do, become a part of the new ones. A batch norm that does
    not follow a convolution, follows one whose result is used elsewhere too, or uses the batch's own statistics, stays.
    Only what leads to the operation `output` is left.
    """
    nodes = {node.name: node for node in graph_def.node}
    readers = collections.Counter(name for node in graph_def.node for name in node.input)
    for node in graph_def.node:
        if node.op != 'FusedBatchNormV3' or node.attr['is_training'].b:
            continue
        before = nodes.get(node.input[0])
        biases = ''
        if before is not None and before.op == 'BiasAdd' and readers[before.name] == 1:
            biases, before = before.input[1], nodes.get(before.input[0])
        if before is None or before.op not in _OUTPUT_AXES or readers[before.name] > 1:
            continue
        # Another output than an operation's first is no node's name.
        read = [nodes.get(name) for name in (before.input[1], *node.input[1:5], *([biases] if biases else []))]
        found = [constant for constant in read if constant is not None and constant.op == 'Const']
        if len(found) == len(read) and all(readers[each.name] == 1 for each in (found[0], found[2])):
            _fold(node, before, found[0], found[5] if biases else None, found[1:5])
    return tf.graph_util.extract_sub_graph(graph_def, [output])


def _fold(
    batch_norm: tf.NodeDef,
    convolution: tf.NodeDef,
    weights: tf.NodeDef,
    biases: tf.NodeDef | None,
    constants: list[tf.NodeDef],
) -> None:
    """Turns one batch norm into a BiasAdd whose biases stand where the batch norm's offset stood."""
    scale, offset, mean, variance = map(_value, constants)
    factor = scale / np.sqrt(variance + batch_norm.attr['epsilon'].f)
    values = _value(weights)
    shape = [size if axis in _OUTPUT_AXES[convolution.op] else 1 for axis, size in enumerate(values.shape)]
    _set_value(weights, values * factor.reshape(shape))
    _set_value(constants[1], offset + ((0 if biases is None else _value(biases)) - mean) * factor)
    batch_norm.op = 'BiasAdd'
    del batch_norm.input[:]
    batch_norm.input.extend([convolution.name, constants[1].name])
    for name in list(batch_norm.attr):
        if name not in ('T', 'data_format'):
            del batch_norm.attr[name]


def _value(constant: tf.NodeDef) -> np.ndarray:
    return tf.make_ndarray(constant.attr['value'].tensor)


def _set_value(constant: tf.NodeDef, value: np.ndarray) -> None:
    constant.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))


def attach(graph_def: tf.GraphDef, placeholder: str, images: Any, output: str) -> Any:
    """Puts a frozen graph behind `images` in the current graph and gives its output tensor."""
    (tensor,) = tf.import_graph_def(
        graph_def, input_map={f'{placeholder}:0': images}, return_elements=[f'{output}:0'], name=''
    )
    return tensor
