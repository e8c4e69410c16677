"""Inception version 2, the network of the batch norm paper (Ioffe & Szegedy 2015, arXiv:1502.03167), as
slim/nets/inception_v2.py has it: its first layer is a separable convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE, BatchNorm, Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers

_STYLE: dict[str, Any] = {'batch_norm': BatchNorm(decay=0.9997, epsilon=0.001, scale=False), 'initializer': HE}
_FIRST: dict[str, Any] = {'batch_norm': None, 'regularize': False, 'initializer': Initializer(stddev=1.0)}
_BEFORE: dict[str, Any] = {'initializer': Initializer(stddev=0.09)}
_POOLED: dict[str, Any] = {'initializer': Initializer(stddev=0.1)}


@register('inception_v2', image_size=224, parameters=11_199_137, multiply_adds=1_934_858_240)
def inception_v2(net: Layers, images: Any) -> Any:
    """Ten modules, of which two halve the map."""
    with net.scope('InceptionV2'), net.style(**_STYLE):
        x = net.separable(images, 64, 7, 'Conv2d_1a_7x7', stride=2, multiplier=8, **_FIRST)
        x = net.max_pool(net.end('Conv2d_1a_7x7', x), 3, 'MaxPool_2a_3x3', padding='SAME')
        x = net.conv(net.end('MaxPool_2a_3x3', x), 64, 1, 'Conv2d_2b_1x1', **_POOLED)
        x = net.end('Conv2d_2c_3x3', net.conv(net.end('Conv2d_2b_1x1', x), 192, 3, 'Conv2d_2c_3x3'))
        x = net.end('MaxPool_3a_3x3', net.max_pool(x, 3, 'MaxPool_3a_3x3', padding='SAME'))
        x = _module(net, x, 'Mixed_3b', 64, (64, 64), (64, 96), 32)
        x = _module(net, x, 'Mixed_3c', 64, (64, 96), (64, 96), 64)
        x = _reduction(net, x, 'Mixed_4a', (128, 160), (64, 96))
        x = _module(net, x, 'Mixed_4b', 224, (64, 96), (96, 128), 128)
        x = _module(net, x, 'Mixed_4c', 192, (96, 128), (96, 128), 128)
        x = _module(net, x, 'Mixed_4d', 160, (128, 160), (128, 160), 96)
        x = _module(net, x, 'Mixed_4e', 96, (128, 192), (160, 192), 96)
        x = _reduction(net, x, 'Mixed_5a', (128, 192), (192, 256))
        x = _module(net, x, 'Mixed_5b', 352, (192, 320), (160, 224), 128)
        x = _module(net, x, 'Mixed_5c', 352, (192, 320), (192, 224), 128, max_pool=True)
        with net.scope('Logits'):
            x = net.end('AvgPool_1a', net.global_pool(x, 'AvgPool_1a_7x7'))
            x = net.end('PreLogits', net.dropout(x, 0.8, 'Dropout_1b'))
            x = net.full_conv(x, net.num_classes, 1, 'Conv2d_1c_1x1', activation=None, batch_norm=None)
            x = net.end('Logits', net.squeeze(x, 'SpatialSqueeze'))
        net.end('Predictions', net.softmax(x))
        return x


def _module(
    net: Layers,
    x: Any,
    name: str,
    one: int,
    three: tuple[int, int],
    double: tuple[int, int],
    pooled: int,
    *,
    max_pool: bool = False,
) -> Any:
    """Branches of a 1x1, a 3x3 and two 3x3 convolutions and of a pool; pairs begin with a 1x1 convolution's outputs."""
    with net.scope(name):
        with net.scope('Branch_0'):
            branches = [net.conv(x, one, 1, 'Conv2d_0a_1x1')]
        with net.scope('Branch_1'):
            branches += [net.conv(net.conv(x, three[0], 1, 'Conv2d_0a_1x1', **_BEFORE), three[1], 3, 'Conv2d_0b_3x3')]
        with net.scope('Branch_2'):
            branch = net.conv(net.conv(x, double[0], 1, 'Conv2d_0a_1x1', **_BEFORE), double[1], 3, 'Conv2d_0b_3x3')
            branches += [net.conv(branch, double[1], 3, 'Conv2d_0c_3x3')]
        with net.scope('Branch_3'):
            if max_pool:
                pool = net.max_pool(x, 3, 'MaxPool_0a_3x3', stride=1, padding='SAME')
            else:
                pool = net.avg_pool(x, 3, 'AvgPool_0a_3x3', stride=1, padding='SAME')
            branches += [net.conv(pool, pooled, 1, 'Conv2d_0b_1x1', **_POOLED)]
        return net.end(name, net.concat(branches))


def _reduction(net: Layers, x: Any, name: str, three: tuple[int, int], double: tuple[int, int]) -> Any:
    """As a module, halving the map."""
    with net.scope(name):
        with net.scope('Branch_0'):
            branch = net.conv(x, three[0], 1, 'Conv2d_0a_1x1', **_BEFORE)
            branches = [net.conv(branch, three[1], 3, 'Conv2d_1a_3x3', stride=2)]
        with net.scope('Branch_1'):
            branch = net.conv(net.conv(x, double[0], 1, 'Conv2d_0a_1x1', **_BEFORE), double[1], 3, 'Conv2d_0b_3x3')
            branches += [net.conv(branch, double[1], 3, 'Conv2d_1a_3x3', stride=2)]
        with net.scope('Branch_2'):
            branches += [net.max_pool(x, 3, 'MaxPool_1a_3x3', padding='SAME')]
        return net.end(name, net.concat(branches))
