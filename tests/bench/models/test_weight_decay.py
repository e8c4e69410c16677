"""Weight decay that is remembered by variable: in the graph, and in what the graph is exported to."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from bench.models import registry, weight_decay
from bench.models.build import build


def test_an_exported_graph_draws_no_warning_and_keeps_each_decay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tf.Graph().as_default():
        images = tf.zeros([1, 28, 28, 1])
        build(registry.get('lenet'), images, is_training=True, weight_decay=0.25)
        kept = [(decay.variable.op.name, decay.factor, decay.penalty.name) for decay in weight_decay.collected()]
        tf.get_logger().addHandler(caplog.handler)
        try:
            tf.train.export_meta_graph(str(tmp_path / 'graph.meta'))
        finally:
            tf.get_logger().removeHandler(caplog.handler)
    assert {name for name, _, _ in kept} == {f'LeNet/{layer}/weights' for layer in ('conv1', 'conv2', 'fc3', 'fc4')}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    with tf.Graph().as_default():
        tf.train.import_meta_graph(str(tmp_path / 'graph.meta'))
        read = [(decay.variable.op.name, decay.factor, decay.penalty.name) for decay in weight_decay.collected()]
    assert read == kept
