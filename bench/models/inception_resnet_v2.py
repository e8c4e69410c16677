"""Inception-ResNet version 2 (Szegedy et al. 2016, arXiv:1602.07261), as slim/nets/inception_resnet_v2.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.inception_v3 import stem
from bench.models.registry import register
from bench.models.style import BatchNorm

if TYPE_CHECKING:
    from bench.models.layers import Layers

# Its biases decay too, as in no other of slim's networks.
_STYLE: dict[str, Any] = {
    'batch_norm': BatchNorm(decay=0.9997, epsilon=0.001, scale=False),
    'regularize_biases': True,
}
_HALF: dict[str, Any] = {'stride': 2, 'padding': 'VALID'}
_PLAIN: dict[str, Any] = {'activation': None, 'batch_norm': None}


@register(
    'inception_resnet_v2',
    image_size=299,
    least_image_size=107,
    batch_size=8,
    parameters=59_244_594,
    multiply_adds=13_162_503_520,
)
def inception_resnet_v2(net: Layers, images: Any) -> Any:
    """Modules with shortcuts: 10 on 35x35, 20 on 17x17 and 10 on 8x8 maps, and an auxiliary head."""
    with net.scope('InceptionResnetV2'), net.style(**_STYLE):
        x = _module_5b(net, stem(net, images))
        for index in range(1, 11):
            with net.scope(f'Repeat/block35_{index}'):
                x = _block_35(net, x)
        x = _reduction_6a(net, x)
        for index in range(1, 21):
            with net.scope(f'Repeat_1/block17_{index}'):
                x = _block(net, x, (128, 160, 192), ((1, 7), (7, 1)), 0.1)
        middle = net.end('PreAuxLogits', x)
        x = _reduction_7a(net, x)
        for index in range(1, 10):
            with net.scope(f'Repeat_2/block8_{index}'):
                x = _block(net, x, (192, 224, 256), ((1, 3), (3, 1)), 0.2)
        with net.scope('Block8'):
            x = _block(net, x, (192, 224, 256), ((1, 3), (3, 1)), 1.0, last=True)
        x = net.end('Conv2d_7b_1x1', net.conv(x, 1536, 1, 'Conv2d_7b_1x1'))
        _auxiliary_head(net, middle)
        with net.scope('Logits'):
            x = net.flatten(net.end('global_pool', net.global_pool(x, 'AvgPool_1a_8x8')))
            x = net.end('PreLogitsFlatten', net.dropout(x, 0.8))
            x = net.end('Logits', net.dense(x, net.num_classes, 'Logits', **_PLAIN))
            net.end('Predictions', net.softmax(x))
        return x


def _module_5b(net: Layers, x: Any) -> Any:
    with net.scope('Mixed_5b'):
        with net.scope('Branch_0'):
            one = net.conv(x, 96, 1, 'Conv2d_1x1')
        with net.scope('Branch_1'):
            five = net.conv(net.conv(x, 48, 1, 'Conv2d_0a_1x1'), 64, 5, 'Conv2d_0b_5x5')
        with net.scope('Branch_2'):
            two = net.conv(net.conv(x, 64, 1, 'Conv2d_0a_1x1'), 96, 3, 'Conv2d_0b_3x3')
            two = net.conv(two, 96, 3, 'Conv2d_0c_3x3')
        with net.scope('Branch_3'):
            pool = net.avg_pool(x, 3, 'AvgPool_0a_3x3', stride=1, padding='SAME')
            pool = net.conv(pool, 64, 1, 'Conv2d_0b_1x1')
        return net.end('Mixed_5b', net.concat([one, five, two, pool]))


def _block_35(net: Layers, x: Any) -> Any:
    """A residual module of three branches."""
    with net.scope('Branch_0'):
        one = net.conv(x, 32, 1, 'Conv2d_1x1')
    with net.scope('Branch_1'):
        three = net.conv(net.conv(x, 32, 1, 'Conv2d_0a_1x1'), 32, 3, 'Conv2d_0b_3x3')
    with net.scope('Branch_2'):
        two = net.conv(net.conv(x, 32, 1, 'Conv2d_0a_1x1'), 48, 3, 'Conv2d_0b_3x3')
        two = net.conv(two, 64, 3, 'Conv2d_0c_3x3')
    up = net.conv(net.concat([one, three, two]), net.channels(x), 1, 'Conv2d_1x1', **_PLAIN)
    return net.relu(x + 0.17 * up)


def _block(
    net: Layers,
    x: Any,
    outputs: tuple[int, int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    scale: float,
    *,
    last: bool = False,
) -> Any:
    """A residual module of two branches: a 1x1 convolution, and a 1x1 convolution with two long ones."""
    names = [f'Conv2d_0{letter}_{height}x{width}' for letter, (height, width) in zip('bc', sizes, strict=True)]
    with net.scope('Branch_0'):
        one = net.conv(x, 192, 1, 'Conv2d_1x1')
    with net.scope('Branch_1'):
        long = net.conv(net.conv(x, outputs[0], 1, 'Conv2d_0a_1x1'), outputs[1], sizes[0], names[0])
        long = net.conv(long, outputs[2], sizes[1], names[1])
    up = net.conv(net.concat([one, long]), net.channels(x), 1, 'Conv2d_1x1', **_PLAIN)
    return x + scale * up if last else net.relu(x + scale * up)


def _reduction_6a(net: Layers, x: Any) -> Any:
    """From 35x35 to 17x17."""
    with net.scope('Mixed_6a'):
        with net.scope('Branch_0'):
            three = net.conv(x, 384, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_1'):
            two = net.conv(net.conv(x, 256, 1, 'Conv2d_0a_1x1'), 256, 3, 'Conv2d_0b_3x3')
            two = net.conv(two, 384, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_2'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end('Mixed_6a', net.concat([three, two, pool]))


def _reduction_7a(net: Layers, x: Any) -> Any:
    """From 17x17 to 8x8."""
    with net.scope('Mixed_7a'):
        with net.scope('Branch_0'):
            first = net.conv(net.conv(x, 256, 1, 'Conv2d_0a_1x1'), 384, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_1'):
            second = net.conv(net.conv(x, 256, 1, 'Conv2d_0a_1x1'), 288, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_2'):
            two = net.conv(net.conv(x, 256, 1, 'Conv2d_0a_1x1'), 288, 3, 'Conv2d_0b_3x3')
            two = net.conv(two, 320, 3, 'Conv2d_1a_3x3', **_HALF)
        with net.scope('Branch_3'):
            pool = net.max_pool(x, 3, 'MaxPool_1a_3x3')
        return net.end('Mixed_7a', net.concat([first, second, two, pool]))


def _auxiliary_head(net: Layers, x: Any) -> None:
    """Logits from the middle of the network; its last convolution's kernel is the whole map, of any size."""
    with net.scope('AuxLogits'):
        x = net.conv(net.avg_pool(x, 5, 'Conv2d_1a_3x3', stride=3), 128, 1, 'Conv2d_1b_1x1')
        x = net.flatten(net.full_conv(x, 768, net.map_size(x), 'Conv2d_2a_5x5'))
        net.aux_logits.append(net.end('AuxLogits', net.dense(x, net.num_classes, 'Logits', **_PLAIN)))
