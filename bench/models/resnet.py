"""ResNet version 1 (He et al. 2015, arXiv:1512.03385), as slim/nets/resnet_v1.py has it.

Slim's ResNets halve the map in the last unit of a block, by a stride in its 3x3 convolution, and not in the first unit
of the next one: its 1x1 convolutions see smaller maps than those of the paper, which makes it about a tenth less work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE, BatchNorm

if TYPE_CHECKING:
    from bench.models.layers import Layers

_STYLE: dict[str, Any] = {'batch_norm': BatchNorm(decay=0.997, epsilon=1e-5, scale=True), 'initializer': HE}


@register(
    'resnet_v1_50',
    image_size=224,
    preprocessing='vgg',
    parameters=25_612_201,
    multiply_adds=3_482_257_408,
)
def resnet_v1_50(net: Layers, images: Any) -> Any:
    """16 units of three convolutions."""
    return _resnet_v1(net, images, 'resnet_v1_50', (3, 4, 6, 3))


def _resnet_v1(net: Layers, x: Any, name: str, units: tuple[int, ...]) -> Any:
    """A 7x7 convolution, a pool, four blocks of units, the mean over the map, logits."""
    with net.scope(name), net.style(**_STYLE):
        x = net.end(f'{name}/conv1', net.conv(x, 64, 7, 'conv1', stride=2, padding='FIXED'))
        x = net.max_pool(x, 3, 'pool1', padding='SAME')
        for block, (count, bottleneck) in enumerate(zip(units, (64, 128, 256, 512), strict=True), start=1):
            with net.scope(f'block{block}'):
                for unit in range(1, count + 1):
                    stride = 2 if unit == count and block < len(units) else 1
                    with net.scope(f'unit_{unit}/bottleneck_v1'):
                        x = _unit_v1(net, x, bottleneck, stride, f'{name}/block{block}/unit_{unit}/bottleneck_v1')
            net.end(f'{name}/block{block}', x)
        x = net.end('global_pool', net.global_pool(x, 'pool5'))
        x = net.full_conv(x, net.num_classes, 1, 'logits', activation=None, batch_norm=None)
        x = net.end(f'{name}/spatial_squeeze', net.squeeze(net.end(f'{name}/logits', x), 'SpatialSqueeze'))
        net.end('predictions', net.softmax(x, 'predictions'))
        return x


def _unit_v1(net: Layers, x: Any, bottleneck: int, stride: int, name: str) -> Any:
    """Convolutions of 1x1, 3x3 and 1x1 beside a shortcut, which is a convolution where channels increase."""
    outputs = 4 * bottleneck
    if net.channels(x) != outputs:
        shortcut = net.conv(x, outputs, 1, 'shortcut', stride=stride, activation=None)
        net.end(f'{name}/shortcut', shortcut)
    else:
        shortcut = x if stride == 1 else net.max_pool(x, 1, 'shortcut', stride=stride)
    x = net.end(f'{name}/conv1', net.conv(x, bottleneck, 1, 'conv1'))
    x = net.conv(x, bottleneck, 3, 'conv2', stride=stride, padding='FIXED')
    x = net.conv(net.end(f'{name}/conv2', x), outputs, 1, 'conv3', activation=None)
    return net.end(name, net.relu(shortcut + net.end(f'{name}/conv3', x)))
