"""How the layers of a network are made, as plain data: no TensorFlow here, so that families' files can say it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalization as a family uses it: moving statistics' decay, epsilon, and whether there is a gamma."""

    decay: float = 0.997
    epsilon: float = 1e-5
    scale: bool = True


@dataclasses.dataclass(frozen=True)
class Initializer:
    """Initial weights: normally distributed, without what is more than two standard deviations off.

    Attributes:
      stddev: of the weights; None: sqrt(2 / inputs of an output), He et al. 2015, arXiv:1502.01852.
      fan_out: with stddev None, sqrt(2 / outputs of an input).
    """

    stddev: float | None = None
    fan_out: bool = False


HE = Initializer()


@dataclasses.dataclass(frozen=True)
class Style:
    """What the layers of a part of a network have in common.

    Attributes:
      batch_norm: normalize after each layer with weights, which then has no biases; None: biases instead.
      activation: after each layer with weights; the name of one of Layers' activations, or None.
      initializer: of weights; slim's default (Glorot & Bengio 2010) where None.
      bias: biases' initial value, or None for no biases.
      regularize: whether weights decay that are not depthwise.
      regularize_depthwise: whether depthwise weights decay.
      regularize_biases: whether biases decay.
    """

    batch_norm: BatchNorm | None = None
    activation: str | None = 'relu'
    initializer: Initializer | None = None
    bias: float | None = 0.0
    regularize: bool = True
    regularize_depthwise: bool = False
    regularize_biases: bool = False
