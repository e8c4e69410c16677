"""Every network against what the published one was seen to compute.

tests/data/networks.json.gz has the published networks' variables, end points, parameters and multiply-adds with 1001
classes; tests/data/networks.npz every eighth logit for two images, the standard deviation of all logits, and mean and
standard deviation of each end point, with the weights of published.py and the images of `_images`. Batch norm's moving
statistics there are those of the same two images, which a training step computes, times a factor close to 1 that moving
averages had reached.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from published import weight as published_weight

from bench.errors import UsageError
from bench.machine import capabilities
from bench.models import multiply_adds, registry
from bench.models.build import Output, build
from bench.models.layers import Layers

_DATA = Path(__file__).parents[2] / 'data'
_PUBLISHED: dict[str, Any] = json.loads(gzip.decompress((_DATA / 'networks.json.gz').read_bytes()))
_NUMBERS = np.load(_DATA / 'networks.npz')

# A few small networks of different families are always tested; the rest by `make test-all`.
_QUICK = (
    'alexnet_v2',
    'cifarnet',
    'lenet',
    'mobilenet_v1_025',
    'mobilenet_v2_035',
    'mobilenet_v3_small',
    'resnet_v1_50',
    'trivial',
)
_ALL = [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in (network.name for network in registry.all_networks())
]
_networks = pytest.mark.parametrize('name', _ALL)
# vgg_416 has 2.3 GB of weights, and does with them what vgg_16 does.
_run_networks = pytest.mark.parametrize('name', [name for name in _ALL if 'vgg_416' not in getattr(name, 'values', ())])

_CAN = capabilities.detect()
_needs_nchw = pytest.mark.skipif(not _CAN.onednn, reason=f'NCHW needs oneDNN: {_CAN.onednn_reason}')
_needs_bf16 = pytest.mark.skipif(not _CAN.bf16, reason=f'no bfloat16 here: {_CAN.bf16_reason}')
_LAYOUTS = ('NHWC', 'NCHW') if _CAN.onednn else ('NHWC',)

_STEP = 0.0001
# How much more than others a network with these random weights magnifies rounding: in inception_v4 a change of all
# weights by 1e-7 of themselves moves the logits by 3e-3 of their standard deviation, without any change of layout.
_MAGNIFIED = {'inception_v4': 30}


def _images(network: registry.Network) -> np.ndarray:
    """[2, H, W, C] between -1 and 1, always the same."""
    shape = (2, network.image_size, network.image_size, network.channels)
    return np.random.RandomState(2016).uniform(-1, 1, shape).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What a network computes here; by layout, or 'bf16' for NHWC in bfloat16."""

    logits: dict[str, np.ndarray]
    end_points: dict[str, np.ndarray]  # mean and standard deviation of each, NHWC
    weights: list[np.ndarray]
    updates: dict[str, list[np.ndarray]]  # change of each weight by a step of gradient descent


@functools.cache
def _seen(name: str) -> _Seen:
    network = registry.get(name)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, _images(network).shape)
        feed = {images: _images(network)}
        training = {'NHWC': _build(network, images, 'NHWC', is_training=True)}
        statistics = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        if _CAN.onednn:
            training['NCHW'] = _build(network, images, 'NCHW', is_training=True)
        inference = {layout: _build(network, images, layout, is_training=False) for layout in training}
        moments = {
            key: tf.stack([tf.reduce_mean(x), tf.math.reduce_std(x)]) for key, x in inference['NHWC'].end_points.items()
        }
        updates = {layout: _updates(output) for layout, output in training.items()}
        values = _values(session, statistics, feed, float(_NUMBERS.get(f'{name}:factor', 1)))
        seen = _Seen(
            {layout: session.run(output.logits, feed) for layout, output in inference.items()},
            session.run(moments, feed),
            session.run(tf.trainable_variables()),
            {layout: session.run(update, feed) for layout, update in updates.items()},
        )
        if _CAN.bf16:
            with tf.Session(config=_bf16()) as bf16:
                _load(bf16, values)
                seen.logits['bf16'] = bf16.run(inference['NHWC'].logits, feed)
    return seen


def _values(session: Any, statistics: list[Any], feed: dict[Any, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    """Gives all variables their values; moving statistics by a training step."""
    trained = {v.op.name for v in tf.trainable_variables()}
    _load(session, {v.op.name: published_weight(v.op.name, tuple(v.shape)) for v in tf.trainable_variables()})
    _load(session, {v.op.name: np.zeros(v.shape) for v in tf.global_variables() if v.op.name not in trained})
    session.run(statistics, feed)
    values = dict(zip((v.op.name for v in tf.global_variables()), session.run(tf.global_variables()), strict=True))
    values = {key: value if key in trained else value * np.float32(factor) for key, value in values.items()}
    _load(session, values)
    return values


def _build(network: registry.Network, images: Any, layout: str, **options: Any) -> Output:
    """Without dropout; batch norm's statistics become those of the batch at once."""
    x = images if layout == 'NHWC' else tf.transpose(images, [0, 3, 1, 2])
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        return build(network, x, data_format=layout, batch_norm_decay=0.0, dropout_keep_prob=1.0, **options)


def _updates(output: Output) -> list[Any]:
    labels = tf.constant([3, 5])
    losses = [
        tf.losses.sparse_softmax_cross_entropy(labels, logits, weights=weight, loss_collection=None)
        for logits, weight in ((output.logits, 1.0), *((aux, 0.4) for aux in output.aux_logits))
    ]
    return [-_STEP * gradient for gradient in tf.gradients(tf.add_n(losses), tf.trainable_variables())]


def _load(session: Any, values: dict[str, np.ndarray]) -> None:
    variables = [v for v in tf.global_variables() if v.op.name in values]
    session.run([v.initializer for v in variables], {v.initializer.inputs[1]: values[v.op.name] for v in variables})


def _bf16() -> Any:
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    return config


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of logits, in their standard deviations."""
    return float(np.abs(one - other).max() / one.std())


@functools.cache
def _structure(name: str, layout: str, **options: Any) -> Any:
    """What can be told of a network without running it, built for one image with 1001 classes."""
    network = registry.get(name)
    size = network.image_size
    with tf.Graph().as_default():
        shape = (1, size, size, network.channels) if layout == 'NHWC' else (1, network.channels, size, size)
        output = build(network, tf.zeros(shape), data_format=layout, **options)
        trained = {v.op.name for v in tf.trainable_variables()}
        return {
            'logits': output.logits.op.name,
            'variables': [
                {'name': v.op.name, 'shape': v.shape.as_list(), 'trainable': v.op.name in trained}
                for v in tf.global_variables()
            ],
            'end_points': {key: x.shape.as_list() for key, x in output.end_points.items()},
            'parameters': sum(v.shape.num_elements() for v in tf.global_variables()),
            'multiply_adds': multiply_adds.count([output.logits, *output.aux_logits]),
            'decaying': sorted(_decaying()),
        }


def _decaying() -> list[str]:
    """The variables that regularization losses are made of, found by walking the graph back."""
    found: list[str] = []
    for loss in tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES):
        waiting, names = [loss.op], set()
        while waiting:
            operation = waiting.pop()
            if operation.type == 'VarHandleOp':
                names.add(operation.name)
            waiting += [tensor.op for tensor in operation.inputs]
        assert len(names) == 1
        found += names
    return found


_PUBLISHED_HERE = [
    parameter for parameter in _ALL if (parameter if isinstance(parameter, str) else parameter.values[0]) in _PUBLISHED
]
_published = pytest.mark.parametrize('name', _PUBLISHED_HERE)


@_published
def test_published_checkpoints_restore_because_variables_are_the_published_ones(name: str) -> None:
    assert _structure(name, 'NHWC')['variables'] == _PUBLISHED[name]['variables']


@_published
def test_graphs_have_the_published_end_points_and_logits(name: str) -> None:
    seen = _structure(name, 'NHWC')
    assert seen['end_points'] == _PUBLISHED[name]['end_points']
    assert seen['logits'] == _PUBLISHED[name]['logits']


@_published
def test_the_registry_says_of_a_network_what_was_published(name: str) -> None:
    network, published = registry.get(name), _PUBLISHED[name]
    for fact in ('image_size', 'channels', 'parameters', 'multiply_adds'):
        assert getattr(network, fact) == published[fact], fact


@_networks
def test_parameters_and_multiply_adds_are_those_of_the_graph(name: str) -> None:
    seen = _structure(name, 'NHWC')
    assert (seen['parameters'], seen['multiply_adds']) == (
        registry.get(name).parameters,
        registry.get(name).multiply_adds,
    )


@_networks
def test_both_layouts_have_the_same_variables_and_work(name: str) -> None:
    nhwc, nchw = _structure(name, 'NHWC'), _structure(name, 'NCHW')
    for same in ('variables', 'logits', 'multiply_adds', 'decaying'):
        assert nhwc[same] == nchw[same]
    for key, (n, *others) in nhwc['end_points'].items():
        assert nchw['end_points'][key] == ([n, others[2], *others[:2]] if len(others) == 3 else [n, *others]), key


@_networks
def test_exactly_the_weights_decay_that_did_when_published(name: str) -> None:
    seen = _structure(name, 'NHWC')
    assert seen['decaying'] == sorted(v['name'] for v in seen['variables'] if _decays(v['name']))


def _decays(variable: str) -> bool:
    """What the published arg scopes say: weights, with a few exceptions."""
    nasnet = variable.startswith(('cell_', 'reduction_cell_', 'aux_', 'conv0', 'l1_stem', 'final_layer'))
    if variable.startswith(('CifarNet/conv', 'CifarNet/logits', 'InceptionV2/Conv2d_1a_7x7')):
        return False
    if variable.startswith('InceptionResnetV2') and variable.endswith('/biases'):
        return True
    return variable.endswith('weights') and (nasnet or not variable.endswith('depthwise_weights'))


@pytest.mark.parametrize('name', [name for name in _ALL if f'{getattr(name, "values", (name,))[0]}:logits' in _NUMBERS])
def test_logits_and_end_points_are_the_published_ones(name: str) -> None:
    logits = _seen(name).logits['NHWC']
    assert np.abs(logits[:, ::8] - _NUMBERS[f'{name}:logits']).max() < 1e-3 * _NUMBERS[f'{name}:std']
    for key, (mean, deviation) in zip(_PUBLISHED[name]['end_points'], _NUMBERS[f'{name}:end_points'], strict=True):
        if np.isfinite(mean):
            assert _seen(name).end_points[key] == pytest.approx((mean, deviation), abs=1e-3 * float(deviation)), key


@_needs_nchw
@_run_networks
def test_both_layouts_give_the_same_logits(name: str) -> None:
    assert _difference(_seen(name).logits['NHWC'], _seen(name).logits['NCHW']) < 1e-3 * _MAGNIFIED.get(name, 1)


@_needs_nchw
@_run_networks
def test_a_step_of_gradient_descent_leaves_the_same_weights_in_both_layouts(name: str) -> None:
    seen = _seen(name)
    for weight, nhwc, nchw in zip(seen.weights, seen.updates['NHWC'], seen.updates['NCHW'], strict=True):
        assert np.linalg.norm(nhwc - nchw) < 1e-3 * _MAGNIFIED.get(name, 1) * np.linalg.norm(weight + nhwc)
    # The step is small beside the weights, so they alone would hide a wrong gradient. Rounding puts a few units on the
    # other side of their ReLU's edge, which takes whole paths out of the gradient; hence the width.
    steps = [np.concatenate([step.ravel() for step in seen.updates[layout]]) for layout in ('NHWC', 'NCHW')]
    assert np.linalg.norm(steps[0] - steps[1]) < 0.3 * np.linalg.norm(steps[0])


@_needs_bf16
@_run_networks
def test_bfloat16_logits_follow_those_in_float32(name: str) -> None:
    logits = _seen(name).logits
    # Random weights magnify rounding from layer to layer, and batch norm more than others: rounding weights and images
    # alone, and computing in float32, moves the logits of inception_v3 by 0.8 of their standard deviation.
    if not any('BatchNorm' in variable['name'] for variable in _structure(name, 'NHWC')['variables']):
        assert _difference(logits['NHWC'], logits['bf16']) < 5e-2
    assert np.corrcoef(logits['NHWC'].ravel(), logits['bf16'].ravel())[0, 1] > 0.7


@_networks
def test_the_least_image_size_is_the_least_that_can_be_built(name: str) -> None:
    network = registry.get(name)
    least = network.least_image_size
    with tf.Graph().as_default():
        build(network, tf.zeros([1, least, least, network.channels]), is_training=True)
    if least > 1:
        with tf.Graph().as_default(), pytest.raises(ValueError, match=r'dimension size|must be'):
            network.build(Layers(is_training=True), tf.zeros([1, least - 1, least - 1, network.channels]))
        with tf.Graph().as_default(), pytest.raises(UsageError, match=f'below {least} pixels'):
            build(network, tf.zeros([1, least - 1, least - 1, network.channels]))


@pytest.mark.parametrize('name', ['alexnet_v2', 'inception_v3', 'mobilenet_v1'])
def test_larger_images_than_published_are_classified_with_the_same_variables(name: str) -> None:
    network = registry.get(name)
    size = network.image_size + 64
    with tf.Graph().as_default():
        output = build(network, tf.zeros([2, size, size, network.channels]))
        assert [x.shape.as_list() for x in (output.logits, *output.aux_logits)] == [[2, 1001]] * (
            1 + len(output.aux_logits)
        )
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    assert shapes == {v['name']: v['shape'] for v in _PUBLISHED[name]['variables']}
