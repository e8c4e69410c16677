"""Layers that are computed otherwise than they are written, against TensorFlow's plain operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from capable import CAN
from program import python

from bench.models.layers import Layers
from bench.models.style import BatchNorm

_layouts = pytest.mark.parametrize(
    'layout', ['NHWC', pytest.param('NCHW', marks=pytest.mark.skipif(not CAN.onednn, reason='NCHW needs oneDNN'))]
)


def _run(x: np.ndarray, layout: str, layer: Any, plain: Any) -> tuple[np.ndarray, np.ndarray]:
    """The layer's result, as NHWC, and that of `plain(x, weights)` on NHWC images with the layer's weights."""
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(data_format=layout)
        images = tf.constant(x if layout == 'NHWC' else x.transpose(0, 3, 1, 2))
        with net.style(activation=None, bias=None):
            result = layer(net, images)
        expected = plain(tf.constant(x), tf.trainable_variables()[0])
        session.run(tf.global_variables_initializer())
        got, wanted = session.run([result, expected])
    return (got if layout == 'NHWC' else got.transpose(0, 2, 3, 1)), wanted


@_layouts
@pytest.mark.parametrize('size', [(5, 5), (5, 4), (3, 3), (1, 1)])
def test_a_fully_connected_layer_is_the_convolution_that_slim_makes_of_it(layout: str, size: tuple[int, int]) -> None:
    x = np.random.RandomState(0).standard_normal((2, 5, size[1] if size[0] == 5 else 5, 7)).astype(np.float32)
    got, wanted = _run(
        x,
        layout,
        lambda net, images: net.full_conv(images, 11, size, 'fc'),
        lambda images, weights: tf.nn.conv2d(images, weights, 1, 'VALID'),
    )
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@_layouts
@pytest.mark.parametrize(('stride', 'padding'), [(1, 'SAME'), (2, 'SAME'), (2, 'VALID'), (2, 'FIXED')])
def test_a_convolution_of_one_channel_has_the_same_result_and_gradients_in_both_layouts(
    layout: str, stride: int, padding: str
) -> None:
    x = np.random.RandomState(0).standard_normal((3, 10, 9, 1)).astype(np.float32)

    def with_gradients(y: Any, images: Any, weights: Any) -> list[Any]:
        return [y, *tf.gradients(tf.reduce_sum(y**3), [images, weights])]

    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(data_format=layout)
        images = tf.constant(x if layout == 'NHWC' else x.transpose(0, 3, 1, 2))
        y = net.conv(images, 6, 5, 'conv', stride=stride, padding=padding, activation=None, bias=None)
        (weights,) = tf.trainable_variables()
        plain = tf.constant(x)
        padded = tf.pad(plain, [(0, 0), (2, 2), (2, 2), (0, 0)]) if padding == 'FIXED' else plain
        z = tf.nn.conv2d(padded, weights, stride, 'SAME' if padding == 'SAME' else 'VALID')
        session.run(tf.global_variables_initializer())
        got = session.run(with_gradients(y, images, weights))
        wanted = session.run(with_gradients(z, plain, weights))
    for mine, other in zip(got, wanted, strict=True):
        is_map = layout == 'NCHW' and mine.shape[:2] != (5, 5)
        np.testing.assert_allclose(mine.transpose(0, 2, 3, 1) if is_map else mine, other, rtol=1e-4, atol=1e-4)


def _with_gradients(layout: str, images: int, *, stride: int = 1, padding: str = 'SAME') -> list[np.ndarray]:
    """What some convolutions give in training, and the gradients to the images and the weights; maps in NHWC."""
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(data_format=layout, is_training=True)
        plain = tf.constant(np.random.RandomState(0).standard_normal((images, 9, 8, 5)).astype(np.float32))
        x = plain if layout == 'NHWC' else tf.transpose(plain, [0, 3, 1, 2])
        x = net.conv(x, 6, 3, 'conv', stride=stride, padding=padding)
        x = net.separable(net.conv(x, 4, 1, 'pointwise'), 7, 3, 'separable', bias=0.1)
        x = net.depthwise(x, 3, 'depthwise')
        y = x if layout == 'NHWC' else tf.transpose(x, [0, 2, 3, 1])
        weights = tf.trainable_variables()
        values = [tf.sin(tf.range(v.shape.num_elements(), dtype=tf.float32) + i) for i, v in enumerate(weights)]
        set_ = [v.assign(tf.reshape(value, v.shape)) for v, value in zip(weights, values, strict=True)]
        session.run(set_)
        found: list[np.ndarray] = session.run([y, *tf.gradients(tf.reduce_sum(y**2), [plain, *weights])])
        return found


@pytest.mark.skipif(not CAN.onednn, reason='NCHW needs oneDNN')
@pytest.mark.parametrize('images', [1, 2])
@pytest.mark.parametrize(('stride', 'padding'), [(1, 'SAME'), (2, 'VALID'), (2, 'FIXED')])
def test_a_single_image_is_convolved_otherwise_in_nchw(images: int, stride: int, padding: str) -> None:
    found = (_with_gradients(layout, images, stride=stride, padding=padding) for layout in ('NCHW', 'NHWC'))
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


# Which takes a hundred times as long, so that vgg_16 made no step in 90 seconds.
@pytest.mark.skipif(not CAN.onednn, reason='NCHW needs oneDNN')
@pytest.mark.parametrize('layout', ['NHWC', 'NCHW'])
@pytest.mark.parametrize('job', ['training', 'inference'])
def test_a_single_image_is_computed_by_onednns_reference_code(layout: str, job: str) -> None:
    code = """
import os, sys
os.environ['ONEDNN_VERBOSE'] = '1'
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
import tensorflow.compat.v1 as tf
from bench.models.layers import Layers
with tf.Graph().as_default(), tf.Session() as session:
    net = Layers(data_format=sys.argv[1], is_training=sys.argv[2] == 'training')
    images = tf.random.uniform([1, 16, 16, 32] if sys.argv[1] == 'NHWC' else [1, 32, 16, 16])
    x = net.conv(images, 32, 3, 'a', stride=2)
    x = net.separable(net.depthwise(x, 3, 'b'), 64, 3, 'c')
    loss = tf.reduce_sum(net.conv(x, 32, 1, 'd') ** 2)
    session.run(tf.global_variables_initializer())
    session.run(tf.gradients(loss, tf.trainable_variables()) if net.is_training else loss)
"""
    done = python(code, layout, job)
    assert done.returncode == 0, done.stderr
    lines = [line.split(',') for line in done.stdout.splitlines() if ',exec,' in line and ',convolution,' in line]
    implementations = [fields[fields.index('convolution') + 1] for fields in lines]
    # Four convolutions and two depthwise ones; in training their gradients, too.
    assert len(implementations) >= (10 if job == 'training' else 4)
    assert [name for name in implementations if name.startswith('ref')] == []


@_layouts
@pytest.mark.parametrize('pixels', [3, 4])
def test_a_fully_connected_layer_can_have_batch_norm(layout: str, pixels: int) -> None:
    with tf.Graph().as_default():
        net = Layers(data_format=layout, is_training=True)
        images = tf.zeros([2, pixels, pixels, 5] if layout == 'NHWC' else [2, 5, pixels, pixels])
        x = net.full_conv(images, 7, 3, 'fc', batch_norm=BatchNorm())
        assert net.map_size(x) == (pixels - 2, pixels - 2)
        assert [v.op.name for v in tf.trainable_variables()] == [
            'fc/weights',
            'fc/BatchNorm/gamma',
            'fc/BatchNorm/beta',
        ]


@_layouts
@pytest.mark.parametrize('is_training', [True, False])
def test_batch_norm_of_a_matrix_is_over_its_rows(layout: str, is_training: bool) -> None:
    x = np.random.RandomState(0).standard_normal((6, 4)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(data_format=layout, is_training=is_training)
        with net.style(batch_norm=BatchNorm(decay=0.9, epsilon=0.5), activation=None):
            y = net.dense(tf.constant(x), 3, 'fc')
        weights, gamma, beta, *_ = tf.global_variables()
        assert [v.op.name for v in (weights, gamma, beta)] == ['fc/weights', 'fc/BatchNorm/gamma', 'fc/BatchNorm/beta']
        session.run(tf.global_variables_initializer())
        session.run([gamma.assign([1.0, 2.0, 3.0]), beta.assign([4.0, 5.0, 6.0])])
        got, matrix = session.run([y, weights])
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        mean = session.run(next(v for v in tf.global_variables() if v.op.name == 'fc/BatchNorm/moving_mean'))
    product = x @ matrix
    center, spread = (product.mean(0), product.var(0)) if is_training else (0, 1)
    wanted = (product - center) / np.sqrt(spread + 0.5) * [1, 2, 3] + [4, 5, 6]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, 0.1 * product.mean(0) * is_training, rtol=1e-4, atol=1e-6)


@_layouts
@pytest.mark.parametrize('pixels', [13, 14])
@pytest.mark.parametrize(('size', 'stride'), [(3, 2), (7, 2), (3, 1), (4, 2)])
def test_fixed_padding_does_not_depend_on_the_size_of_the_map(layout: str, pixels: int, size: int, stride: int) -> None:
    x = np.random.RandomState(0).standard_normal((2, pixels, pixels, 3)).astype(np.float32)
    before = (size - 1) // 2
    around = [(0, 0), (before, size - 1 - before), (before, size - 1 - before), (0, 0)]
    got, wanted = _run(
        x,
        layout,
        lambda net, images: net.conv(images, 5, size, 'conv', stride=stride, padding='FIXED'),
        lambda images, weights: tf.nn.conv2d(tf.pad(images, around), weights, stride, 'VALID'),
    )
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@_layouts
def test_local_response_normalization_is_over_channels_in_both_layouts(layout: str) -> None:
    x = np.random.RandomState(0).uniform(0, 30, (2, 4, 4, 9)).astype(np.float32)
    squares = np.stack([(x[..., max(0, c - 2) : c + 3] ** 2).sum(-1) for c in range(9)], -1)
    got, _ = _run(
        x,
        layout,
        lambda net, images: (net.conv(images, 1, 1, 'unused'), net.local_response_norm(images, 2, 1.0, 0.1, 0.75))[1],
        lambda images, weights: weights,
    )
    np.testing.assert_allclose(got, x / (1 + 0.1 * squares) ** 0.75, rtol=1e-5)


@_layouts
def test_flattening_has_the_same_order_in_both_layouts(layout: str) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(data_format=layout)
        got = session.run(net.flatten(tf.constant(x if layout == 'NHWC' else x.transpose(0, 3, 1, 2))))
    np.testing.assert_array_equal(got, x.reshape(2, -1))


def test_weight_decay_is_half_the_sum_of_squares_times_its_rate() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(weight_decay=0.1)
        net.dense(net.depthwise(tf.ones([1, 1, 1, 2]), 1, 'no')[:, 0, 0], 3, 'yes')
        session.run(tf.global_variables_initializer())
        (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        weights = next(v for v in tf.trainable_variables() if v.op.name == 'yes/weights')
        got, values = session.run([loss, weights])
    assert got == pytest.approx(0.05 * (values**2).sum(), rel=1e-5)


def test_dropout_drops_in_training_alone() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.ones([100, 100])
        still = session.run(Layers(is_training=False).dropout(x, 0.5))
        dropped = session.run(Layers(is_training=True).dropout(x, 0.8))
        other = session.run(Layers(is_training=True, dropout_keep_prob=1.0).dropout(x, 0.5))
    assert (still == 1).all()
    assert (other == 1).all()
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1.25)}
    assert (dropped == 0).mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(('step', 'kept'), [(0, 1.0), (500, 0.75), (1000, 0.5), (9000, 0.5)])
@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_drop_path_keeps_whole_images_as_often_as_its_schedule_says(step: int, kept: float, dtype: Any) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        tf.train.get_or_create_global_step()
        # Half way into the network, 0.5 of the way to dropping every branch.
        ones = tf.ones([4000, 2, 2, 1], dtype)
        x = Layers(is_training=True).drop_path(ones, keep_prob=0.0, depth=0.5, total_steps=1000)
        assert x.dtype == dtype
        session.run(tf.train.get_global_step().initializer)
        session.run(tf.train.get_global_step().assign(step))
        values = session.run(tf.cast(x, tf.float32))
    assert (values == values[:, :1, :1]).all()
    assert (values[:, 0, 0, 0] > 0).mean() == pytest.approx(kept, abs=0.03)
    assert values.max() == pytest.approx(1 / kept, rel=0.01)


def test_drop_path_does_nothing_outside_training() -> None:
    with tf.Graph().as_default():
        x = tf.ones([2, 2, 2, 1])
        assert Layers(is_training=False).drop_path(x, keep_prob=0.5, depth=1.0, total_steps=1) is x


@_layouts
def test_a_shifted_map_begins_one_pixel_further(layout: str) -> None:
    x = np.arange(2 * 3 * 3 * 2, dtype=np.float32).reshape(2, 3, 3, 2)
    wanted = np.zeros_like(x)
    wanted[:, :2, :2] = x[:, 1:, 1:]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(x if layout == 'NHWC' else x.transpose(0, 3, 1, 2))
        got = session.run(Layers(data_format=layout).shift(images))
    np.testing.assert_array_equal(got if layout == 'NHWC' else got.transpose(0, 2, 3, 1), wanted)


@_layouts
def test_a_separable_convolution_is_a_depthwise_and_a_pointwise_one(layout: str) -> None:
    x = np.random.RandomState(0).standard_normal((2, 9, 9, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers(data_format=layout)
        with net.style(activation=None, bias=None):
            images = tf.constant(x if layout == 'NHWC' else x.transpose(0, 3, 1, 2))
            result = net.separable(images, 5, 3, 'separable', stride=2, multiplier=4)
        session.run(tf.global_variables_initializer())
        depthwise, pointwise = tf.trainable_variables()
        expected = tf.nn.separable_conv2d(tf.constant(x), depthwise, pointwise, [1, 2, 2, 1], 'SAME')
        got, wanted = session.run([result, expected])
    np.testing.assert_allclose(got if layout == 'NHWC' else got.transpose(0, 2, 3, 1), wanted, atol=1e-5)


@pytest.mark.parametrize(('name', 'at'), [('relu6', (0, 0, 1.5, 6)), ('hard_swish', (0, -1 / 3, 1.125, 7))])
def test_activations_are_those_of_their_papers(name: str, at: tuple[float, ...]) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        net = Layers()
        x = tf.constant([[-4.0], [-1.0], [1.5], [7.0]])
        y = net.dense(x, 1, 'one', activation=name, bias=None)
        session.run(tf.trainable_variables()[0].assign([[1.0]]))
        assert session.run(y)[:, 0] == pytest.approx(at)


@pytest.mark.skipif(not CAN.bf16, reason=f'no bfloat16 here: {CAN.bf16_reason}')
@pytest.mark.parametrize('activation', ['hard_swish', 'hard_sigmoid'])
def test_rounding_a_sixth_to_bfloat16_does_not_enlarge_every_result(activation: str) -> None:
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    # Of values that bfloat16 has. One result may be off by 0.4 %, but not all of them in the same direction.
    x = np.random.RandomState(0).randint(-128, 256, (1, 64, 64, 1)).astype(np.float32) / 64
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        net = Layers()
        images = tf.placeholder(tf.float32, x.shape)
        with net.style(bias=None, activation=None):
            # A constant factor before a convolution that is not depthwise would be multiplied into its weights.
            y = net.depthwise(net.conv(images, 1, 1, 'before', activation=activation), 1, 'between')
            y = net.conv(y, 1, 1, 'after')
        session.run([weights.assign([[[[1.0]]]]) for weights in tf.trainable_variables()])
        got = session.run(y, {images: x})
    gate = np.clip(x + 3, 0, 6) / 6
    wanted = x * gate if activation == 'hard_swish' else gate
    assert not np.array_equal(got, wanted), 'this was not computed in bfloat16'
    assert got.sum() == pytest.approx(wanted.sum(), rel=5e-4)
