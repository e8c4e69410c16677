"""bench/models/gradients.py against TensorFlow's own gradients of the same operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bench.machine import cpu, tensorflow_build
from bench.models import gradients


def _gradients(output: Any, inputs: list[Any]) -> list[np.ndarray]:
    """Of a sum with weights that differ from element to element, so that a mixed-up order shows."""
    count = output.shape.num_elements()
    weighted = tf.reduce_sum(output * tf.reshape(tf.sin(tf.range(count, dtype=tf.float32)), output.shape))
    with tf.Session() as session:
        return session.run(tf.gradients(weighted, inputs))


def _normal(seed: int, *shape: int) -> Any:
    return tf.constant(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(('inputs', 'outputs'), [(24, 8), (8, 24), (16, 16), (1, 1)])
def test_pointwise_gradients_are_those_of_the_convolution(inputs: int, outputs: int) -> None:
    with tf.Graph().as_default():
        x, weights = _normal(1, 3, 5, 7, inputs), _normal(2, 1, 1, inputs, outputs)
        expected = _gradients(tf.nn.conv2d(x, weights, 1, 'SAME'), [x, weights])
        with gradients.of_convolution((1, 1), 1, 'NHWC', inputs):
            output = tf.nn.conv2d(x, weights, 1, 'SAME')
        for ours, theirs in zip(_gradients(output, [x, weights]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('size', [(3, 3), (1, 7), (7, 1), (5, 5), (2, 4)])
def test_spatial_gradients_are_those_of_the_convolution(
    size: tuple[int, int], padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without AVX-512, where oneDNN computes.
    monkeypatch.setattr(cpu, 'flags', lambda: frozenset({'sse4_1', 'avx2'}))
    monkeypatch.setattr(tensorflow_build, 'onednn_enabled', lambda: True)
    with tf.Graph().as_default() as graph:
        x, weights = _normal(1, 2, 9, 8, 16), _normal(2, *size, 16, 5)
        expected = _gradients(tf.nn.conv2d(x, weights, 1, padding), [x, weights])
        native = sum(each.type == 'Conv2DBackpropFilter' for each in graph.get_operations())
        with gradients.of_convolution(size, 1, 'NHWC', 16):
            output = tf.nn.conv2d(x, weights, 1, padding)
        for ours, theirs in zip(_gradients(output, [x, weights]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
        assert sum(each.type == 'Conv2DBackpropFilter' for each in graph.get_operations()) == native == 1


def test_gradients_of_a_fully_connected_layer_are_those_of_the_product() -> None:
    with tf.Graph().as_default():
        x, weights = _normal(1, 5, 11), _normal(2, 11, 13)
        expected = _gradients(tf.matmul(x, weights), [x, weights])
        with gradients.of_dense():
            output = tf.matmul(x, weights)
        for ours, theirs in zip(_gradients(output, [x, weights]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
