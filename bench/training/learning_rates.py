"""How the learning rate falls with the steps: slim's fixed, exponential and polynomial decays."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bench.options import StepOptions


def learning_rate(options: StepOptions, global_step: Any, batch_size: int, samples_per_epoch: int) -> Any:
    """The learning rate of the step that is about to be done, a scalar.

    As in slim's train_image_classifier.py: exponential decay goes down in stairs, one every num_epochs_per_decay
    epochs; polynomial decay is linear down to end_learning_rate. Epochs are those of one clone: those of a process go
    over the data that often each. Of workers that do an update together, each goes over its part of it.

    Args:
      batch_size: images of one clone in an update, of all workers whose gradients are averaged for it.
    """
    decay_steps = max(1, int(samples_per_epoch * options.num_epochs_per_decay / batch_size))
    if options.learning_rate_decay_type == 'exponential':
        return tf.train.exponential_decay(
            options.learning_rate, global_step, decay_steps, options.learning_rate_decay_factor, staircase=True
        )
    if options.learning_rate_decay_type == 'polynomial':
        return tf.train.polynomial_decay(
            options.learning_rate, global_step, decay_steps, options.end_learning_rate, power=1.0, cycle=False
        )
    return tf.constant(options.learning_rate, name='fixed_learning_rate')
