"""Multiply-adds of layers small enough to count by hand."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from bench.errors import BenchError
from bench.models import multiply_adds
from bench.models.layers import Layers


def test_multiply_adds_of_one_image_are_those_counted_by_hand() -> None:
    with tf.Graph().as_default():
        net = Layers()
        x = net.conv(tf.zeros([4, 10, 10, 3]), 8, 3, 'conv', stride=2)  # 5 * 5 * 8 results of 3 * 3 * 3 products
        x = net.depthwise(x, 3, 'depthwise')  # 5 * 5 * 8 results of 3 * 3 products
        x = net.full_conv(x, 6, 5, 'fully_connected')  # 6 results of 5 * 5 * 8 products
        logits = net.dense(net.flatten(x), 7, 'logits')  # 7 results of 6 products
        net.conv(x, 100, 1, 'unused')
        assert multiply_adds.count([logits]) == 200 * 27 + 200 * 9 + 6 * 200 + 7 * 6


def test_what_two_outputs_share_is_counted_once() -> None:
    with tf.Graph().as_default():
        net = Layers()
        shared = net.dense(tf.zeros([2, 5]), 10, 'shared')
        outputs = [net.dense(shared, 3, 'one'), net.dense(shared, 4, 'other')]
        assert multiply_adds.count(outputs) == 50 + 30 + 40


def test_products_and_transposed_convolutions_of_an_own_network_count_too() -> None:
    with tf.Graph().as_default():
        heads, words = tf.zeros([2, 3, 4, 5]), tf.zeros([2, 3, 5, 6])
        x = tf.matmul(heads, words) + tf.matmul(heads, words, transpose_a=False)  # twice 3 * 4 * 6 sums of 5
        y = tf.matmul(tf.zeros([2, 3, 5, 4]), words, transpose_a=True)  # and once more
        image = tf.reshape(x + y, [2, 6, 4, 3])
        # Every pixel of the input is multiplied with all weights: 2 * 2 * 3 * 7.
        large = tf.nn.conv2d_transpose(image, tf.zeros([2, 2, 7, 3]), [2, 12, 8, 7], strides=2)
        assert multiply_adds.count([large]) == 3 * (3 * 4 * 6 * 5) + 6 * 4 * (2 * 2 * 3 * 7)


def test_an_unknown_batch_is_refused_and_not_counted_as_nothing() -> None:
    with tf.Graph().as_default():
        logits = Layers().dense(tf.placeholder(tf.float32, [None, 5]), 10, 'logits')
        with pytest.raises(BenchError, match=r'is not known.*set_shape'):
            multiply_adds.count([logits])
