"""Makes a graph fit for inference: weights become constants, batch norm is folded into the convolutions before it.

Constant weights let oneDNN reorder them once instead of in every step; a folded batch norm costs nothing.
"""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.tools import optimize_for_inference_lib


def freeze(session: tf.Session, output: str) -> tf.GraphDef:
    """The part of the session's graph that computes the operation `output`, with its variables' present values."""
    frozen = tf.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), [output])
    return tf.graph_util.remove_training_nodes(frozen, protected_nodes=[output])


def fold_batch_norms(graph_def: tf.GraphDef) -> tf.GraphDef:
    """TensorFlow's own folding; it forgets the layout of the biases that it makes, which this mends for NCHW."""
    folded = optimize_for_inference_lib.fold_batch_norms(graph_def)
    layouts = {node.name: node.attr['data_format'] for node in folded.node if 'data_format' in node.attr}
    for node in folded.node:
        if node.op == 'BiasAdd' and 'data_format' not in node.attr and node.input[0] in layouts:
            node.attr['data_format'].CopyFrom(layouts[node.input[0]])
    return folded


def attach(graph_def: tf.GraphDef, placeholder: str, images: Any, output: str) -> Any:
    """Puts a frozen graph behind `images` in the current graph and gives its output tensor."""
    (tensor,) = tf.import_graph_def(
        graph_def, input_map={f'{placeholder}:0': images}, return_elements=[f'{output}:0'], name=''
    )
    return tensor
