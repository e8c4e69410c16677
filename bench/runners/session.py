"""How TensorFlow is asked to run a graph: threads, mixed precision, XLA."""

from __future__ import annotations

import os

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2


def config(
    *, intra_threads: int, inter_threads: int, precision: str, xla: bool, frozen: bool = False
) -> tf.ConfigProto:
    """The configuration of a session.

    Args:
      precision: 'bf16' lets grappler compute in bfloat16 what oneDNN computes well in it (the pass
        auto_mixed_precision_onednn_bfloat16); variables stay float32.
      xla: compile what can be compiled. XLA leaves operations on the CPU alone unless TF_XLA_FLAGS says otherwise,
        to which this adds.
      frozen: for a graph whose weights are constants: grappler goes over it once, not twice, each time copying them;
        what it makes of the graph is the same, but in bfloat16, where the second time makes constants of cast weights.
    """
    proto = tf.ConfigProto(
        intra_op_parallelism_threads=intra_threads,
        inter_op_parallelism_threads=inter_threads,
        allow_soft_placement=True,
    )
    rewrites = proto.graph_options.rewrite_options
    if precision == 'bf16':
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    if frozen and precision != 'bf16':
        rewrites.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    if xla:
        flags = os.environ.get('TF_XLA_FLAGS', '')
        if '--tf_xla_cpu_global_jit' not in flags:
            os.environ['TF_XLA_FLAGS'] = f'{flags} --tf_xla_cpu_global_jit'.strip()
        proto.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    return proto
