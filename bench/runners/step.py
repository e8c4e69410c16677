"""The graph of one step: what a benchmark repeats, and what training to convergence repeats too.

A training step is forward, loss, gradients, clipping, the optimizer's update, batch norm's and the moving averages'
updates and the global step. An inference step is the frozen network. Both read synthetic or real data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from bench.config import BenchmarkConfig
from bench.data import pipeline, synthetic
from bench.data.datasets import Dataset
from bench.models import multiply_adds
from bench.models.build import Output, build
from bench.models.registry import Network
from bench.models.slim import slim
from bench.options import StepOptions
from bench.runners import inference
from bench.training import learning_rates, losses, optimizers

Tensor = Any

# What an epoch is for a decaying learning rate where the data does not say: ImageNet's.
_SAMPLES_PER_EPOCH = 1_281_167


@dataclasses.dataclass(frozen=True)
class Step:
    """A step, ready to be run in a session.

    Attributes:
      graph: in which it is.
      operation: does the step.
      loss: of the step before its update, a scalar; None where nothing is learned (input alone).
      initializers: to be run once, in this order.
      multiply_adds: of one image's forward pass; 0 for input alone.
    """

    graph: tf.Graph
    operation: tf.Operation
    loss: Tensor | None
    initializers: tuple[tf.Operation, ...]
    multiply_adds: int


def benchmark_step(config: BenchmarkConfig, network: Network, dataset: Dataset | None, session_config: Any) -> Step:
    """The step that a benchmark's (resolved) configuration asks for."""
    if config.data.input_only:
        return _input_step(config, network, dataset)
    if config.step.forward_only:
        return _inference_step(config, network, dataset, session_config)
    return _training_step(config, network, dataset)


def update_operation(
    total_loss: Tensor, options: StepOptions, learning_rate: Tensor, global_step: Tensor
) -> tf.Operation:
    """One update of everything that a step changes: weights, batch norm's statistics, moving averages, global step."""
    optimizer = optimizers.optimizer(options, learning_rate)
    gradients = [pair for pair in optimizer.compute_gradients(total_loss) if pair[0] is not None]
    if options.gradient_clip is not None:
        limit = options.gradient_clip
        gradients = [(tf.clip_by_value(gradient, -limit, limit), variable) for gradient, variable in gradients]
    updates = [optimizer.apply_gradients(gradients, global_step), *tf.get_collection(tf.GraphKeys.UPDATE_OPS)]
    if options.moving_average_decay is None:
        return tf.group(*updates, name='step')
    averages = tf.train.ExponentialMovingAverage(options.moving_average_decay, global_step)
    # Averages are of the updated weights.
    with tf.control_dependencies(updates):
        return tf.group(averages.apply(slim.get_model_variables()), name='step')


def _training_step(config: BenchmarkConfig, network: Network, dataset: Dataset | None) -> Step:
    options = config.step
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        tf.set_random_seed(config.data.tf_random_seed)
        images, labels, input_initializers = _input(config, network, dataset)
        output = _build(config, network, images, is_training=True)
        loss = losses.losses(output, labels, options.label_smoothing)
        global_step = tf.train.get_or_create_global_step()
        samples = options.num_samples_per_epoch or (dataset and dataset.num_samples) or _SAMPLES_PER_EPOCH
        rate = learning_rates.learning_rate(options, global_step, _batch_size(config), samples)
        return Step(
            graph=graph,
            operation=update_operation(loss.total, options, rate, global_step),
            loss=loss.total,
            initializers=(tf.global_variables_initializer(), tf.local_variables_initializer(), *input_initializers),
            multiply_adds=multiply_adds.count([output.logits, *output.aux_logits]),
        )


def _inference_step(config: BenchmarkConfig, network: Network, dataset: Dataset | None, session_config: Any) -> Step:
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        tf.set_random_seed(config.data.tf_random_seed)
        placeholder = tf.placeholder(tf.float32, _images_shape(config, network), 'images')
        output = _build(config, network, placeholder, is_training=False)
        count = multiply_adds.count([output.logits])
        with tf.Session(config=session_config) as session:
            session.run(tf.global_variables_initializer())
            session.run(_like_trained(config.data.tf_random_seed))
            name = output.logits.op.name
            frozen = inference.fold_batch_norms(inference.freeze(session, name), name)
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        images, labels, input_initializers = _input(config, network, dataset)
        logits = inference.attach(frozen, placeholder.op.name, images, output.logits.op.name)
        loss = losses.losses(Output(logits, (), {}), labels, label_smoothing=0.0)
        return Step(
            graph=graph,
            # Not a group: grappler drops what leads to a group by control alone and has no effect.
            operation=loss.classification.op,
            loss=loss.classification,
            initializers=(tf.local_variables_initializer(), *input_initializers),
            multiply_adds=count,
        )


def _like_trained(seed: int) -> tf.Operation:
    """Gives biases and means small random values, as a trained network has.

    They begin as zeros, whose addition grappler would remove: other operations would be timed than in real use.
    """
    ends = ('/biases', '/beta', '/moving_mean')
    variables = [variable for variable in tf.global_variables() if variable.op.name.endswith(ends)]
    return tf.group(
        *(
            variable.assign(tf.random.stateless_uniform(variable.shape, [seed, index], -0.01, 0.01))
            for index, variable in enumerate(variables)
        )
    )


def _input_step(config: BenchmarkConfig, network: Network, dataset: Dataset | None) -> Step:
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        images, labels, initializers = _input(config, network, dataset)
        return Step(
            graph=graph,
            operation=tf.group(images.op, labels.op, name='step'),
            loss=None,
            initializers=initializers,
            multiply_adds=0,
        )


def _build(config: BenchmarkConfig, network: Network, images: Tensor, *, is_training: bool) -> Output:
    return build(
        network,
        images,
        data_format=config.network.data_format,
        is_training=is_training,
        num_classes=config.network.num_classes,
        weight_decay=config.step.weight_decay,
    )


def _input(
    config: BenchmarkConfig, network: Network, dataset: Dataset | None
) -> tuple[Tensor, Tensor, tuple[tf.Operation, ...]]:
    """Images in the data format, labels [N], and what to run before the first step."""
    shared: dict[str, Any] = {
        'batch_size': _batch_size(config),
        'image_size': config.network.image_size,
        'channels': network.channels,
        'data_format': config.network.data_format,
        'seed': config.data.tf_random_seed,
    }
    if dataset is None:
        images, labels = synthetic.batch(num_classes=config.network.num_classes or 0, **shared)
        return images, labels, ()
    batches = pipeline.batches(
        dataset,
        preprocessing=network.preprocessing,
        is_training=not config.step.forward_only,
        num_threads=config.data.datasets_num_private_threads or 1,
        **shared,
    )
    iterator = tf.data.make_initializable_iterator(batches)
    images, labels = iterator.get_next()
    images.set_shape(_images_shape(config, network))
    return images, labels, (iterator.initializer,)


def _images_shape(config: BenchmarkConfig, network: Network) -> list[int | None]:
    size, channels = config.network.image_size, network.channels
    spatial = [size, size]
    return [
        _batch_size(config),
        *([*spatial, channels] if config.network.data_format == 'NHWC' else [channels, *spatial]),
    ]


def _batch_size(config: BenchmarkConfig) -> int:
    assert config.network.batch_size is not None, 'a resolved configuration has a batch size'
    return config.network.batch_size


def prepare(step: Step, session: tf.Session) -> Callable[[], float | None]:
    """Initializes and gives the function that does one step and tells its loss, with nothing else fetched."""
    for initializer in step.initializers:
        session.run(initializer)
    if step.loss is None:
        return session.make_callable(step.operation)
    call = session.make_callable([step.operation, step.loss])
    return lambda: float(call()[1])
