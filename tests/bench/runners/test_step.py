"""The step against the same arithmetic in numpy, against the published first loss, and frozen against not frozen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from published import weight

from bench.config import BenchmarkConfig
from bench.models import registry, weight_decay
from bench.models.build import Output, build
from bench.models.layers import Layers
from bench.models.slim import slim
from bench.options import StepOptions
from bench.runners import inference
from bench.runners import session as sessions
from bench.runners import step as steps
from bench.training import checkpoint_files, learning_rates, losses

X = np.random.RandomState(1).uniform(-1, 1, (6, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 1, 0])
WEIGHTS = np.random.RandomState(2).uniform(-1, 1, (5, 4)).astype(np.float32)
STEPS = 5


def numpy_gradient(w: np.ndarray, options: StepOptions) -> tuple[float, np.ndarray]:
    """Loss and gradient of softmax regression with smoothed labels and L2 weight decay."""
    target = np.eye(4)[LABELS] * (1 - options.label_smoothing) + options.label_smoothing / 4
    exp = np.exp(X @ w)
    p = exp / exp.sum(1, keepdims=True)
    loss = -(target * np.log(p)).sum(1).mean() + options.weight_decay * (w**2).sum() / 2
    gradient = X.T @ (p - target) / len(X) + options.weight_decay * w
    if options.gradient_clip is not None:
        gradient = gradient.clip(-options.gradient_clip, options.gradient_clip)
    return loss, gradient


def numpy_training(options: StepOptions, rates: list[float]) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Losses before each update, the weights at the end and their moving average, which is a step behind."""
    w = WEIGHTS.astype(np.float64)
    average = w.copy()
    slow, second, seen = np.zeros_like(w), np.zeros_like(w), []
    if options.optimizer == 'rmsprop':
        second += 1  # TensorFlow starts its mean of squares at one.
    for step, rate in enumerate(rates):
        loss, g = numpy_gradient(w, options)
        seen.append(loss)
        if options.moving_average_decay is not None:
            decay = min(options.moving_average_decay, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * w
        if options.optimizer == 'sgd':
            w = w - rate * g
        elif options.optimizer == 'momentum':
            slow = options.momentum * slow + g
            w = w - rate * slow
        elif options.optimizer == 'rmsprop':
            second = options.rmsprop_decay * second + (1 - options.rmsprop_decay) * g**2
            slow = options.rmsprop_momentum * slow + rate * g / np.sqrt(second + options.opt_epsilon)
            w = w - slow
        else:
            b1, b2 = options.adam_beta1, options.adam_beta2
            slow, second = b1 * slow + (1 - b1) * g, b2 * second + (1 - b2) * g**2
            corrected = rate * np.sqrt(1 - b2 ** (step + 1)) / (1 - b1 ** (step + 1))
            w = w - corrected * slow / (np.sqrt(second) + options.opt_epsilon)
    return seen, w, average


@pytest.mark.parametrize(
    ('options', 'rates'),
    [
        (StepOptions(optimizer='sgd', learning_rate=0.5, weight_decay=0.1), [0.5] * STEPS),
        (StepOptions(optimizer='sgd', learning_rate=4.0, weight_decay=0.2), [4.0] * STEPS),
        (StepOptions(optimizer='sgd', learning_rate=0.5, gradient_clip=0.05), [0.5] * STEPS),
        (StepOptions(optimizer='momentum', learning_rate=0.3, label_smoothing=0.2), [0.3] * STEPS),
        (StepOptions(optimizer='rmsprop', learning_rate=0.1, opt_epsilon=0.5), [0.1] * STEPS),
        (StepOptions(optimizer='adam', learning_rate=0.1, opt_epsilon=1e-3), [0.1] * STEPS),
        (StepOptions(optimizer='sgd', learning_rate=0.5, moving_average_decay=0.9), [0.5] * STEPS),
        (
            # 12 images an epoch, 6 a step: an epoch every 2 steps, in stairs.
            StepOptions(learning_rate=0.8, learning_rate_decay_type='exponential', learning_rate_decay_factor=0.5,
                        num_epochs_per_decay=1),
            [0.8, 0.8, 0.4, 0.4, 0.2],
        ),
        (
            StepOptions(learning_rate=0.8, learning_rate_decay_type='polynomial', end_learning_rate=0.2,
                        num_epochs_per_decay=1.5),
            [0.8, 0.6, 0.4, 0.2, 0.2],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize('regularizer', [weight_decay.l2, slim.l2_regularizer], ids=['ours', 'slim'])
def test_training_follows_the_same_arithmetic_in_numpy(
    options: StepOptions, rates: list[float], regularizer: Any
) -> None:
    with tf.Graph().as_default():
        w = slim.model_variable('w', initializer=tf.constant(WEIGHTS), regularizer=regularizer(options.weight_decay))
        loss = losses.losses(Output(tf.matmul(tf.constant(X), w), (), {}), tf.constant(LABELS), options.label_smoothing)
        global_step = tf.train.get_or_create_global_step()
        rate = learning_rates.learning_rate(options, global_step, batch_size=6, samples_per_epoch=12)
        (operation,) = steps.update_operations(loss, options, rate, global_step)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            seen = [session.run([loss.total, rate, operation])[:2] for _ in range(STEPS)]
            trained = session.run(w)
            average = [session.run(v) for v in tf.global_variables() if 'ExponentialMovingAverage' in v.name]
            assert session.run(global_step) == STEPS
    wanted_losses, wanted, wanted_average = numpy_training(options, rates)
    np.testing.assert_allclose([pair[0] for pair in seen], wanted_losses, rtol=1e-5)
    np.testing.assert_allclose([pair[1] for pair in seen], rates, rtol=1e-5)
    np.testing.assert_allclose(trained, wanted, rtol=1e-4, atol=5e-6)
    for value in average:
        np.testing.assert_allclose(value, wanted_average, rtol=1e-4, atol=5e-6)
    assert len(average) == (options.moving_average_decay is not None)


def test_an_auxiliary_heads_loss_weighs_0_4() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        logits, aux = tf.constant(X[:, :4]), tf.constant(X[:, 1:])
        both = losses.losses(Output(logits, (aux,), {}), tf.constant(LABELS), 0.0)
        one, other = (losses.losses(Output(x, (), {}), tf.constant(LABELS), 0.0) for x in (logits, aux))
        total, main, head = session.run([both.total, one.total, other.total])
    assert total == pytest.approx(main + 0.4 * head, rel=1e-6)


def config(**changes: Any) -> BenchmarkConfig:
    """A small resolved run; keyword arguments change fields of whatever group has them."""
    whole = BenchmarkConfig()
    for group in dataclasses.fields(whole):
        options = getattr(whole, group.name)
        mine = {name: value for name, value in changes.items() if name in {f.name for f in dataclasses.fields(options)}}
        whole = dataclasses.replace(whole, **{group.name: dataclasses.replace(options, **mine)})
    return whole.resolved(registry.get(whole.network.model), None, usable_cpus=2)


def session_config(precision: str = 'fp32') -> Any:
    return sessions.config(intra_threads=2, inter_threads=1, precision=precision, xla=False)


def run_steps(settings: BenchmarkConfig, count: int) -> list[float | None]:
    network = registry.get(settings.network.model)
    step = steps.benchmark_step(settings, network, None, session_config(settings.network.precision))
    with tf.Session(graph=step.graph, config=session_config(settings.network.precision)) as session:
        call = steps.prepare(step, session)
        return [call() for _ in range(count)]


def test_synthetic_labels_stay_so_that_the_loss_falls() -> None:
    seen = run_steps(config(model='lenet', batch_size=8, learning_rate=0.05), 12)
    assert seen[-1] < 0.5 * seen[0]  # type: ignore[operator]


def trained(settings: BenchmarkConfig, count: int) -> dict[str, np.ndarray]:
    """The model variables after some steps."""
    step = steps.benchmark_step(settings, registry.get(settings.network.model), None, session_config())
    with tf.Session(graph=step.graph, config=session_config()) as session:
        call = steps.prepare(step, session)
        for _ in range(count):
            call()
        with step.graph.as_default():
            variables = slim.get_model_variables()
        return {variable.op.name: session.run(variable) for variable in variables}


def test_clones_learn_what_one_network_learns_of_all_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layers, 'dropout', lambda self, x, keep_prob, scope='Dropout': x)
    shared = {'model': 'lenet', 'learning_rate': 0.05, 'weight_decay': 0.01, 'optimizer': 'momentum'}
    one, two = config(batch_size=8, **shared), config(batch_size=4, num_clones=2, **shared)
    assert run_steps(one, 5) == pytest.approx(run_steps(two, 5), rel=1e-5)
    wanted, got = trained(one, 5), trained(two, 5)
    for name, value in wanted.items():
        # Sums in another order: with AVX2 alone the smallest of them differ by 2e-6.
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=4e-6)


def test_batch_norms_statistics_are_those_of_the_first_clone() -> None:
    settings = config(model='mobilenet_v1_025', batch_size=2, image_size=32, num_clones=2, weight_decay=0.0)
    images = np.random.RandomState(5).uniform(-1, 1, (2, 2, 32, 32, 3)).astype(np.float32)
    images[1] *= 3
    with tf.Graph().as_default(), tf.Session() as session:
        clones = [(tf.constant(each), tf.constant([1, 2])) for each in images]
        step = steps.training(settings, registry.get('mobilenet_v1_025'), clones, samples_per_epoch=100)
        names = {variable.op.name: variable for variable in tf.global_variables()}
        weights = names['MobilenetV1/Conv2d_0/weights']
        session.run(tf.global_variables_initializer())
        first = tf.nn.conv2d(images[0], session.run(weights), 2, 'SAME')
        mean = session.run(tf.reduce_mean(first, [0, 1, 2]))
        session.run(step.operation)
        moved = session.run(names['MobilenetV1/Conv2d_0/BatchNorm/moving_mean'])
    np.testing.assert_allclose(moved, mean * (1 - 0.9997), rtol=1e-3, atol=1e-9)


def test_only_trainable_scopes_are_trained() -> None:
    settings = config(model='lenet', batch_size=4, trainable_scopes='LeNet/fc4, LeNet/conv1/b')
    before, after = trained(settings, 0), trained(settings, 2)
    changed = {name for name, value in before.items() if (after[name] != value).any()}
    assert changed == {'LeNet/fc4/weights', 'LeNet/fc4/biases', 'LeNet/conv1/biases'}


@pytest.mark.slow
def test_the_global_step_has_slims_name_behind_drop_path_too() -> None:
    settings = config(model='nasnet_cifar', batch_size=2)
    with tf.Graph().as_default():
        clones = [(tf.zeros([2, 32, 32, 3]), tf.constant([1, 2]))]
        steps.training(settings, registry.get('nasnet_cifar'), clones, samples_per_epoch=100)
        global_step = tf.train.get_global_step()
        assert global_step is not None
        assert global_step.op.name == 'global_step'


def test_the_seed_decides_weights_and_images() -> None:
    first, again, other = (
        run_steps(config(model='cifarnet', batch_size=4, forward_only=True, tf_random_seed=seed), 1)[0]
        for seed in (5, 5, 6)
    )
    assert first == pytest.approx(again, rel=1e-6)
    assert first != pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    ('model', 'data_format'),
    [
        ('mobilenet_v1', 'NHWC'),
        ('mobilenet_v1', 'NCHW'),
        ('resnet_v1_50', 'NHWC'),
        pytest.param('resnet_v1_50', 'NCHW', marks=pytest.mark.slow),
        pytest.param('inception_v3', 'NHWC', marks=pytest.mark.slow),
        pytest.param('inception_v3', 'NCHW', marks=pytest.mark.slow),
    ],
)
def test_freezing_and_folding_change_no_prediction(model: str, data_format: str) -> None:
    network = registry.get(model)
    size = max(network.least_image_size, 96)
    images = np.random.RandomState(3).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    images = images if data_format == 'NHWC' else images.transpose(0, 3, 1, 2)
    with tf.Graph().as_default():
        placeholder = tf.placeholder(tf.float32, images.shape, 'images')
        output = build(network, placeholder, data_format=data_format)
        with tf.Session(config=session_config()) as session:
            session.run(tf.global_variables_initializer())
            # Statistics that are not the identity, or folding them wrongly could not be seen.
            random = np.random.RandomState(4)
            moving = [v for v in tf.global_variables() if 'moving' in v.op.name]
            lows = [0.5 if 'variance' in v.op.name else -0.5 for v in moving]
            session.run([v.assign(random.uniform(low, low + 1, v.shape)) for v, low in zip(moving, lows, strict=True)])
            wanted = session.run(output.logits, {placeholder: images})
            frozen = inference.freeze(session, output.logits.op.name)
    folded = inference.fold_batch_norms(frozen, output.logits.op.name)
    assert not [node.name for node in folded.node if 'BatchNorm' in node.op]
    assert not [node.name for node in folded.node if 'Variable' in node.op or node.op == 'VarHandleOp']
    with tf.Graph().as_default():
        logits = inference.attach(folded, 'images', tf.constant(images), output.logits.op.name)
        with tf.Session(config=session_config()) as session:
            found = session.run(logits)
    assert np.abs(found - wanted).max() / wanted.std() < 1e-3


def test_a_network_too_large_to_be_frozen_predicts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As vgg_416 is, whose weights are more than the 2 GiB that a graph can hold."""
    settings = config(model='mobilenet_v1_025', batch_size=2, image_size=64, forward_only=True)
    network = registry.get('mobilenet_v1_025')
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        build(network, tf.zeros([2, 64, 64, 3]), num_classes=settings.network.num_classes)
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / 'model'))
    losses_seen, counts = [], []
    for most in (2**31, 1000):
        monkeypatch.setattr(inference, '_MOST_BYTES', most)
        with checkpoint_files.opened(path) as checkpoint:
            step = steps.benchmark_step(settings, network, None, session_config(), checkpoint)
            assert ('FusedBatchNormV3' in {node.type for node in step.graph.get_operations()}) == (most == 1000)
            with tf.Session(graph=step.graph, config=session_config()) as session:
                call = steps.prepare(step, session)
                losses_seen.append([call() for _ in range(2)])
        counts.append(step.multiply_adds)
    assert losses_seen[0] == pytest.approx(losses_seen[1], rel=1e-4)
    assert losses_seen[1][0] == losses_seen[1][1], 'inference changes no weight'
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
@pytest.mark.parametrize('biases', ['none', 'its own', 'shared'])
def test_biases_between_a_convolution_and_its_batch_norm_are_folded_too(data_format: str, biases: str) -> None:
    """As Keras' ResNets have them. Biases that something else reads as well stay as they are for that."""
    random = np.random.RandomState(1)
    images = random.standard_normal((2, 7, 7, 3)).astype(np.float32)
    images = images if data_format == 'NHWC' else images.transpose(0, 3, 1, 2)
    constants = [random.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(5)]
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, images.shape, 'images')
        weights = tf.constant(random.standard_normal((3, 3, 3, 4)), tf.float32)
        y = tf.nn.conv2d(x, weights, 2, 'SAME', data_format=data_format)
        added = tf.constant(constants[0])
        if biases != 'none':
            y = tf.nn.bias_add(y, added, data_format)
        y, _, _ = tf.nn.fused_batch_norm(y, *map(tf.constant, constants[1:]), 0.001, data_format, is_training=False)
        if biases == 'shared':
            y = tf.nn.bias_add(y, added, data_format)
        y = tf.nn.relu(y, name='output')
        wanted = session.run(y, {x: images})
        folded = inference.fold_batch_norms(graph.as_graph_def(), 'output')
    assert not [node.name for node in folded.node if 'BatchNorm' in node.op]
    assert len([node for node in folded.node if node.op == 'BiasAdd']) == (2 if biases == 'shared' else 1)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(inference.attach(folded, 'images', tf.constant(images), 'output'))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_what_something_else_reads_is_not_changed_by_folding() -> None:
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [1, 3, 3, 2], 'images')
        plain = tf.nn.bias_add(tf.nn.conv2d(x, tf.ones([1, 1, 2, 2]), 1, 'SAME'), [1.0, 2.0])
        ones = tf.constant([3.0, 3.0])
        y, _, _ = tf.nn.fused_batch_norm(plain, ones, ones, ones, ones, is_training=False)
        tf.add(y, plain, name='output')
        images = np.ones((1, 3, 3, 2), np.float32)
        wanted = session.run('output:0', {x: images})
        folded = inference.fold_batch_norms(graph.as_graph_def(), 'output')
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(inference.attach(folded, 'images', tf.constant(images), 'output'))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_what_is_not_a_nodes_first_output_is_left_unfolded() -> None:
    """Weights that are the second part of a split, as a user's own network may have them, and a Reshape that waits."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.placeholder(tf.float32, [1, 3, 3, 2], 'images')
        _, weights = tf.split(tf.ones([1, 1, 2, 4]), 2, axis=3)
        ones = tf.constant([3.0, 3.0])
        y, _, _ = tf.nn.fused_batch_norm(tf.nn.conv2d(x, weights, 1, 'SAME'), ones, ones, ones, ones, is_training=False)
        with tf.control_dependencies([y]):
            z = tf.reshape(tf.constant([1.0, 2.0]), [1, 1, 1, 2])
        tf.add(y, z, name='output')
        wanted = session.run('output:0', {x: np.ones((1, 3, 3, 2), np.float32)})
        folded = inference.fold_batch_norms(inference.freeze(session, 'output'), 'output')
        assert 'FusedBatchNormV3' in {node.op for node in graph.as_graph_def().node}
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(inference.attach(folded, 'images', tf.ones([1, 3, 3, 2]), 'output'))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
def test_fully_connected_weights_are_frozen_as_matrices_and_give_the_same() -> None:
    network = registry.get('alexnet_v2')
    images = np.random.RandomState(3).uniform(-1, 1, (2, 224, 224, 3)).astype(np.float32)
    with tf.Graph().as_default():
        placeholder = tf.placeholder(tf.float32, images.shape, 'images')
        output = build(network, placeholder)
        with tf.Session(config=session_config()) as session:
            session.run(tf.global_variables_initializer())
            wanted = session.run(output.logits, {placeholder: images})
            frozen = inference.freeze(session, output.logits.op.name)
    matrices = {node.input[1] for node in frozen.node if node.op == 'MatMul'}
    assert len(matrices) == 3
    assert matrices <= {node.name for node in frozen.node if node.op == 'Const'}
    with tf.Graph().as_default():
        logits = inference.attach(frozen, 'images', tf.constant(images), output.logits.op.name)
        with tf.Session(config=session_config()) as session:
            np.testing.assert_allclose(session.run(logits), wanted, rtol=1e-4, atol=1e-4 * wanted.std())


def test_inference_is_not_computed_once_and_for_all() -> None:
    settings = config(model='lenet', batch_size=4, forward_only=True)
    step = steps.benchmark_step(settings, registry.get('lenet'), None, session_config())
    metadata = tf.RunMetadata()
    with tf.Session(graph=step.graph, config=session_config()) as session:
        steps.prepare(step, session)
        options = tf.RunOptions(output_partition_graphs=True)
        session.run(step.operation, options=options, run_metadata=metadata)
    run = [node.op for graph in metadata.partition_graphs for node in graph.node]
    assert [op for op in run if 'Conv2D' in op], sorted(set(run))


def test_bf16_computes_in_bfloat16_and_keeps_float32_variables() -> None:
    from bench.machine import capabilities

    if not capabilities.detect().bf16:
        assert config(precision='bf16').problems(capabilities.detect), 'refused where the processor lacks it'
        return
    settings = config(model='cifarnet', batch_size=4, precision='bf16')
    step = steps.benchmark_step(settings, registry.get('cifarnet'), None, session_config('bf16'))
    metadata = tf.RunMetadata()
    with tf.Session(graph=step.graph, config=session_config('bf16')) as session:
        steps.prepare(step, session)
        session.run(step.operation, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
        assert {v.dtype.base_dtype for v in step.graph.get_collection('variables')} == {tf.float32, tf.int64}
    nodes = [node for graph in metadata.partition_graphs for node in graph.node if 'Conv2D' in node.op]
    assert nodes
    assert all(node.attr['T'].type == tf.bfloat16.as_datatype_enum for node in nodes)


def test_the_published_training_loops_first_loss_is_ours() -> None:
    # slim_reference's resnet_v1_50-momentum: 64 px, 4 images, label smoothing 0.1, weight decay 0.0001.
    loss_published = 10.91746997833252
    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (4, 64, 64, 3))
    labels = random.randint(0, 1001, 4)
    with tf.Graph().as_default():
        output = build(
            registry.get('resnet_v1_50'), tf.constant(images, tf.float32), is_training=True, weight_decay=0.0001
        )
        loss = losses.losses(output, tf.constant(labels), label_smoothing=0.1)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run([v.assign(weight(v.op.name, tuple(v.shape))) for v in tf.trainable_variables()])
            assert session.run(loss.total) == pytest.approx(loss_published, rel=1e-4)
