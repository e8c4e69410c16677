"""Inception version 4 (Szegedy et al. 2016, arXiv:1602.07261), as slim/nets/inception_v4.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE, BatchNorm

if TYPE_CHECKING:
    from bench.models.layers import Layers

_STYLE: dict[str, Any] = {'batch_norm': BatchNorm(decay=0.9997, epsilon=0.001, scale=False), 'initializer': HE}
_HALF: dict[str, Any] = {'stride': 2, 'padding': 'VALID'}
_LOGITS: dict[str, Any] = {'activation': None, 'batch_norm': None}


@register(
    'inception_v4',
    image_size=299,
    least_image_size=107,
    batch_size=8,
    aliases=('inception4',),
    parameters=46_074_066,
    multiply_adds=12_260_479_328,
)
def inception_v4(net: Layers, images: Any) -> Any:
    """A stem of branches, 4, 7 and 3 modules with two reductions between, and an auxiliary head."""
    with net.scope('InceptionV4'), net.style(**_STYLE):
        x = _stem(net, images)
        for letter in 'bcde':
            x = _module_a(net, x, f'Mixed_5{letter}')
        x = _reduction_a(net, x, 'Mixed_6a')
        for letter in 'bcdefgh':
            x = _module_b(net, x, f'Mixed_6{letter}')
        middle = x
        x = _reduction_b(net, x, 'Mixed_7a')
        for letter in 'bcd':
            x = _module_c(net, x, f'Mixed_7{letter}')
        _auxiliary_head(net, middle)
        with net.scope('Logits'):
            x = net.end('global_pool', net.global_pool(x, 'AvgPool_1a'))
            x = net.end('PreLogitsFlatten', net.flatten(net.dropout(x, 0.8, 'Dropout_1b')))
            x = net.end('Logits', net.dense(x, net.num_classes, 'Logits', **_LOGITS))
            net.end('Predictions', net.softmax(x))
        return x


def _stem(net: Layers, x: Any) -> Any:
    x = net.end('Conv2d_1a_3x3', net.conv(x, 32, 3, 'Conv2d_1a_3x3', **_HALF))
    x = net.end('Conv2d_2a_3x3', net.conv(x, 32, 3, 'Conv2d_2a_3x3', padding='VALID'))
    x = net.end('Conv2d_2b_3x3', net.conv(x, 64, 3, 'Conv2d_2b_3x3'))
    with net.scope('Mixed_3a'):
        with net.scope('Branch_0'):
            pool = net.max_pool(x, 3, 'MaxPool_0a_3x3')
        with net.scope('Branch_1'):
            x = net.conv(x, 96, 3, 'Conv2d_0a_3x3', **_HALF)
        x = net.end('Mixed_3a', net.concat([pool, x]))
    with net.scope('Mixed_4a'):
        with net.scope('Branch_0'):
            three = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 96, 3, 'Conv2d_1a_3x3', padding='VALID')
        with net.scope('Branch_1'):
            seven = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 64, (1, 7), 'Conv2d_0b_1x7')
            seven = net.conv(net.conv(seven, 64, (7, 1), 'Conv2d_0c_7x1'), 96, 3, 'Conv2d_1a_3x3', padding='VALID')
        x = net.end('Mixed_4a', net.concat([three, seven]))
    with net.scope('Mixed_5a'):
        with net.scope('Branch_0'):
            three = net.conv(x, 192, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_1'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end('Mixed_5a', net.concat([three, pool]))


def _module_a(net: Layers, x: Any, name: str) -> Any:
    """The module on 35x35 maps."""
    with net.scope(name):
        with net.scope('Branch_0'):
            one = net.conv(x, 96, 1, 'Conv2d_0a_1x1')
        with net.scope('Branch_1'):
            three = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 96, 3, 'Conv2d_0b_3x3')
        with net.scope('Branch_2'):
            two = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 96, 3, 'Conv2d_0b_3x3')
            two = net.conv(two, 96, 3, 'Conv2d_0c_3x3')
        with net.scope('Branch_3'):
            pool = _pooled(net, x, 96)
        return net.end(name, net.concat([one, three, two, pool]))


def _reduction_a(net: Layers, x: Any, name: str) -> Any:
    """From 35x35 to 17x17."""
    with net.scope(name):
        with net.scope('Branch_0'):
            three = net.conv(x, 384, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_1'):
            two = net.conv(net.conv(x, 192, 1, 'Conv2d_0a_1x1'), 224, 3, 'Conv2d_0b_3x3')
            two = net.conv(two, 256, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_2'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end(name, net.concat([three, two, pool]))


def _module_b(net: Layers, x: Any, name: str) -> Any:
    """The module on 17x17 maps."""
    with net.scope(name):
        with net.scope('Branch_0'):
            one = net.conv(x, 384, 1, 'Conv2d_0a_1x1')
        with net.scope('Branch_1'):
            seven = net.conv(net.conv(x, 192, 1, 'Conv2d_0a_1x1'), 224, (1, 7), 'Conv2d_0b_1x7')
            seven = net.conv(seven, 256, (7, 1), 'Conv2d_0c_7x1')
        with net.scope('Branch_2'):
            two = net.conv(net.conv(x, 192, 1, 'Conv2d_0a_1x1'), 192, (7, 1), 'Conv2d_0b_7x1')
            two = net.conv(net.conv(two, 224, (1, 7), 'Conv2d_0c_1x7'), 224, (7, 1), 'Conv2d_0d_7x1')
            two = net.conv(two, 256, (1, 7), 'Conv2d_0e_1x7')
        with net.scope('Branch_3'):
            pool = _pooled(net, x, 128)
        return net.end(name, net.concat([one, seven, two, pool]))


def _reduction_b(net: Layers, x: Any, name: str) -> Any:
    """From 17x17 to 8x8."""
    with net.scope(name):
        with net.scope('Branch_0'):
            three = net.conv(net.conv(x, 192, 1, 'Conv2d_0a_1x1'), 192, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_1'):
            seven = net.conv(net.conv(x, 256, 1, 'Conv2d_0a_1x1'), 256, (1, 7), 'Conv2d_0b_1x7')
            seven = net.conv(net.conv(seven, 320, (7, 1), 'Conv2d_0c_7x1'), 320, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_2'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end(name, net.concat([three, seven, pool]))


def _module_c(net: Layers, x: Any, name: str) -> Any:
    """The module on 8x8 maps."""
    with net.scope(name):
        with net.scope('Branch_0'):
            one = net.conv(x, 256, 1, 'Conv2d_0a_1x1')
        with net.scope('Branch_1'):
            y = net.conv(x, 384, 1, 'Conv2d_0a_1x1')
            three = [net.conv(y, 256, (1, 3), 'Conv2d_0b_1x3'), net.conv(y, 256, (3, 1), 'Conv2d_0c_3x1')]
        with net.scope('Branch_2'):
            y = net.conv(net.conv(x, 384, 1, 'Conv2d_0a_1x1'), 448, (3, 1), 'Conv2d_0b_3x1')
            y = net.conv(y, 512, (1, 3), 'Conv2d_0c_1x3')
            two = [net.conv(y, 256, (1, 3), 'Conv2d_0d_1x3'), net.conv(y, 256, (3, 1), 'Conv2d_0e_3x1')]
        with net.scope('Branch_3'):
            pool = _pooled(net, x, 256)
        return net.end(name, net.concat([one, *three, *two, pool]))


def _pooled(net: Layers, x: Any, outputs: int) -> Any:
    pool = net.avg_pool(x, 3, 'AvgPool_0a_3x3', stride=1, padding='SAME')
    return net.conv(pool, outputs, 1, 'Conv2d_0b_1x1')


def _auxiliary_head(net: Layers, x: Any) -> None:
    """Logits from the middle of the network; its last convolution's kernel is the whole map, of any size."""
    with net.scope('AuxLogits'):
        x = net.conv(net.avg_pool(x, 5, 'AvgPool_1a_5x5', stride=3), 128, 1, 'Conv2d_1b_1x1')
        x = net.flatten(net.full_conv(x, 768, net.map_size(x), 'Conv2d_2a'))
        net.aux_logits.append(net.end('AuxLogits', net.dense(x, net.num_classes, 'Aux_logits', **_LOGITS)))
