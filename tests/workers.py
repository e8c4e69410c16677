"""Trains small networks as one of several workers, or as one alone, and saves what came of it: for test_horovod.py.

A process under horovodrun sees its part of each batch: worker r of images r b to (r + 1) b.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from bench import flags
from bench.config import BenchmarkConfig
from bench.models import registry
from bench.models.layers import Layers
from bench.models.slim import slim
from bench.runners import member, strategy
from bench.runners import session as sessions
from bench.runners import step as steps
from bench.runners.strategy import Strategy

# Two steps of 8 images are 0.16 epochs of 100.
DECAY = ('--learning_rate_decay_type=exponential', '--num_epochs_per_decay=0.16')
# Network, its images' size, all workers' images in a step, steps, flags.
CASES: dict[str, tuple[str, int, int, int, tuple[str, ...]]] = {
    'sgd': ('lenet', 28, 8, 5, ('--weight_decay=0.01',)),
    'clipped': ('lenet', 28, 8, 5, ('--optimizer=momentum', '--gradient_clip=0.01', '--weight_decay=0.01', *DECAY)),
    'fp16': ('lenet', 28, 8, 5, ('--compression=fp16',)),
    'own_statistics': ('mobilenet_v1_025', 32, 8, 1, ()),
    'mean_statistics': ('mobilenet_v1_025', 32, 8, 1, ('--batch_norm_statistics=averaged',)),
    'mean_statistics_2': ('mobilenet_v1_025', 32, 8, 2, ('--batch_norm_statistics=averaged',)),
}


def config(case: str, *, alone: bool) -> BenchmarkConfig:
    model, size, images, _, words = CASES[case]
    batch = images if alone else images // 2
    shared = (
        ['--variable_update=horovod', *words]
        if not alone
        else [word for word in words if 'optim' in word or 'clip' in word or 'decay' in word]
    )
    words = (f'--model={model}', f'--image_size={size}', f'--batch_size={batch}', *shared)
    found, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    return found.resolved(registry.get(model), None, usable_cpus=1)


def batches(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [steps, N, H, W, C] and labels [steps, N] of all workers."""
    model, size, images, count, _ = CASES[case]
    random = np.random.RandomState(7)
    shape = [count, images, size, size, registry.get(model).channels]
    return random.uniform(-1, 1, shape).astype(np.float32), random.randint(1, 10, [count, images])


def train(case: str, settings: BenchmarkConfig, shared: Strategy) -> dict[str, Any]:
    """All variables after the case's steps, the loss of each step, and what a step exchanges."""
    images, labels = batches(case)
    part = images.shape[1] // shared.size
    mine = slice(shared.rank * part, (shared.rank + 1) * part)
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        # Another seed in each worker: equal weights come from the first one alone.
        tf.set_random_seed(1 + shared.rank)
        number = tf.train.get_or_create_global_step()
        seen = [tf.gather(tf.constant(values[:, mine]), number) for values in (images, labels)]
        network = registry.get(settings.network.model)
        step = steps.training(settings, network, [(seen[0], seen[1])], 100, strategy=shared)
        initializers = (tf.global_variables_initializer(), *shared.initializers())
        session_config = sessions.config(intra_threads=1, inter_threads=1, precision='fp32', xla=False)
        with shared.session(graph, session_config) as session:
            shared.initialize(session, initializers)
            before = values_of(session) if shared.size > 1 else begin(session, case)
            call = shared.call(session, step.operation, step.loss)
            losses = [call() for _ in images]
            after = values_of(session)
            shared.meet()
    found = {f'before/{name}': value for name, value in before.items()}
    found |= {f'after/{name}': value for name, value in after.items()}
    return found | {'losses': np.array(losses), 'payload': np.array((shared.exchange() or {}).get('payload_bytes', 0))}


def values_of(session: tf.Session) -> dict[str, Any]:
    return session.run({variable.op.name: variable for variable in slim.get_model_variables()})


def begin(session: tf.Session, case: str) -> dict[str, Any]:
    """The single worker begins with the weights that the several began with."""
    saved = np.load(Path(sys.argv[1]) / f'{case}-0.npz')
    for variable in slim.get_model_variables():
        variable.load(saved[f'before/{variable.op.name}'], session)
    return values_of(session)


def main() -> None:
    Layers.dropout = lambda self, x, keep_prob, scope='Dropout': x  # type: ignore[method-assign]
    place = member.place(os.environ)
    alone = place is None
    shared = strategy.of(config('sgd', alone=alone).distribution, place)
    for case in sys.argv[2:]:
        # One Horovod for all cases of a process, with the options of each.
        settings = config(case, alone=alone)
        if not alone:
            shared = strategy.of(settings.distribution, place)
        name = f'{case}-alone' if alone else f'{case}-{shared.rank}'
        np.savez(Path(sys.argv[1]) / name, **train(case, settings, shared))


if __name__ == '__main__':
    main()
