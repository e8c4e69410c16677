"""The graph of one step: what a benchmark repeats, and what training to convergence repeats too.

A training step is forward, loss, gradients, clipping, the optimizer's update, batch norm's and the moving averages'
updates and the global step, all as slim's train_image_classifier.py and model_deploy.py have them. An inference step is
the frozen network. Both read synthetic or real data, and begin with random weights or a checkpoint's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
from bench.runners.strategy import Strategy
from bench.training import checkpoints, learning_rates, losses, optimizers, scopes
from bench.training.checkpoint_files import Checkpoint

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
      checkpoint: that the initializers read; None where they read none.
      alone: the step without its exchange with other workers; None where it has none.
    """

    graph: tf.Graph
    operation: tf.Operation
    loss: Tensor | None
    initializers: tuple[tf.Operation, ...]
    multiply_adds: int
    checkpoint: Checkpoint | None = None
    alone: tf.Operation | None = None


@dataclasses.dataclass(frozen=True)
class Training:
    """What a training step computes.

    Attributes:
      operation: does the step.
      loss, learning_rate: of the step before its update, scalars.
      multiply_adds: of one image's forward pass.
      alone: the step without its exchange with other workers; None where it has none.
    """

    operation: tf.Operation
    loss: Tensor
    learning_rate: Tensor
    multiply_adds: int
    alone: tf.Operation | None = None


def benchmark_step(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    session_config: Any,
    checkpoint: Checkpoint | None = None,
    strategy: Strategy | None = None,
) -> Step:
    """The step that a benchmark's (resolved) configuration asks for.

    Args:
      strategy: how several processes share it; by itself where not given.

    Raises:
      UsageError: the checkpoint does not fit the network, or scopes that are in the configuration name no variable.
      DataError: the checkpoint cannot be read.
    """
    strategy = strategy or Strategy()
    if config.data.input_only:
        return _input_step(config, network, dataset, strategy)
    if config.step.forward_only:
        return _inference_step(config, network, dataset, session_config, checkpoint, strategy)
    return _training_step(config, network, dataset, checkpoint, strategy)


def training(
    config: BenchmarkConfig,
    network: Network,
    clones: Sequence[tuple[Tensor, Tensor]],
    samples_per_epoch: int,
    checkpoint: Checkpoint | None = None,
    strategy: Strategy | None = None,
) -> Training:
    """Makes a training step in the current graph.

    Args:
      clones: images in the data format and labels [N] of each clone. The clones share their variables; batch norm's
        statistics are moved by the first clone's images.
      samples_per_epoch: for the decay of the learning rate.
      checkpoint: what the variables begin with.
      strategy: how several processes share the step; by itself where not given.
    """
    options, strategy = config.step, strategy or Strategy()
    # Before the network, whose drop path would else make it in a scope.
    global_step = tf.train.get_or_create_global_step()
    outputs, seen = [], []
    for index, (images, labels) in enumerate(clones):
        with tf.name_scope(f'clone_{index}' if len(clones) > 1 else None), strategy.clone(index):
            outputs.append(_build(config, network, images, is_training=True))
        seen.append(losses.losses(outputs[-1], labels, options.label_smoothing))
    if checkpoint is not None:
        checkpoints.restore(checkpoint, config.checkpoint, averages=False)
    loss = losses.mean(seen)
    batch = (config.network.batch_size or 0) * strategy.batches
    rate = learning_rates.learning_rate(options, global_step, batch, samples_per_epoch)
    operation, *alone = update_operations(loss, options, rate, global_step, strategy)
    return Training(
        operation=operation,
        loss=loss.total,
        learning_rate=rate,
        multiply_adds=multiply_adds.count([outputs[0].logits, *outputs[0].aux_logits]),
        alone=alone[0] if alone else None,
    )


def update_operations(
    loss: losses.Losses,
    options: StepOptions,
    learning_rate: Tensor,
    global_step: Tensor,
    strategy: Strategy | None = None,
) -> list[tf.Operation]:
    """One update of everything that a step changes: weights, batch norm's statistics, moving averages, global step.

    Args:
      strategy: how several processes share it; by itself where not given.

    Returns:
      The operation, and behind it, where something is exchanged with other processes, one that does without that.

    Raises:
      UsageError: a trainable scope that no variable is in.
    """
    strategy = strategy or Strategy()
    optimizer = strategy.optimizer(optimizers.optimizer(options, learning_rate))
    trained = strategy.trained(scopes.within(tf.trainable_variables(), options.trainable_scopes, 'trainable_scopes'))
    learned = strategy.loss(loss.without([decay.penalty for decay in optimizers.decayed_by_optimizer(options)]))
    gradients = [pair for pair in optimizer.compute_gradients(learned, trained or None) if pair[0] is not None]
    exchanged = strategy.gradients(gradients)
    statistics = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    averages = []
    # Of variables that several processes share there is one set of averages.
    if options.moving_average_decay is not None and (strategy.leads or not strategy.shares_variables):
        average = tf.train.ExponentialMovingAverage(options.moving_average_decay, global_step)
        averages.append(average.apply(slim.get_model_variables()))
        # Averages are of the values before the step. In slim that is so because updates happen to come last.
        for update in statistics:
            getattr(update, 'op', update)._add_control_input(averages[0])
    # The loss reads weights that no gradient needs, where the optimizer decays them: it must not see them updated.
    before = [*averages, loss.total]
    update = optimizer.apply_gradients(_after(before, _clipped(exchanged, options)), global_step)
    if exchanged is gradients:
        return [tf.group(update, *statistics, *averages, name='step')]
    alone = optimizer.apply_gradients(_after(before, _clipped(gradients, options)), global_step)
    return [
        tf.group(update, *strategy.statistics(statistics), *averages, name='step'),
        tf.group(alone, *statistics, *averages, name='step_without_exchange'),
    ]


def _after(operations: list[Any], gradients: list[tuple[Tensor, Any]]) -> list[tuple[Tensor, Any]]:
    """The same gradients, which are there when these operations are done.

    They wait, and not what updates variables with them: that may be run by another process, or for several.
    """
    with tf.control_dependencies(operations):
        return [(tf.identity(gradient), variable) for gradient, variable in gradients]


def _clipped(gradients: list[tuple[Tensor, Any]], options: StepOptions) -> list[tuple[Tensor, Any]]:
    """Gradients and variables, as the options limit the gradients."""
    if options.gradient_clip is None:
        return gradients
    limit = options.gradient_clip
    return [(tf.clip_by_value(gradient, -limit, limit), variable) for gradient, variable in gradients]


def _training_step(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    checkpoint: Checkpoint | None,
    strategy: Strategy,
) -> Step:
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'), strategy.placement():
        # Dropout is another one in each worker. Their weights begin as those of the first.
        tf.set_random_seed(config.data.tf_random_seed + strategy.rank)
        with strategy.inputs():
            images, labels, input_initializers = _input(config, network, dataset, strategy)
        samples = config.step.num_samples_per_epoch or (dataset and dataset.num_samples) or _SAMPLES_PER_EPOCH
        clones = _split(images, labels, config.step.num_clones * config.distribution.replicas)
        step = training(config, network, clones, samples, checkpoint, strategy)
        return Step(
            graph=graph,
            operation=step.operation,
            loss=step.loss,
            initializers=(
                tf.global_variables_initializer(),
                tf.local_variables_initializer(),
                *input_initializers,
                *strategy.initializers(),
            ),
            multiply_adds=step.multiply_adds,
            checkpoint=checkpoint,
            alone=step.alone,
        )


def _inference_step(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    session_config: Any,
    checkpoint: Checkpoint | None,
    strategy: Strategy,
) -> Step:
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        tf.set_random_seed(config.data.tf_random_seed)
        placeholder = tf.placeholder(tf.float32, _images_shape(config, network), 'images')
        output = _build(config, network, placeholder, is_training=False, frozen=True)
        if not inference.can_be_frozen():
            return _unfrozen_step(config, network, dataset, checkpoint, strategy)
        count = multiply_adds.count([output.logits])
        begin = _weights(config, checkpoint)
        with tf.Session(config=session_config) as session:
            with checkpoints.reading(checkpoint):
                session.run(begin[0])
            session.run(begin[1])
            name = output.logits.op.name
            frozen = inference.fold_batch_norms(inference.freeze(session, name), name)
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        images, labels, input_initializers = _input(config, network, dataset, strategy)
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


def _unfrozen_step(
    config: BenchmarkConfig,
    network: Network,
    dataset: Dataset | None,
    checkpoint: Checkpoint | None,
    strategy: Strategy,
) -> Step:
    """Inference by a network that is too large to be frozen."""
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        tf.set_random_seed(config.data.tf_random_seed)
        images, labels, input_initializers = _input(config, network, dataset, strategy)
        output = _build(config, network, images, is_training=False)
        loss = losses.losses(Output(output.logits, (), {}), labels, label_smoothing=0.0)
        return Step(
            graph=graph,
            operation=loss.classification.op,
            loss=loss.classification,
            initializers=(*_weights(config, checkpoint), tf.local_variables_initializer(), *input_initializers),
            multiply_adds=multiply_adds.count([output.logits]),
            checkpoint=checkpoint,
        )


def _weights(config: BenchmarkConfig, checkpoint: Checkpoint | None) -> tuple[tf.Operation, tf.Operation]:
    """What gives the current graph's variables the values that inference begins with, to be run in this order."""
    restored: set[str] = set()
    if checkpoint is not None:
        averages = config.step.moving_average_decay is not None
        restored = checkpoints.restore(checkpoint, config.checkpoint, averages=averages)
    return tf.global_variables_initializer(), _like_trained(config.data.tf_random_seed, restored)


def _like_trained(seed: int, restored: set[str]) -> tf.Operation:
    """Gives biases and means that were not restored small random values, as a trained network has.

    They begin as zeros, whose addition grappler would remove: other operations would be timed than in real use.
    """
    ends = ('/biases', '/bias', '/beta', '/mean', '/moving_mean')
    begun = [variable for variable in tf.global_variables() if variable.op.name not in restored]
    variables = [variable for variable in begun if variable.op.name.endswith(ends)]
    return tf.group(
        *(
            variable.assign(tf.random.stateless_uniform(variable.shape, [seed, index], -0.01, 0.01))
            for index, variable in enumerate(variables)
        )
    )


def _input_step(config: BenchmarkConfig, network: Network, dataset: Dataset | None, strategy: Strategy) -> Step:
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        images, labels, initializers = _input(config, network, dataset, strategy)
        return Step(
            graph=graph,
            operation=tf.group(images.op, labels.op, name='step'),
            loss=None,
            initializers=initializers,
            multiply_adds=0,
        )


def _build(
    config: BenchmarkConfig, network: Network, images: Tensor, *, is_training: bool, frozen: bool = False
) -> Output:
    return build(
        network,
        images,
        data_format=config.network.data_format,
        is_training=is_training,
        frozen=frozen,
        num_classes=config.network.num_classes,
        weight_decay=config.step.weight_decay,
        precision=config.network.precision,
    )


def _input(
    config: BenchmarkConfig, network: Network, dataset: Dataset | None, strategy: Strategy
) -> tuple[Tensor, Tensor, tuple[tf.Operation, ...]]:
    """Images in the data format, labels [N], and what to run before the first step."""
    shared: dict[str, Any] = {
        'batch_size': config.images_per_step,
        'image_size': config.network.image_size,
        'channels': network.channels,
        'data_format': config.network.data_format,
    }
    seed = config.data.tf_random_seed
    if dataset is None:
        classes = config.network.num_classes or 0
        images, labels = synthetic.batch(num_classes=classes, seed=seed + strategy.rank, **shared)
        return images, labels, ()
    batches = pipeline.batches(
        dataset,
        seed=seed,
        worker=strategy.rank,
        workers=strategy.size,
        preprocessing=config.preprocessing(),
        is_training=not config.step.forward_only,
        num_threads=config.data.datasets_num_private_threads or 1,
        cache=config.data.cache_data,
        **shared,
    )
    iterator = tf.data.make_initializable_iterator(batches)
    images, labels = iterator.get_next()
    images.set_shape(_images_shape(config, network))
    return images, labels, (iterator.initializer,)


def _split(images: Tensor, labels: Tensor, clones: int) -> list[tuple[Tensor, Tensor]]:
    """Each clone's part of a batch."""
    if clones == 1:
        return [(images, labels)]
    return list(zip(tf.split(images, clones), tf.split(labels, clones), strict=True))


def _images_shape(config: BenchmarkConfig, network: Network) -> list[int | None]:
    size, channels = config.network.image_size, network.channels
    spatial = [size, size]
    return [
        config.images_per_step,
        *([*spatial, channels] if config.network.data_format == 'NHWC' else [channels, *spatial]),
    ]


def prepare(step: Step, session: tf.Session, strategy: Strategy | None = None) -> Callable[[], float | None]:
    """Initializes and gives the function that does one step and tells its loss, with nothing else fetched."""
    strategy = strategy or Strategy()
    with checkpoints.reading(step.checkpoint):
        strategy.initialize(session, step.initializers)
    return strategy.call(session, step.operation, step.loss)
