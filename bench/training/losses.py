"""The loss of a training step, as TF-Slim's train_image_classifier adds it up."""

from __future__ import annotations

import dataclasses
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
