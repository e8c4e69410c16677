"""Every network against what the published one was seen to compute; exactness.py says what is measured, and how.

The limits are 1e-3 for logits and for weights after a step, 1e-2 for gradients, 5e-2 for bfloat16. Where rounding alone
moves a network by more than a third of that, three or four times as far as rounding moves it is the limit: networks
magnify rounding with these random weights.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from capable import CAN
from exactness import NUMBERS, PUBLISHED, measure

from bench.errors import UsageError
from bench.models import multiply_adds, registry
from bench.models.build import build
from bench.models.layers import Layers

# A few small networks of different families are always tested; the rest by `make test-all`.
_QUICK = (
    'cifarnet',
    'lenet',
    'mobilenet_v1_025',
    'mobilenet_v3_small',
    'trivial',
)
_ALL = [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in (network.name for network in registry.all_networks() if not network.name.startswith('keras/'))
]
_networks = pytest.mark.parametrize('name', _ALL)
_needs_nchw = pytest.mark.skipif(not CAN.onednn, reason=f'NCHW needs oneDNN: {CAN.onednn_reason}')
_needs_bf16 = pytest.mark.skipif(not CAN.bf16, reason=f'no bfloat16 here: {CAN.bf16_reason}')
_measured = functools.cache(measure)


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
    parameter for parameter in _ALL if (parameter if isinstance(parameter, str) else parameter.values[0]) in PUBLISHED
]
_published = pytest.mark.parametrize('name', _PUBLISHED_HERE)


@_published
def test_published_checkpoints_restore_because_variables_are_the_published_ones(name: str) -> None:
    assert _structure(name, 'NHWC')['variables'] == PUBLISHED[name]['variables']


@_published
def test_graphs_have_the_published_end_points_and_logits(name: str) -> None:
    seen = _structure(name, 'NHWC')
    assert seen['end_points'] == PUBLISHED[name]['end_points']
    assert seen['logits'] == PUBLISHED[name]['logits']


@_published
def test_the_registry_says_of_a_network_what_was_published(name: str) -> None:
    network, published = registry.get(name), PUBLISHED[name]
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


@pytest.mark.parametrize('name', [name for name in _ALL if f'{getattr(name, "values", (name,))[0]}:logits' in NUMBERS])
def test_logits_and_end_points_are_the_published_ones(name: str) -> None:
    seen = _measured(name)
    assert seen.published is not None and seen.published < 1e-3
    assert seen.end_points is not None and seen.end_points < 1e-3


@_networks
def test_logits_are_those_of_a_second_implementation_in_float64(name: str) -> None:
    assert _measured(name).nhwc_true < 1e-2


@_needs_nchw
@_networks
def test_both_layouts_give_the_same_logits(name: str) -> None:
    seen = _measured(name)
    assert seen.nchw is not None and seen.nchw < max(1e-3, 3 * seen.nhwc_true)


@_needs_nchw
@_networks
def test_a_step_of_gradient_descent_leaves_the_same_weights_in_both_layouts(name: str) -> None:
    seen = _measured(name)
    # Where rounding moves no unit over an edge, most have 1e-8.
    assert seen.step_smooth is not None and seen.step_smooth < 1e-3
    # Four times: both layouts round, each in its own way, and it is the largest of hundreds of variables.
    assert seen.step is not None and seen.step < max(1e-3, 4 * (seen.step_true or 0))


@_needs_nchw
@_networks
def test_both_layouts_have_the_same_gradient(name: str) -> None:
    seen = _measured(name)
    assert seen.gradient is not None
    if seen.gradient_true is None:  # the largest network: what rounding does there is not known
        assert seen.gradient < 0.1
        return
    assert seen.gradient < max(1e-2, 3 * seen.gradient_true)
    # Rounding puts a few units on the other side of their ReLU's edge, which takes whole paths out of the gradient:
    # 3e-2 of it in many networks, 0.27 in inception_v4.
    assert seen.gradient_true < 0.5


@_needs_nchw
@_networks
def test_both_layouts_have_the_same_gradient_where_no_rounding_moves_a_unit_over_an_edge(name: str) -> None:
    seen = _measured(name)
    # Most have 1e-5; those with many maximum poolings, which have edges too, 3e-3.
    assert seen.gradient_smooth is not None and seen.gradient_smooth < 1e-2


@_needs_bf16
@_networks
def test_bfloat16_moves_logits_no_further_than_rounding_explains(name: str) -> None:
    seen = _measured(name)
    # Four times: activations are rounded too, not only weights and images. Logits that have nothing to do with each
    # other are 4 to 5 apart.
    assert seen.bf16 is not None and seen.bf16 < min(2.0, max(5e-2, 4 * seen.bf16_rounding))


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
    assert shapes == {v['name']: v['shape'] for v in PUBLISHED[name]['variables']}
