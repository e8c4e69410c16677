"""One process of a job that trains lenet for some steps, and saves what came of it: for test_parameter_server.py.

  shared_training.py STEPS BATCH OUT JOB TASK SERVERS WORKERS --flags   a server, or a worker with a part of the batch
  shared_training.py STEPS BATCH OUT alone 0 - - --flags                one process, or its replicas, with all of it

What is done is what the program does, by the same functions; only data and first weights are given here, so that they
are the same however many processes there are.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from published import weight

from bench import flags
from bench.config import BenchmarkConfig
from bench.models import registry
from bench.models.layers import Layers
from bench.runners import cluster, server, strategy
from bench.runners import session as sessions
from bench.runners import step as steps
from bench.screen import Screen

_CLASSES = 10


def data(steps_to_do: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [steps, N, 28, 28, 1] and labels [steps, N]."""
    random = np.random.RandomState(3)
    labels = random.randint(0, _CLASSES, [steps_to_do, batch])
    return random.uniform(-1, 1, [steps_to_do, batch, 28, 28, 1]).astype(np.float32), labels.astype(np.int32)


def train(config: BenchmarkConfig, shared: strategy.Strategy, steps_to_do: int, batch: int) -> dict[str, Any]:
    """Losses, and all variables at the end; of workers that do not lead the losses alone."""
    network = registry.get('lenet')
    settings = sessions.config(intra_threads=1, inter_threads=1, precision='fp32', xla=False)
    share = batch // shared.size
    images, labels = (part[:, shared.rank * share : (shared.rank + 1) * share] for part in data(steps_to_do, batch))
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'), shared.placement():
        with shared.inputs():
            iterator = tf.data.make_initializable_iterator(tf.data.Dataset.from_tensor_slices((images, labels)))
            parts = [tf.split(each, config.distribution.replicas) for each in iterator.get_next()]
        step = steps.training(config, network, list(zip(*parts, strict=True)), 1000, None, shared)
        with tf.control_dependencies([tf.global_variables_initializer()]):
            given = [variable for variable in tf.trainable_variables() if variable.op.name.startswith('LeNet')]
            begin = tf.group(*(value for variable in given for value in _begun(variable)))
        initializers = (begin, tf.local_variables_initializer(), iterator.initializer, *shared.initializers())
        values = {variable.op.name: variable for variable in tf.global_variables()}
        with shared.session(graph, settings) as session:
            shared.initialize(session, initializers)
            call = shared.call(session, step.operation, step.loss)
            losses = [call() for _ in range(steps_to_do)]
            shared.meet()
            return {'losses': losses, **(session.run(values) if shared.leads else {})}


def _begun(variable: Any) -> list[Any]:
    """Gives a variable its value, and its moving average the same, where it has one."""
    value = weight(variable.op.name, tuple(variable.shape))
    same = (variable.op.name, f'{variable.op.name}/ExponentialMovingAverage')
    return [each.assign(value) for each in tf.global_variables() if each.op.name in same]


def main() -> None:
    steps_to_do, batch, out, job, task, servers, workers, *words = sys.argv[1:]
    if job != 'alone':
        words += cluster.words(servers.split(','), workers.split(','), job, int(task))
    copies = len(workers.split(',')) if job != 'alone' else words.count('--num_workers=2') + 1
    # Of which the decay of the learning rate is told.
    words.append(f'--batch_size={int(batch) // copies}')
    # Random, and another one in each process.
    Layers.dropout = lambda self, x, keep_prob, scope='Dropout': x  # type: ignore[method-assign]
    config, problems = flags.parse(BenchmarkConfig, ['--model=lenet', f'--num_classes={_CLASSES}', *words], 'program')
    assert problems == []
    config = config.resolved(registry.get('lenet'), None, 1)
    options = config.distribution
    with Screen() as screen:
        if job == cluster.SERVER:
            settings = sessions.config(intra_threads=1, inter_threads=1, precision='fp32', xla=False)
            server.serve(options, settings, screen)
            return
        shared = strategy.of(options, None, screen)
        seen = train(config, shared, int(steps_to_do), int(batch))
        if job == cluster.WORKER:
            # As the first worker does, which writes the record of all; with it the servers hear that this is the end.
            shared.gather({})
        np.savez(out, **seen)


if __name__ == '__main__':
    main()
