"""The loss of a training step, as TF-Slim's train_image_classifier adds it up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from bench.models.build import Output

Tensor = Any

# What an auxiliary head's loss weighs (Szegedy et al. 2015, arXiv:1512.00567; slim's train_image_classifier.py).
AUX_WEIGHT = 0.4


@dataclasses.dataclass(frozen=True)
class Losses:
    """Scalars: of the labels (auxiliary heads included), of the weights, and their sum."""

    classification: Tensor
    regularization: Tensor
    total: Tensor

    def without(self, penalties: Sequence[Tensor]) -> Tensor:
        """The total without some of the regularization's terms, for gradients: its value is not computed."""
        # Tensors are compared by name, as they do not compare by themselves.
        left_out = {penalty.name for penalty in penalties}
        collected = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        return tf.add_n([self.classification, *(term for term in collected if term.name not in left_out)])


def losses(output: Output, labels: Tensor, label_smoothing: float) -> Losses:
    """Softmax cross entropy, plus 0.4 of each auxiliary head's, plus the weights' L2 regularization.

    Args:
      labels: [N] integers.
      label_smoothing: share of each label that is spread evenly over all classes.
    """
    num_classes = int(output.logits.shape[-1])
    with tf.name_scope('losses'):
        one_hot = tf.one_hot(labels, num_classes)
        terms = [tf.losses.softmax_cross_entropy(one_hot, output.logits, label_smoothing=label_smoothing)]
        terms += [
            tf.losses.softmax_cross_entropy(one_hot, logits, label_smoothing=label_smoothing, weights=AUX_WEIGHT)
            for logits in output.aux_logits
        ]
        classification = tf.add_n(terms)
        penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        regularization = tf.add_n(penalties) if penalties else tf.constant(0.0)
        return Losses(classification, regularization, tf.add(classification, regularization, name='total_loss'))


def mean(clones: Sequence[Losses]) -> Losses:
    """The loss of several clones: the mean of their labels' losses, and the weights' regularization once."""
    if len(clones) == 1:
        return clones[0]
    classification = tf.add_n([clone.classification for clone in clones]) / len(clones)
    return Losses(classification, clones[0].regularization, tf.add(classification, clones[0].regularization))
