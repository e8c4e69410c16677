"""How gradients change the weights."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bench.options import StepOptions


def optimizer(options: StepOptions, learning_rate: Any) -> tf.train.Optimizer:
    """The optimizer that the options name, with slim's parameters."""
    if options.optimizer == 'sgd':
        return tf.train.GradientDescentOptimizer(learning_rate)
    if options.optimizer == 'momentum':
        return tf.train.MomentumOptimizer(learning_rate, momentum=options.momentum)
    if options.optimizer == 'rmsprop':
        return tf.train.RMSPropOptimizer(
            learning_rate, decay=options.rmsprop_decay, momentum=options.rmsprop_momentum, epsilon=options.opt_epsilon
        )
    return tf.train.AdamOptimizer(
        learning_rate, beta1=options.adam_beta1, beta2=options.adam_beta2, epsilon=options.opt_epsilon
    )
