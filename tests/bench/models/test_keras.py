"""The networks of tf_keras.applications: all there, as Keras computes them, trained and frozen by this program."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from capable import CAN
from program import python, run

from bench import flags
from bench.config import BenchmarkConfig
from bench.errors import UsageError
from bench.machine import capabilities, environment, tensorflow_build
from bench.models import multiply_adds, registry
from bench.models.build import Output, build
from bench.models.slim import slim
from bench.options import NetworkOptions, StepOptions
from bench.runners import inference, step
from bench.runners import session as sessions

# One of each family, the quickest.
_FAMILIES = {
    'ConvNeXtTiny': 64,
    'DenseNet121': 64,
    'EfficientNetB0': 64,
    'EfficientNetV2B0': 64,
    'InceptionResNetV2': 96,
    'InceptionV3': 96,
    'MobileNet': 64,
    'MobileNetV2': 64,
    'MobileNetV3Small': 64,
    'NASNetMobile': 64,
    'RegNetX002': 64,
    'RegNetY002': 64,
    'ResNet50': 64,
    'ResNet50V2': 64,
    'ResNetRS50': 64,
    'VGG16': 64,
    'Xception': 96,
}
_QUICK = ('MobileNetV2',)
_NAMES = [network.name.removeprefix('keras/') for network in registry.matching('keras/*')]


def _marked(names: Any, quick: tuple[str, ...] = _QUICK) -> list[Any]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def _images(size: int, count: int = 2) -> np.ndarray:
    return np.random.RandomState(5).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def _build(name: str, images: Any, **options: Any) -> Output:
    return build(registry.get(f'keras/{name}'), images, **{'num_classes': 20, **options})


def _weights(variables: list[Any]) -> list[np.ndarray]:
    """Always the same values for variables of these shapes, near those that a trained network has."""
    random = np.random.RandomState(6)
    values = []
    for variable in variables:
        normal, leaf = random.standard_normal(variable.shape.as_list()), variable.name.rsplit('/')[-1]
        if leaf.startswith(('gamma', 'moving_variance', 'variance')):
            values.append(1 + 0.1 * np.abs(normal))
        elif leaf.startswith(('beta', 'bias', 'moving_mean', 'mean', 'count')):
            values.append(0.1 * normal)
        else:
            inputs = math.prod(normal.shape[:2] if leaf.startswith('depthwise') else normal.shape[:-1])
            values.append(normal * np.sqrt(1 / inputs))
    return [value.astype(v.dtype.base_dtype.as_numpy_dtype) for value, v in zip(values, variables, strict=True)]


def _load(session: Any, values: list[np.ndarray]) -> None:
    variables = tf.global_variables()
    session.run(
        [variable.initializer for variable in variables],
        dict(zip((v.initial_value for v in variables), values, strict=True)),
    )


def _session() -> Any:
    return tf.Session(config=sessions.config(intra_threads=2, inter_threads=1, precision='fp32', xla=False))


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / wanted.std())


def test_every_network_of_keras_is_there() -> None:
    import tf_keras

    theirs = {name for name in dir(tf_keras.applications) if name[0].isupper()}
    assert theirs == set(_NAMES)


def test_listing_and_refusing_need_no_tensorflow() -> None:
    refused = ['--model=keras/ConvNeXtTiny', '--data_format=NCHW']
    code = (
        'import sys; from bench.cli import main; '
        f'assert main(["models", "keras/*"]) == 0; assert main({refused}) == 2; '
        'sys.exit("tensorflow" in sys.modules or "tf_keras" in sys.modules)'
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert 'keras/MobileNetV2 ' in done.stdout
    assert '--data_format=NCHW: keras/ConvNeXtTiny is written for NHWC alone. Use --data_format=NHWC.' in done.stderr


@pytest.mark.parametrize(
    ('words', 'refused'),
    [
        (['--batch_size=1'], True),
        (['--batch_size=2'], False),
        ([], False),
        (['--model=keras/EfficientNetB7'], True),
        (['--batch_size=1', '--precision=bf16'], False),
        (['--batch_size=1', '--forward_only'], False),
        (['--batch_size=1', '--data_format=NHWC'], False),
        (['--batch_size=1', '--model=resnet_v1_50'], False),
    ],
)
def test_a_network_of_keras_is_trained_by_onednns_reference_code(words: list[str], refused: bool) -> None:
    config, wrong = flags.parse(BenchmarkConfig, ['--model=keras/ResNet50', '--data_format=NCHW', *words], '')
    able = capabilities.Capabilities(onednn=True, onednn_reason='', bf16=True, bf16_reason='')
    told = [text for text in config.problems(lambda given=None: able) if 'reference code' in text]
    assert not wrong
    assert bool(told) == refused
    assert not told or '--batch_size=2 or more' in told[0]


@pytest.mark.parametrize('name', _marked(_NAMES))
def test_parameters_and_multiply_adds_are_those_of_the_built_network(name: str) -> None:
    network = registry.get(f'keras/{name}')
    with tf.Graph().as_default() as graph:
        size = network.image_size
        output = build(network, tf.placeholder(tf.float32, (1, size, size, 3)))
        parameters = sum(math.prod(variable.shape.as_list()) for variable in tf.global_variables())
        assert (parameters, multiply_adds.count([output.logits])) == (network.parameters, network.multiply_adds)
        # What Keras rescales must be given pixels.
        rescaled = any('rescaling' in op.name or 'prestem' in op.name for op in graph.get_operations())
        assert rescaled == ('mul' in output.end_points['input_1'].name)
        assert output.logits.shape.as_list() == [1, 1001]


@pytest.mark.parametrize('name', _marked(_FAMILIES))
def test_predictions_are_those_of_keras_itself(name: str, tmp_path: Path) -> None:
    """Keras' own way: eagerly, with `training` as an argument, and XLA for grouped convolutions."""
    size = _FAMILIES[name]
    images = _images(size)
    found, seen = {}, {}
    for is_training in (False, True):
        with tf.Graph().as_default(), _session() as session:
            output = _build(name, tf.constant(images), is_training=is_training)
            values = dict(zip((v.op.name for v in tf.global_variables()), _weights(tf.global_variables()), strict=True))
            _load(session, list(values.values()))
            found[is_training] = session.run(output.logits)
            if is_training:
                session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
                seen = {v.op.name: session.run(v) for v in tf.global_variables() if 'moving_' in v.op.name}
    np.savez(tmp_path / 'given.npz', images=images, **values)
    code = f"""
import numpy as np, tf_keras
given = np.load('given.npz')
build = tf_keras.applications.{name}
model = build(weights=None, input_shape=({size}, {size}, 3), classes=20, classifier_activation=None)
images = given['images']
if any(isinstance(l, (tf_keras.layers.Rescaling, tf_keras.layers.Normalization)) for l in model.layers):
    images = (images + 1) * 127.5
names = [weight.name.split(':')[0] for weight in model.weights]
# In a graph the name of a nested model, as in ConvNeXt, comes first.
model.set_weights([given[next(key for key in given.files if ('/' + key).endswith('/' + name))] for name in names])
inference = model(images, training=False).numpy()
for layer in model.layers:
    if isinstance(layer, tf_keras.layers.Dropout):
        layer.rate = 0.0
training = model(images, training=True).numpy()
moving = {{w.name.split(':')[0]: w.numpy() for w in model.weights if 'moving_' in w.name}}
np.savez('keras.npz', inference=inference, training=training, **moving)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    keras = np.load(tmp_path / 'keras.npz')
    assert _error(found[False], keras['inference']) < 1e-3
    assert set(seen) == set(keras.files) - {'inference', 'training'}
    if not name.startswith(('Efficient', 'MobileNetV3', 'MobileNet', 'ResNetRS', 'VGG')):  # which drop out
        assert _error(found[True], keras['training']) < 1e-2
        for key, value in seen.items():
            np.testing.assert_allclose(value, keras[key], rtol=1e-2, atol=1e-3)


def test_training_grouped_convolutions_without_onednn_is_refused_before_tensorflow_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorflow_build, 'onednn_enabled', lambda: False)
    monkeypatch.setenv('TF_ENABLE_ONEDNN_OPTS', '0')
    with tf.Graph().as_default():
        _build('RegNetX002', tf.zeros([1, 32, 32, 3]))
        with pytest.raises(UsageError, match=r'TF_ENABLE_ONEDNN_OPTS=0 is set .* --forward_only'):
            _build('RegNetX002', tf.zeros([1, 32, 32, 3]), is_training=True)
        # As tuning.py sets it for the flag.
        monkeypatch.setenv(environment.MARK, environment.mark({'TF_ENABLE_ONEDNN_OPTS': None}))
        with pytest.raises(UsageError, match=r'--mkl=off was given; leave it out\. .* --forward_only'):
            _build('RegNetX002', tf.zeros([1, 32, 32, 3]), is_training=True)


def test_clones_are_refused_as_they_would_have_variables_of_their_own() -> None:
    with tf.Graph().as_default(), tf.variable_scope('', reuse=True), pytest.raises(UsageError, match='no clones'):
        _build('MobileNetV2', tf.zeros([1, 32, 32, 3]), is_training=True)


@pytest.mark.parametrize(
    'name', _marked([name for name in _FAMILIES if 'NCHW' in registry.get(f'keras/{name}').data_formats])
)
@pytest.mark.skipif(not CAN.onednn, reason=f'NCHW needs oneDNN: {CAN.onednn_reason}')
def test_nchw_gives_the_logits_and_updates_of_nhwc(name: str) -> None:
    images = _images(_FAMILIES[name])
    logits, gradients = {}, {}
    for layout in ('NHWC', 'NCHW'):
        with tf.Graph().as_default(), _session() as session:
            x = tf.constant(images if layout == 'NHWC' else images.transpose(0, 3, 1, 2))
            output = _build(name, x, data_format=layout)
            loss = tf.reduce_sum(tf.nn.log_softmax(output.logits)[:, 3])
            gradient = tf.gradients(loss, tf.trainable_variables())
            _load(session, _weights(tf.global_variables()))
            logits[layout], gradients[layout] = session.run([output.logits, gradient])
    assert _error(logits['NCHW'], logits['NHWC']) < 1e-3
    nchw, nhwc = (np.concatenate([value.ravel() for value in gradients[key]]) for key in ('NCHW', 'NHWC'))
    assert np.linalg.norm(nchw - nhwc) < 1e-3 * np.linalg.norm(nhwc)


@pytest.mark.parametrize('name', _marked(_FAMILIES, ('MobileNetV2',)))
def test_every_kernel_decays_but_depthwise_ones_and_batch_norm_is_updated(name: str) -> None:
    size = _FAMILIES[name]
    with tf.Graph().as_default(), _session() as session:
        _build(name, tf.constant(_images(size)), is_training=True, weight_decay=0.1)
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        variables = tf.global_variables()
        _load(session, _weights(variables))
        values = dict(zip((v.op.name for v in variables), session.run(variables), strict=True))
        decaying = [key for key in values if key.rsplit('/')[-1] in ('kernel', 'pointwise_kernel')]
        assert len(losses) == len(decaying)
        assert session.run(tf.add_n(losses)) == pytest.approx(
            sum(0.05 * (values[key] ** 2).sum() for key in decaying), rel=1e-4
        )
        trainable = {v.op.name for v in tf.trainable_variables()}
        assert set(values) - trainable == {
            key
            for key in values
            if key.rsplit('/')[-1] in ('moving_mean', 'moving_variance', 'mean', 'variance', 'count')
        }
        assert {v.op.name for v in slim.get_model_variables()} == {key for key in values if not key.endswith('/count')}
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        for key, before in values.items():
            after = session.run(f'{key}/Read/ReadVariableOp:0')
            assert (np.abs(after - before).max() > 0) == ('moving_' in key), key


def test_inference_neither_drops_out_nor_updates_nor_decays_where_there_is_no_decay() -> None:
    with tf.Graph().as_default(), _session() as session:
        output = _build('MobileNet', tf.constant(_images(32)), weight_decay=0.0)
        assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
        assert tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES) == []
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(session.run(output.logits), session.run(output.logits))
        assert not [
            op
            for op in tf.get_default_graph().get_operations()
            if 'random' in op.type.lower() and 'nitializer' not in op.name
        ]


@pytest.mark.parametrize(
    ('name', 'layout'),
    [
        pytest.param(name, layout, marks=() if name == 'MobileNetV2' else pytest.mark.slow)
        for name in _FAMILIES
        for layout in registry.get(f'keras/{name}').data_formats
        if layout == 'NHWC' or CAN.onednn
    ],
)
def test_freezing_and_folding_change_no_prediction(name: str, layout: str) -> None:
    images = _images(_FAMILIES[name])
    images = images if layout == 'NHWC' else images.transpose(0, 3, 1, 2)
    with tf.Graph().as_default(), _session() as session:
        placeholder = tf.placeholder(tf.float32, images.shape, 'images')
        logits = _build(name, placeholder, data_format=layout).logits
        _load(session, _weights(tf.global_variables()))
        wanted = session.run(logits, {placeholder: images})
        frozen = inference.freeze(session, logits.op.name)
    folded = inference.fold_batch_norms(frozen, logits.op.name)
    assert not [
        node.name
        for node in folded.node
        if node.op in ('VarHandleOp', 'ReadVariableOp', 'PartitionedCall', 'StatefulPartitionedCall')
    ]
    with tf.Graph().as_default(), _session() as session:
        found = session.run(inference.attach(folded, 'images', tf.constant(images), logits.op.name))
    assert _error(found, wanted) < 1e-3
    if name in ('ResNet50', 'MobileNet'):  # whose batch norms are all behind convolutions, the former's with biases
        assert not [node.name for node in folded.node if 'BatchNorm' in node.op]


def _steps(name: str, count: int, precision: str = 'fp32', **options: Any) -> list[float]:
    network = registry.get(f'keras/{name}')
    config = BenchmarkConfig(
        network=NetworkOptions(
            model=network.name, batch_size=4, image_size=_FAMILIES[name], num_classes=10, precision=precision
        ),
        step=StepOptions(**options),
    ).resolved(network, None, usable_cpus=2)
    session_config = sessions.config(intra_threads=2, inter_threads=1, precision=precision, xla=False)
    made = step.benchmark_step(config, network, None, session_config)
    with tf.Session(graph=made.graph, config=session_config) as session:
        call = step.prepare(made, session)
        return [float(call() or 0) for _ in range(count)]


@pytest.mark.parametrize('name', _marked(_FAMILIES, ('MobileNetV2',)))
def test_training_learns_the_synthetic_labels(name: str) -> None:
    seen = _steps(name, 15, optimizer='adam', learning_rate=0.001, opt_epsilon=1e-7, moving_average_decay=0.9)
    assert all(math.isfinite(loss) for loss in seen)
    assert min(seen[-3:]) < seen[0]


@pytest.mark.parametrize('name', _marked(_FAMILIES, ('MobileNetV2',)))
@pytest.mark.skipif(not CAN.bf16, reason=f'no bfloat16 here: {CAN.bf16_reason}')
def test_bf16_trains_and_infers(name: str) -> None:
    for forward_only in (True, False):
        (wanted,), (found,) = (_steps(name, 1, precision, forward_only=forward_only) for precision in ('fp32', 'bf16'))
        assert math.isfinite(found)
        # Batch norm of a few images magnifies rounding, with random weights, to losses that are far from each other.
        if name.startswith('VGG'):
            assert found == pytest.approx(wanted, rel=5e-2)


@pytest.mark.slow
def test_the_program_times_a_network_of_keras_and_repeats_it(tmp_path: Path) -> None:
    words = [
        '--model=keras/MobileNetV2',
        '--image_size=32',
        '--batch_size=2',
        '--num_warmup_batches=1',
        '--num_batches=2',
    ]
    done = run(*words, '--forward_only', f'--result_dir={tmp_path}', '--json')
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record['ended']['status'], record['config']['network']['model']) == ('completed', 'keras/MobileNetV2')
    assert '--model=keras/MobileNetV2' in record['repeat']
    assert 'eprecat' not in done.stderr
    (path,) = tmp_path.iterdir()
    assert path.name.startswith('keras_mobilenetv2_infer_nhwc_fp32_b2_')
