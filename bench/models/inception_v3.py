"""Inception version 3 (Szegedy et al. 2015, arXiv:1512.00567), as slim/nets/inception_v3.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE, BatchNorm, Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers

_STYLE: dict[str, Any] = {'batch_norm': BatchNorm(decay=0.9997, epsilon=0.001, scale=False), 'initializer': HE}
_LOGITS: dict[str, Any] = {'activation': None, 'batch_norm': None}


@register(
    'inception_v3',
    image_size=299,
    least_image_size=107,
    aliases=('inception3',),
    parameters=27_182_194,
    multiply_adds=5_718_902_112,
)
def inception_v3(net: Layers, images: Any) -> Any:
    """Eleven modules of branches and an auxiliary head."""
    with net.scope('InceptionV3'), net.style(**_STYLE):
        x = stem(net, images)
        x = _module_35(net, x, 'Mixed_5b', 32)
        x = _module_35(net, x, 'Mixed_5c', 64, ('Conv2d_0b_1x1', 'Conv_1_0c_5x5'))
        x = _module_35(net, x, 'Mixed_5d', 64)
        x = _reduction_17(net, x, 'Mixed_6a')
        for name, width in (('Mixed_6b', 128), ('Mixed_6c', 160), ('Mixed_6d', 160), ('Mixed_6e', 192)):
            x = _module_17(net, x, name, width)
        middle = x
        x = _reduction_8(net, x, 'Mixed_7a')
        x = _module_8(net, x, 'Mixed_7b', 'Conv2d_0b_3x1')
        x = _module_8(net, x, 'Mixed_7c', 'Conv2d_0c_3x1')
        _auxiliary_head(net, middle)
        with net.scope('Logits'):
            x = net.end('AvgPool_1a', net.global_pool(x, 'AvgPool_1a_8x8'))
            x = net.end('PreLogits', net.dropout(x, 0.8, 'Dropout_1b'))
            x = net.full_conv(x, net.num_classes, 1, 'Conv2d_1c_1x1', **_LOGITS)
            x = net.end('Logits', net.squeeze(x, 'SpatialSqueeze'))
        net.end('Predictions', net.softmax(x))
        return x


def stem(net: Layers, x: Any) -> Any:
    """To 192 channels on a map an eighth of the image's size."""
    x = net.end('Conv2d_1a_3x3', net.conv(x, 32, 3, 'Conv2d_1a_3x3', stride=2, padding='VALID'))
    x = net.end('Conv2d_2a_3x3', net.conv(x, 32, 3, 'Conv2d_2a_3x3', padding='VALID'))
    x = net.end('Conv2d_2b_3x3', net.conv(x, 64, 3, 'Conv2d_2b_3x3'))
    x = net.end('MaxPool_3a_3x3', net.max_pool(x, 3, 'MaxPool_3a_3x3'))
    x = net.end('Conv2d_3b_1x1', net.conv(x, 80, 1, 'Conv2d_3b_1x1', padding='VALID'))
    x = net.end('Conv2d_4a_3x3', net.conv(x, 192, 3, 'Conv2d_4a_3x3', padding='VALID'))
    return net.end('MaxPool_5a_3x3', net.max_pool(x, 3, 'MaxPool_5a_3x3'))


def _module_35(
    net: Layers, x: Any, name: str, pooled: int, names: tuple[str, str] = ('Conv2d_0a_1x1', 'Conv2d_0b_5x5')
) -> Any:
    """The module on 35x35 maps; `names` are those of the convolutions in its second branch."""
    with net.scope(name):
        with net.scope('Branch_0'):
            one = net.conv(x, 64, 1, 'Conv2d_0a_1x1')
        with net.scope('Branch_1'):
            five = net.conv(net.conv(x, 48, 1, names[0]), 64, 5, names[1])
        with net.scope('Branch_2'):
            three = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 96, 3, 'Conv2d_0b_3x3')
            three = net.conv(three, 96, 3, 'Conv2d_0c_3x3')
        with net.scope('Branch_3'):
            pool = net.avg_pool(x, 3, 'AvgPool_0a_3x3', stride=1, padding='SAME')
            pool = net.conv(pool, pooled, 1, 'Conv2d_0b_1x1')
        return net.end(name, net.concat([one, five, three, pool]))


def _reduction_17(net: Layers, x: Any, name: str) -> Any:
    """From 35x35 to 17x17."""
    with net.scope(name):
        with net.scope('Branch_0'):
            three = net.conv(x, 384, 3, 'Conv2d_1a_1x1', stride=2, padding='VALID')
        with net.scope('Branch_1'):
            two = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 96, 3, 'Conv2d_0b_3x3')
            two = net.conv(two, 96, 3, 'Conv2d_1a_1x1', stride=2, padding='VALID')
        with net.scope('Branch_2'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end(name, net.concat([three, two, pool]))


def _module_17(net: Layers, x: Any, name: str, width: int) -> Any:
    """The module on 17x17 maps: 7x7 convolutions as pairs of 1x7 and 7x1."""
    with net.scope(name):
        with net.scope('Branch_0'):
            one = net.conv(x, 192, 1, 'Conv2d_0a_1x1')
        with net.scope('Branch_1'):
            seven = net.conv(net.conv(x, width, 1, 'Conv2d_0a_1x1'), width, (1, 7), 'Conv2d_0b_1x7')
            seven = net.conv(seven, 192, (7, 1), 'Conv2d_0c_7x1')
        with net.scope('Branch_2'):
            two = net.conv(net.conv(x, width, 1, 'Conv2d_0a_1x1'), width, (7, 1), 'Conv2d_0b_7x1')
            two = net.conv(net.conv(two, width, (1, 7), 'Conv2d_0c_1x7'), width, (7, 1), 'Conv2d_0d_7x1')
            two = net.conv(two, 192, (1, 7), 'Conv2d_0e_1x7')
        with net.scope('Branch_3'):
            pool = net.avg_pool(x, 3, 'AvgPool_0a_3x3', stride=1, padding='SAME')
            pool = net.conv(pool, 192, 1, 'Conv2d_0b_1x1')
        return net.end(name, net.concat([one, seven, two, pool]))


def _reduction_8(net: Layers, x: Any, name: str) -> Any:
    """From 17x17 to 8x8."""
    with net.scope(name):
        with net.scope('Branch_0'):
            three = net.conv(x, 192, 1, 'Conv2d_0a_1x1')
            three = net.conv(three, 320, 3, 'Conv2d_1a_3x3', stride=2, padding='VALID')
        with net.scope('Branch_1'):
            seven = net.conv(net.conv(x, 192, 1, 'Conv2d_0a_1x1'), 192, (1, 7), 'Conv2d_0b_1x7')
            seven = net.conv(seven, 192, (7, 1), 'Conv2d_0c_7x1')
            seven = net.conv(seven, 192, 3, 'Conv2d_1a_3x3', stride=2, padding='VALID')
        with net.scope('Branch_2'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end(name, net.concat([three, seven, pool]))


def _module_8(net: Layers, x: Any, name: str, second: str) -> Any:
    """The module on 8x8 maps; `second` is the name of the 3x1 convolution in its second branch."""
    with net.scope(name):
        with net.scope('Branch_0'):
            one = net.conv(x, 320, 1, 'Conv2d_0a_1x1')
        with net.scope('Branch_1'):
            three = net.conv(x, 384, 1, 'Conv2d_0a_1x1')
            three = net.concat([net.conv(three, 384, (1, 3), 'Conv2d_0b_1x3'), net.conv(three, 384, (3, 1), second)])
        with net.scope('Branch_2'):
            five = net.conv(net.conv(x, 448, 1, 'Conv2d_0a_1x1'), 384, 3, 'Conv2d_0b_3x3')
            five = net.concat(
                [net.conv(five, 384, (1, 3), 'Conv2d_0c_1x3'), net.conv(five, 384, (3, 1), 'Conv2d_0d_3x1')]
            )
        with net.scope('Branch_3'):
            pool = net.avg_pool(x, 3, 'AvgPool_0a_3x3', stride=1, padding='SAME')
            pool = net.conv(pool, 192, 1, 'Conv2d_0b_1x1')
        return net.end(name, net.concat([one, three, five, pool]))


def _auxiliary_head(net: Layers, x: Any) -> None:
    """Logits from the middle of the network; on maps below 5x5 the kernel is the map's size, as in slim."""
    with net.scope('AuxLogits'):
        x = net.conv(net.avg_pool(x, 5, 'AvgPool_1a_5x5', stride=3), 128, 1, 'Conv2d_1b_1x1')
        height, width = (min(size, 5) for size in net.map_size(x))
        x = net.full_conv(x, 768, (height, width), f'Conv2d_2a_{height}x{width}', initializer=Initializer(stddev=0.01))
        x = net.global_pool(x, 'global_pool')
        x = net.full_conv(x, net.num_classes, 1, 'Conv2d_2b_1x1', initializer=Initializer(stddev=0.001), **_LOGITS)
        net.aux_logits.append(net.end('AuxLogits', net.squeeze(x, 'SpatialSqueeze')))
