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


ZEN5 = frozenset({'sse4_1', 'avx2', 'avx512f', 'avx512bw', 'avx512dq', 'avx512vl', 'avx512_bf16'})


@pytest.fixture(params=['avx2', 'avx512'])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of processors where oneDNN computes."""
    flags = frozenset({'sse4_1', 'avx2'}) if request.param == 'avx2' else ZEN5
    monkeypatch.setattr(cpu, 'flags', lambda: flags)
    monkeypatch.setattr(tensorflow_build, 'onednn_enabled', lambda: True)
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    monkeypatch.delenv('DNNL_MAX_CPU_ISA', raising=False)
    return str(request.param)


def _assert_those_of_the_convolution(
    x: Any, weights: Any, stride: int, padding: str, precision: str, native: int
) -> None:
    """Args:
    native: how many of TensorFlow's own gradients to weights are in ours.
    """
    expected = _gradients(tf.nn.conv2d(x, weights, stride, padding), [x, weights])
    operations = tf.get_default_graph().get_operations
    before = sum(each.type == 'Conv2DBackpropFilter' for each in operations())
    with gradients.of_convolution(x, weights, stride, padding, 'NHWC', precision):
        output = tf.nn.conv2d(x, weights, stride, padding)
    for ours, theirs in zip(_gradients(output, [x, weights]), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (before, sum(each.type == 'Conv2DBackpropFilter' for each in operations())) == (1, 1 + native)


@pytest.mark.parametrize(('inputs', 'outputs'), [(24, 8), (8, 24), (16, 16), (1, 1)])
def test_pointwise_gradients_are_those_of_the_convolution(inputs: int, outputs: int) -> None:
    with tf.Graph().as_default():
        _assert_those_of_the_convolution(
            _normal(1, 3, 5, 7, inputs), _normal(2, 1, 1, inputs, outputs), 1, 'SAME', 'fp32', native=0
        )


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('size', [(3, 3), (1, 7), (7, 1), (5, 5), (2, 4)])
@pytest.mark.parametrize('level', ['avx2'], indirect=True)
def test_gradients_as_products_are_those_of_the_convolution(size: tuple[int, int], padding: str, level: str) -> None:
    with tf.Graph().as_default():
        _assert_those_of_the_convolution(
            _normal(1, 2, 9, 8, 16), _normal(2, *size, 16, 5), 1, padding, 'fp32', native=0
        )


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('size', [(3, 3), (1, 3), (5, 4), (2, 2)])
@pytest.mark.parametrize('map_size', [(9, 8), (8, 11), (7, 7)])
@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('level', ['avx512'], indirect=True)
def test_gradients_of_strided_convolutions_as_products_are_theirs(
    map_size: tuple[int, int],
    size: tuple[int, int],
    padding: str,
    stride: int,
    level: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Computed in float32 all the same, for values that can be compared.
    monkeypatch.setattr(gradients, '_MANY_CHANNELS', 16)
    with tf.Graph().as_default():
        _assert_those_of_the_convolution(
            _normal(1, 2, *map_size, 16), _normal(2, *size, 16, 17), stride, padding, 'bf16', native=0
        )


@pytest.mark.parametrize('height', [28, 45])
@pytest.mark.parametrize('width', [1, 3, 4])
@pytest.mark.parametrize('level', ['avx512'], indirect=True)
def test_gradients_of_tiles_are_those_of_the_whole_map(
    height: int, width: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, '_LARGE_MAP', 100)
    with tf.Graph().as_default():
        # Of the tiles, of the rows above the cuts, of those below.
        _assert_those_of_the_convolution(
            _normal(1, 2, height, 9, 16), _normal(2, 3, width, 16, 5), 1, 'SAME', 'fp32', native=3
        )


LARGE, SMALL = (224, 224), (14, 14)


@pytest.mark.parametrize(
    ('level', 'size', 'weights', 'stride', 'padding', 'precision', 'expected'),
    [
        ('avx2', LARGE, (3, 3, 64, 64), 1, 'SAME', 'fp32', 'ProductsConv2D'),
        ('avx2', LARGE, (3, 3, 3, 64), 1, 'SAME', 'fp32', None),
        ('avx2', SMALL, (3, 3, 512, 512), 2, 'VALID', 'fp32', None),
        ('avx512', LARGE, (1, 1, 64, 64), 1, 'SAME', 'fp32', 'PointwiseConv2D'),
        ('avx512', LARGE, (3, 3, 64, 64), 1, 'SAME', 'fp32', 'TilesConv2D'),
        ('avx512', LARGE, (3, 3, 64, 64), 1, 'SAME', 'bf16', None),
        ('avx512', LARGE, (3, 3, 64, 64), 1, 'VALID', 'fp32', None),
        ('avx512', LARGE, (5, 5, 64, 64), 1, 'SAME', 'fp32', None),
        ('avx512', (149, 149), (3, 3, 32, 32), 1, 'SAME', 'fp32', None),
        ('avx512', LARGE, (3, 3, 3, 64), 1, 'SAME', 'fp32', None),
        ('avx512', (56, 56), (3, 3, 256, 256), 1, 'SAME', 'fp32', None),
        ('avx512', SMALL, (3, 3, 512, 512), 1, 'SAME', 'fp32', None),
        ('avx512', SMALL, (3, 3, 512, 512), 1, 'SAME', 'bf16', 'ProductsConv2D'),
        ('avx512', SMALL, (3, 3, 512, 128), 1, 'SAME', 'bf16', None),
        ('avx512', (35, 35), (3, 3, 192, 192), 1, 'SAME', 'bf16', None),
        ('avx512', (35, 35), (3, 3, 192, 192), 2, 'VALID', 'bf16', 'ProductsConv2D'),
        ('avx512', (35, 35), (3, 3, 288, 384), 2, 'VALID', 'fp32', None),
        ('avx512', SMALL, (1, 1, 512, 512), 2, 'VALID', 'bf16', None),
        ('avx512', (None, 14), (3, 3, 512, 512), 1, 'SAME', 'bf16', None),
        ('avx2', (None, None), (3, 3, 512, 512), 1, 'SAME', 'fp32', None),
        ('avx2', (None, None), (1, 1, 512, 512), 1, 'SAME', 'fp32', 'PointwiseConv2D'),
    ],
    indirect=['level'],
)
def test_the_way_to_a_gradient_is_the_one_that_was_measured_as_fastest(
    level: str,
    size: tuple[int | None, ...],
    weights: tuple[int, ...],
    stride: int,
    padding: str,
    precision: str,
    expected: str | None,
) -> None:
    assert gradients._fastest(size, weights, stride, padding, precision) == expected


@pytest.mark.parametrize('level', ['avx512'], indirect=True)
def test_gradients_are_left_alone_where_nobody_measured_them(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fastest() -> tuple[str | None, str | None]:
        return (
            gradients._fastest(SMALL, (3, 3, 512, 512), 1, 'SAME', 'bf16'),
            gradients._fastest(LARGE, (3, 3, 64, 64), 1, 'SAME', 'fp32'),
        )

    assert fastest() == ('ProductsConv2D', 'TilesConv2D')
    monkeypatch.setattr(cpu, 'flags', lambda: ZEN5 | {'amx_tile', 'amx_bf16'})
    assert fastest() == (None, None)
    monkeypatch.setattr(cpu, 'flags', lambda: frozenset({'asimd', 'sve', 'bf16'}))
    assert fastest() == (None, None)
    monkeypatch.setattr(cpu, 'flags', lambda: ZEN5)
    monkeypatch.setattr(tensorflow_build, 'onednn_enabled', lambda: False)
    assert fastest() == (None, None)


@pytest.mark.parametrize('level', ['avx512'], indirect=True)
def test_gradients_of_biases_are_those_of_the_addition(level: str) -> None:
    with tf.Graph().as_default() as graph:
        x, biases = _normal(1, 2, 5, 3, 128), _normal(2, 128)
        expected = _gradients(tf.nn.bias_add(x, biases), [x, biases])
        with gradients.of_bias(x, 'NHWC'):
            output = tf.nn.bias_add(x, biases, data_format='NHWC')
        for ours, theirs in zip(_gradients(output, [x, biases]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
        assert sum(each.type == 'BiasAddGrad' for each in graph.get_operations()) == 1


def test_gradients_of_a_fully_connected_layer_are_those_of_the_product() -> None:
    with tf.Graph().as_default():
        x, weights = _normal(1, 5, 11), _normal(2, 11, 13)
        expected = _gradients(tf.matmul(x, weights), [x, weights])
        with gradients.of_dense():
            output = tf.matmul(x, weights)
        for ours, theirs in zip(_gradients(output, [x, weights]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
