"""A variant of LeNet (LeCun et al. 1998) for MNIST, as slim/nets/lenet.py has it.

tf_cnn_benchmarks' network of the same name has 512 outputs in its hidden layer where this one has 1024.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers


@register(
    'lenet',
    image_size=28,
    channels=1,
    batch_size=64,
    least_image_size=4,
    preprocessing='lenet',
    parameters=4_290_409,
    multiply_adds=14_898_688,
)
def lenet(net: Layers, images: Any) -> Any:
    """Two convolutions, two fully connected layers."""
    with net.scope('LeNet'), net.style(initializer=Initializer(stddev=0.1)):
        x = net.end('conv1', net.conv(images, 32, 5, 'conv1'))
        x = net.end('pool1', net.max_pool(x, 2, 'pool1'))
        x = net.end('conv2', net.conv(x, 64, 5, 'conv2'))
        x = net.end('pool2', net.max_pool(x, 2, 'pool2'))
        x = net.end('Flatten', net.flatten(x))
        x = net.end('fc3', net.dense(x, 1024, 'fc3'))
        x = net.end('dropout3', net.dropout(x, 0.5, 'dropout3'))
        x = net.end('Logits', net.dense(x, net.num_classes, 'fc4', activation=None))
    net.end('Predictions', net.softmax(x))
    return x
