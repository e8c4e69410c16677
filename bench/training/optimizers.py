"""How gradients change the weights."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bench.models import weight_decay
from bench.options import StepOptions


def decayed_by_optimizer(options: StepOptions) -> list[weight_decay.WeightDecay]:
    """The graph's weight decays that `optimizer` applies by itself: their penalties are to be left out of gradients.

    Gradient descent does, unless gradients are clipped, which is meant for the decay's too, or the step is so long that
    the decay would turn the weights' signs.
    """
    rate = max(options.learning_rate, options.end_learning_rate)
    if options.optimizer != 'sgd' or options.gradient_clip is not None:
        return []
    return [decay for decay in weight_decay.collected() if rate * decay.factor < 0.5]


def optimizer(options: StepOptions, learning_rate: Any) -> tf.train.Optimizer:
    """The optimizer that the options name, with slim's parameters."""
    if options.optimizer == 'sgd':
        return _DecayingDescent(learning_rate, decayed_by_optimizer(options))
    if options.optimizer == 'momentum':
        return tf.train.MomentumOptimizer(learning_rate, momentum=options.momentum)
    if options.optimizer == 'rmsprop':
        return tf.train.RMSPropOptimizer(
            learning_rate, decay=options.rmsprop_decay, momentum=options.rmsprop_momentum, epsilon=options.opt_epsilon
        )
    return tf.train.AdamOptimizer(
        learning_rate, beta1=options.adam_beta1, beta2=options.adam_beta2, epsilon=options.opt_epsilon
    )


class _DecayingDescent(tf.train.GradientDescentOptimizer):
    """Gradient descent that decays weights in the pass over memory that updates them.

    What it leaves, w - r (g + d w), is TensorFlow's proximal step (w - a g) / (1 + a d) for a = r / (1 - r d). Adding
    d w to the gradient instead reads and writes memory of the weights' size four times more.
    """

    def __init__(self, learning_rate: Any, decays: list[weight_decay.WeightDecay]) -> None:
        super().__init__(learning_rate)
        self._decays = {decay.variable.op.name: decay.factor for decay in decays}

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        decay = self._decays.get(handle.op.name)
        if decay is None:
            return super()._resource_apply_dense(grad, handle)
        rate = self._learning_rate_tensor
        return tf.raw_ops.ResourceApplyProximalGradientDescent(
            var=handle.handle, alpha=rate / (1 - rate * decay), l1=0.0, l2=decay, delta=grad
        )
