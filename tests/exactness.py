"""How exactly a network here computes what the published one does, in both layouts, forward and back, and in bfloat16.

tests/data/networks.json.gz has the published networks' variables, end points, parameters and multiply-adds with 1001
classes; tests/data/networks.npz every eighth logit for two images, the standard deviation of all logits, and mean and
standard deviation of each end point, with the weights of published.py and the images of `_images`. Batch norm's moving
statistics there are those of the same two images, which a training step computes, times a factor close to 1 that moving
averages had reached. The deepest networks magnify the rounding of statistics ten thousandfold: those of six are in
tests/data/statistics as they were recorded (their float32's bytes, [4, N], in the order of the variables).
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import exact
import numpy as np
import tensorflow.compat.v1 as tf
from capable import CAN
from published import weight as published_weight

from bench.models import registry
from bench.models.build import Output, build

_DATA = Path(__file__).parent / 'data'
PUBLISHED: dict[str, Any] = json.loads(gzip.decompress((_DATA / 'networks.json.gz').read_bytes()))
NUMBERS = np.load(_DATA / 'networks.npz')
LEARNING_RATE = 0.01  # slim's default
_MANY_PARAMETERS = 3e8  # whose gradients in float64, with all that they need, do not fit in 24 GB

Values = dict[str, np.ndarray]
_NOT_MEASURED: tuple[float | None, float | None] = (None, None)


@dataclasses.dataclass(frozen=True)
class Exactness:
    """One network's largest errors; None where there is nothing to compare with, or this processor cannot.

    Those of logits are in the logits' standard deviations, those of gradients in the norm of the whole gradient. `true`
    is what float64 gives.

    Attributes:
      images: how many it saw.
      variables: how many there are.
      variables_equal: names and shapes are the published ones where published, and the same in both layouts.
      published: NHWC logits against the published ones.
      end_points: means and standard deviations of end points against the published ones, in standard deviations.
      nhwc_true: NHWC logits.
      nchw: NCHW logits against NHWC logits.
      nchw_true: NCHW logits.
      step: of a weight after a step of gradient descent, NCHW against NHWC, as a part of the norm of that weight.
      step_true: the same of NHWC; None for the largest network, whose gradient in float64 does not fit in memory.
      step_smooth: NCHW against NHWC, with smooth activations in both.
      gradient: NCHW against NHWC.
      gradient_true: of NHWC; None for the largest network.
      gradient_smooth: NCHW against NHWC, with smooth activations in both.
      bf16: NHWC logits in bfloat16 against float32.
      bf16_rounding: NHWC logits in float32 of weights and images that were rounded to bfloat16, against unrounded.
    """

    name: str
    images: int
    variables: int
    variables_equal: bool
    published: float | None
    end_points: float | None
    nhwc_true: float
    nchw: float | None
    nchw_true: float | None
    step: float | None
    step_true: float | None
    step_smooth: float | None
    gradient: float | None
    gradient_true: float | None
    gradient_smooth: float | None
    bf16: float | None
    bf16_rounding: float


def measure(name: str) -> Exactness:
    """Computes everything that Exactness tells of a network."""
    network, can = registry.get(name), CAN
    assert network.parameters is not None
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = _images(network)
        images = tf.placeholder(tf.float32, feeds.shape)
        feed = {images: feeds}
        nhwc = _build(network, images, 'NHWC', is_training=False)
        variables = [{'name': v.op.name, 'shape': v.shape.as_list()} for v in tf.global_variables()]
        nchw = _build(network, images, 'NCHW', is_training=False)
        equal = [v.op.name for v in tf.global_variables()] == [v['name'] for v in variables] and (
            name not in PUBLISHED
            or variables == [{key: v[key] for key in ('name', 'shape')} for v in PUBLISHED[name]['variables']]
        )
        training = {'NHWC': _build(network, images, 'NHWC', is_training=True)}
        values = _load_values(session, name, feed)
        if can.onednn:
            training['NCHW'] = _build(network, images, 'NCHW', is_training=True)
        moments = {key: tf.stack([tf.reduce_mean(x), tf.math.reduce_std(x)]) for key, x in nhwc.end_points.items()}
        # Not in one run: an end point that is wanted is not fused with the operation after it.
        logits = session.run(nhwc.logits, feed)
        _load(session, _recorded_statistics(name))
        of_recorded, end_points = session.run(nhwc.logits, feed), session.run(moments, feed)
        _load(session, values)
        true = session.run(exact.build(network, images, is_training=False).end_points['logits'], feed)
        other = session.run(nchw.logits, feed) if can.onednn else None
        losses = [_loss(output.logits, output.aux_logits) for output in training.values()]
        gradients = [_gradient(session, loss, feed) for loss in losses]
        of_true = of_nchw = of_smooth = _NOT_MEASURED
        if network.parameters < _MANY_PARAMETERS:
            layers = exact.build(network, images, is_training=True)
            true_loss = _loss(layers.end_points['logits'], layers.aux_logits)
            of_true = _apart(session, gradients[0], _gradient(session, true_loss, feed))
        if can.onednn:
            of_nchw = _apart(session, *gradients)
            del gradients
            smooth = [_smooth_loss(network, images, layout) for layout in training]
            of_smooth = _apart(session, *(_gradient(session, loss, feed) for loss in smooth))
        rounded = {key: _rounded(value) if _is_rounded(key) else value for key, value in values.items()}
        _load(session, rounded)
        of_rounded = session.run(nhwc.logits, {images: _rounded(feeds)})
        session.close()
        del rounded
        bf16 = _in_bf16(nhwc.logits, values, feed) if can.bf16 else None
    return Exactness(
        name=name,
        images=len(feeds),
        variables=len(variables),
        variables_equal=equal,
        published=_from_published(name, of_recorded),
        end_points=_end_points_from_published(name, end_points),
        nhwc_true=_difference(true, logits),
        nchw=None if other is None else _difference(logits, other),
        nchw_true=None if other is None else _difference(true, other),
        step=of_nchw[0],
        step_true=of_true[0],
        step_smooth=of_smooth[0],
        gradient=of_nchw[1],
        gradient_true=of_true[1],
        gradient_smooth=of_smooth[1],
        bf16=None if bf16 is None else _difference(logits, bf16),
        bf16_rounding=_difference(logits, of_rounded),
    )


def _images(network: registry.Network) -> np.ndarray:
    """[2, H, W, C] between -1 and 1, always the same."""
    shape = (2, network.image_size, network.image_size, network.channels)
    return np.random.RandomState(2016).uniform(-1, 1, shape).astype(np.float32)


def _build(network: registry.Network, images: Any, layout: str, **options: Any) -> Output:
    """Without dropout; batch norm's statistics become those of the batch at once."""
    x = images if layout == 'NHWC' else tf.transpose(images, [0, 3, 1, 2])
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        return build(network, x, data_format=layout, batch_norm_decay=0.0, dropout_keep_prob=1.0, **options)


def _load_values(session: Any, name: str, feed: dict[Any, np.ndarray]) -> Values:
    """Gives all variables their values, and gives those back; moving statistics by the training step of the graph."""
    trained = {v.op.name for v in tf.trainable_variables()}
    _load(session, {v.op.name: published_weight(v.op.name, tuple(v.shape)) for v in tf.trainable_variables()})
    _load(session, {v.op.name: np.zeros(v.shape) for v in tf.global_variables() if v.op.name not in trained})
    session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS), feed)
    values = dict(zip((v.op.name for v in tf.global_variables()), session.run(tf.global_variables()), strict=True))
    factor = NUMBERS.get(f'{name}:factor', np.float32(1)).astype(np.float32)
    moving = {key: value * factor for key, value in values.items() if key not in trained}
    _load(session, moving)
    return {**values, **moving}


def _recorded_statistics(name: str) -> Values:
    """The moving statistics that the published numbers were recorded with, where they are kept."""
    path = _DATA / 'statistics' / f'{name}.npz'
    if not path.exists():
        return {}
    flat = np.ascontiguousarray(np.load(path)['bytes'].T).view(np.float32).ravel()
    moving = [v for v in PUBLISHED[name]['variables'] if not v['trainable']]
    ends = np.cumsum([np.prod(v['shape'], dtype=int) for v in moving])
    assert ends[-1] == len(flat)
    return {v['name']: part for v, part in zip(moving, np.split(flat, ends[:-1]), strict=True)}


def _load(session: Any, values: Values) -> None:
    variables = [v for v in tf.global_variables() if v.op.name in values]
    session.run([v.initializer for v in variables], {v.initializer.inputs[1]: values[v.op.name] for v in variables})


def _gradient(session: Any, loss: Any, feed: dict[Any, np.ndarray]) -> list[np.ndarray]:
    return session.run(tf.gradients(loss, tf.trainable_variables()), feed)


def _apart(session: Any, one: list[np.ndarray], other: list[np.ndarray]) -> tuple[float, float]:
    """How far two gradients are from each other: in a weight after a step of each, and as a whole."""
    apart = [float(np.linalg.norm(a - b)) for a, b in zip(one, other, strict=True)]
    whole = float(np.linalg.norm([float(np.linalg.norm(gradient)) for gradient in other]))
    norms = [float(np.linalg.norm(weight)) for weight in session.run(tf.trainable_variables())]
    step = LEARNING_RATE * max(a / norm for a, norm in zip(apart, norms, strict=True))
    return step, float(np.linalg.norm(apart)) / whole


def _loss(logits: Any, aux_logits: Any) -> Any:
    labels = tf.constant([3, 5])[: tf.shape(logits)[0]]
    weights = [1.0] + [0.4] * len(aux_logits)
    return tf.add_n(
        [
            weight * tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=one))
            for weight, one in zip(weights, (logits, *aux_logits), strict=True)
        ]
    )


def _smooth_loss(network: registry.Network, images: Any, layout: str) -> Any:
    layers = exact.SmoothLayers(data_format=layout, is_training=True, dropout_keep_prob=1.0)
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        logits = network.build(layers, images if layout == 'NHWC' else tf.transpose(images, [0, 3, 1, 2]))
    return _loss(logits, layers.aux_logits)


def _is_rounded(variable: str) -> bool:
    """Whether a convolution or matrix product takes it; batch norm's stay in float32 in bfloat16 networks too."""
    return variable.endswith('weights')


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(tf.bfloat16.as_numpy_dtype).astype(np.float32)


def _in_bf16(logits: Any, values: Values, feed: dict[Any, np.ndarray]) -> np.ndarray:
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    with tf.Session(config=config) as session:
        _load(session, values)
        return session.run(logits, feed)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of logits, in their standard deviations."""
    return float(np.abs(one - other).max() / one.std())


def _from_published(name: str, logits: np.ndarray) -> float | None:
    if f'{name}:logits' not in NUMBERS:
        return None
    return float(np.abs(logits[:, ::8] - NUMBERS[f'{name}:logits']).max() / NUMBERS[f'{name}:std'])


def _end_points_from_published(name: str, end_points: dict[str, np.ndarray]) -> float | None:
    if f'{name}:end_points' not in NUMBERS:
        return None
    return max(
        float(np.abs(end_points[key] - published).max() / published[1])
        for key, published in zip(PUBLISHED[name]['end_points'], NUMBERS[f'{name}:end_points'], strict=True)
        if np.isfinite(published[0])
    )
