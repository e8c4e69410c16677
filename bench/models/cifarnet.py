"""A small network for CIFAR-10 in the manner of Krizhevsky's cuda-convnet, as slim/nets/cifarnet.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers


@register(
    'cifarnet',
    image_size=32,
    batch_size=64,
    least_image_size=4,
    preprocessing='cifarnet',
    parameters=1_947_689,
    multiply_adds=32_968_384,
)
def cifarnet(net: Layers, images: Any) -> Any:
    """Two convolutions with local response normalization, which do not decay, and three fully connected layers."""
    with net.scope('CifarNet'):
        with net.style(initializer=Initializer(stddev=0.05), regularize=False):
            x = net.end('conv1', net.conv(images, 64, 5, 'conv1'))
            x = net.end('pool1', net.max_pool(x, 2, 'pool1'))
            x = net.local_response_norm(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
            x = net.end('conv2', net.conv(x, 64, 5, 'conv2'))
            x = net.local_response_norm(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
            x = net.end('pool2', net.max_pool(x, 2, 'pool2'))
        x = net.end('Flatten', net.flatten(x))
        with net.style(initializer=Initializer(stddev=0.04), bias=0.1):
            x = net.dropout(net.end('fc3', net.dense(x, 384, 'fc3')), 0.5, 'dropout3')
            x = net.end('fc4', net.dense(x, 192, 'fc4'))
        last = Initializer(stddev=1 / 192)
        x = net.dense(x, net.num_classes, 'logits', activation=None, initializer=last, regularize=False)
    net.end('Predictions', net.softmax(net.end('Logits', x)))
    return x
