"""Trains as slim's published training loop was trained, and prints what came of it: for test_trajectories.py.

By the program's own operations (`shipped`), or with those of the published networks in place of faster ones (`plain`).

A process of its own, because TensorFlow's threads, which the first session of a process decides, change roundings.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from published import weight

from bench import flags
from bench.config import BenchmarkConfig
from bench.models import gradients, registry
from bench.models.layers import Layers
from bench.models.slim import slim
from bench.runners import session as sessions
from bench.runners import step as steps

_NUMBERS = np.load(Path(__file__).parent / 'data' / 'trajectories.npz')


def _batch(step: int, clone: int, batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(1000 * step + clone)
    return random.uniform(-1, 1, [batch_size, size, size, 3]), random.randint(0, 1001, [batch_size])


def _config(case: str) -> BenchmarkConfig:
    words = [*map(str, _NUMBERS[f'{case}/flags']), f'--image_size={_NUMBERS[f"{case}/image_size"]}']
    # The one default of slim's that is another here.
    decay = [word for word in words if word.startswith('--learning_rate_decay_type')]
    config, problems = flags.parse(
        BenchmarkConfig, [*words, *([] if decay else ['--learning_rate_decay_type=exponential'])], 'program'
    )
    assert problems == []
    return config.resolved(registry.get(config.network.model), None, usable_cpus=2)


def train(case: str) -> dict[str, Any]:
    """Losses and learning rates, and the norms of all model variables and of their moving averages."""
    config = _config(case)
    batch, size = config.network.batch_size or 0, config.network.image_size or 0
    with tf.Graph().as_default():
        places = [
            (tf.placeholder(tf.float32, [batch, size, size, 3]), tf.placeholder(tf.int32, [batch]))
            for _ in range(config.step.num_clones)
        ]
        samples = int(_NUMBERS[f'{case}/num_samples_per_epoch'])
        step = steps.training(config, registry.get(config.network.model), places, samples)
        settings = sessions.config(intra_threads=2, inter_threads=1, precision='fp32', xla=False)
        with tf.Session(config=settings) as session:
            session.run(tf.global_variables_initializer())
            begin = {v.initializer.inputs[1]: weight(v.op.name, tuple(v.shape)) for v in tf.trainable_variables()}
            session.run([variable.initializer for variable in tf.trainable_variables()], begin)
            seen = []
            for number in range(len(_NUMBERS[f'{case}/losses'])):
                feed = {}
                for clone, (images, labels) in enumerate(places):
                    feed[images], feed[labels] = _batch(number, clone, batch, size)
                seen.append(session.run([step.loss, step.learning_rate, step.operation], feed)[:2])
            values = session.run({variable.op.name: variable for variable in tf.global_variables()})
            model = [variable.op.name for variable in slim.get_model_variables()]
    norms = {name: float(np.linalg.norm(value)) for name, value in values.items()}
    end = '/ExponentialMovingAverage'
    averages = {name: norms[name + end] for name in model if name + end in norms}
    losses, rates = np.array(seen, np.float64).T
    return {
        'losses': losses.tolist(),
        'rates': rates.tolist(),
        'norms': {name: norms[name] for name in model},
        'averages': averages,
    }


def _without_dropout(self: Layers, x: Any, keep_prob: float, scope: str = 'Dropout') -> Any:
    return x


def make_plain(case: str) -> None:
    """The operations of the published networks, in place of the faster ones with the same values: rounding counts here.

    Batches of four and these learning rates are chaotic: conv1's weights double in six steps of ResNet. The shipped
    operations move later losses by up to 4 %, another instruction set (ONEDNN_MAX_CPU_ISA=AVX2) by up to 9 %.
    """
    replaced: list[tuple[Any, str, Any]] = [
        (Layers, 'full_conv', _full_conv),
        (gradients, 'of_convolution', lambda *_: contextlib.nullcontext()),
        (gradients, 'of_dense', contextlib.nullcontext),
    ]
    if case.startswith('mobilenet'):
        replaced.append((Layers, 'global_pool', _average_pool))
    for owner, name, function in replaced:
        setattr(owner, name, function)


def _full_conv(self: Layers, x: Any, outputs: int, size: int, scope: str, **changes: Any) -> Any:
    return self.conv(x, outputs, size, scope, padding='VALID', **changes)


def _average_pool(self: Layers, x: Any, scope: str) -> Any:
    return tf.nn.avg_pool2d(x, self.map_size(x), 1, 'VALID', name=scope)


if __name__ == '__main__':
    name, operations = sys.argv[1:]
    setattr(Layers, 'dropout', _without_dropout)  # noqa: B010  (as mypy takes no assignment to a method)
    if operations == 'plain':
        make_plain(name)
    print(json.dumps(train(name)))
