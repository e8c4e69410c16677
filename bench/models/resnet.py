"""ResNet versions 1 and 2 (He et al., arXiv:1512.03385 and 1603.05027), as slim/nets/resnet_v1.py and _v2.py have them.

Slim's ResNets halve the map in the last unit of a block, by a stride in its 3x3 convolution, and not in the first unit
of the next one: its 1x1 convolutions see smaller maps than those of the paper, which makes it about a tenth less work.
Version 1.5 halves in the first unit's 3x3 convolution; ResNet-D (He et al. 2018, arXiv:1812.01187) besides has three
3x3 convolutions at its start and pools before a shortcut's convolution. Slim has neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE, BatchNorm

if TYPE_CHECKING:
    from bench.models.layers import Layers

_BATCH_NORM = BatchNorm(decay=0.997, epsilon=1e-5, scale=True)
_STYLE: dict[str, Any] = {'batch_norm': _BATCH_NORM, 'initializer': HE}


_IMAGES: dict[str, Any] = {'image_size': 224, 'preprocessing': 'vgg'}


@register('resnet_v1_50', batch_size=16, parameters=25_612_201, multiply_adds=3_482_257_408, **_IMAGES)
def resnet_v1_50(net: Layers, images: Any) -> Any:
    """16 units of three convolutions."""
    return _resnet_v1(net, images, 'resnet_v1_50', (3, 4, 6, 3))


@register('resnet_v1_101', batch_size=8, parameters=44_656_553, multiply_adds=7_194_478_592, **_IMAGES)
def resnet_v1_101(net: Layers, images: Any) -> Any:
    """33 units of three convolutions."""
    return _resnet_v1(net, images, 'resnet_v1_101', (3, 4, 23, 3))


@register('resnet_v1_152', batch_size=8, parameters=60_346_281, multiply_adds=10_906_699_776, **_IMAGES)
def resnet_v1_152(net: Layers, images: Any) -> Any:
    """50 units of three convolutions."""
    return _resnet_v1(net, images, 'resnet_v1_152', (3, 8, 36, 3))


@register('resnet_v1_200', batch_size=4, parameters=64_851_881, multiply_adds=14_400_555_008, **_IMAGES)
def resnet_v1_200(net: Layers, images: Any) -> Any:
    """66 units of three convolutions."""
    return _resnet_v1(net, images, 'resnet_v1_200', (3, 24, 36, 3))


@register('resnet_v2_50', batch_size=16, parameters=25_615_849, multiply_adds=3_482_257_408, **_IMAGES)
def resnet_v2_50(net: Layers, images: Any) -> Any:
    """16 units of three convolutions, each after its batch norm."""
    return _resnet_v2(net, images, 'resnet_v2_50', (3, 4, 6, 3))


@register('resnet_v2_101', batch_size=8, parameters=44_677_609, multiply_adds=7_194_478_592, **_IMAGES)
def resnet_v2_101(net: Layers, images: Any) -> Any:
    """33 units of three convolutions, each after its batch norm."""
    return _resnet_v2(net, images, 'resnet_v2_101', (3, 4, 23, 3))


@register('resnet_v2_152', batch_size=8, parameters=60_382_697, multiply_adds=10_906_699_776, **_IMAGES)
def resnet_v2_152(net: Layers, images: Any) -> Any:
    """50 units of three convolutions, each after its batch norm."""
    return _resnet_v2(net, images, 'resnet_v2_152', (3, 8, 36, 3))


@register('resnet_v2_200', batch_size=4, parameters=64_896_489, multiply_adds=14_400_555_008, **_IMAGES)
def resnet_v2_200(net: Layers, images: Any) -> Any:
    """66 units of three convolutions, each after its batch norm."""
    return _resnet_v2(net, images, 'resnet_v2_200', (3, 24, 36, 3))


@register(
    'resnet_v1.5_50',
    aliases=('resnet50_v1.5', 'official_resnet50'),
    parameters=25_612_201,
    multiply_adds=4_089_186_304,
    **_IMAGES,
)
def resnet_v1_5_50(net: Layers, images: Any) -> Any:
    """Version 1.5: a block halves the map in its first unit."""
    return _resnet_v1(net, images, 'resnet_v1.5_50', (3, 4, 6, 3), late_stride=False)


@register('resnet_d_50', parameters=25_631_561, multiply_adds=4_328_826_880, **_IMAGES)
def resnet_d_50(net: Layers, images: Any) -> Any:
    """ResNet-D."""
    return _resnet_v1(net, images, 'resnet_d_50', (3, 4, 6, 3), late_stride=False, variant_d=True)


def _resnet_v1(
    net: Layers, x: Any, name: str, units: tuple[int, ...], *, late_stride: bool = True, variant_d: bool = False
) -> Any:
    """A 7x7 convolution, a pool, four blocks of units, the mean over the map, logits."""
    with net.scope(name), net.style(**_STYLE):
        if variant_d:
            x = net.conv(net.conv(x, 32, 3, 'conv1_1', stride=2, padding='FIXED'), 32, 3, 'conv1_2')
            x = net.end(f'{name}/conv1', net.conv(x, 64, 3, 'conv1_3'))
        else:
            x = net.end(f'{name}/conv1', net.conv(x, 64, 7, 'conv1', stride=2, padding='FIXED'))
        x = net.max_pool(x, 3, 'pool1', padding='SAME')
        for scope, bottleneck, stride in _units(units, late_stride=late_stride):
            with net.scope(f'{scope}/bottleneck_v1'):
                x = _unit_v1(net, x, bottleneck, stride, f'{name}/{scope}/bottleneck_v1', variant_d)
            net.end(f'{name}/{scope.split("/")[0]}', x)
        return _logits(net, x, name)


def _resnet_v2(net: Layers, x: Any, name: str, units: tuple[int, ...]) -> Any:
    """As version 1, with batch norm and ReLU before the convolutions."""
    with net.scope(name), net.style(**_STYLE):
        x = net.conv(x, 64, 7, 'conv1', stride=2, padding='FIXED', batch_norm=None, activation=None)
        x = net.max_pool(net.end(f'{name}/conv1', x), 3, 'pool1', padding='SAME')
        for scope, bottleneck, stride in _units(units, late_stride=True):
            with net.scope(f'{scope}/bottleneck_v2'):
                x = _unit_v2(net, x, bottleneck, stride, f'{name}/{scope}/bottleneck_v2')
            net.end(f'{name}/{scope.split("/")[0]}', x)
        return _logits(net, net.relu(net.batch_norm(x, _BATCH_NORM, 'postnorm')), name)


def _units(units: tuple[int, ...], *, late_stride: bool) -> Iterator[tuple[str, int, int]]:
    """Scope, bottleneck's channels and stride of each unit."""
    for block, (count, bottleneck) in enumerate(zip(units, (64, 128, 256, 512), strict=True), start=1):
        for unit in range(1, count + 1):
            halves = (unit == count and block < len(units)) if late_stride else (unit == 1 and block > 1)
            yield f'block{block}/unit_{unit}', bottleneck, 2 if halves else 1


def _logits(net: Layers, x: Any, name: str) -> Any:
    x = net.end('global_pool', net.global_pool(x, 'pool5'))
    x = net.full_conv(x, net.num_classes, 1, 'logits', activation=None, batch_norm=None)
    x = net.end(f'{name}/spatial_squeeze', net.squeeze(net.end(f'{name}/logits', x), 'SpatialSqueeze'))
    net.end('predictions', net.softmax(x, 'predictions'))
    return x


def _unit_v1(net: Layers, x: Any, bottleneck: int, stride: int, name: str, variant_d: bool) -> Any:
    """Convolutions of 1x1, 3x3 and 1x1 beside a shortcut, which is a convolution where channels increase."""
    outputs = 4 * bottleneck
    if net.channels(x) == outputs:
        shortcut = x if stride == 1 else net.max_pool(x, 1, 'shortcut', stride=stride)
    else:
        pool = variant_d and stride == 2
        shortcut = net.avg_pool(x, 2, 'shortcut_pool', padding='SAME') if pool else x
        shortcut = net.conv(shortcut, outputs, 1, 'shortcut', stride=1 if pool else stride, activation=None)
        net.end(f'{name}/shortcut', shortcut)
    x = net.end(f'{name}/conv1', net.conv(x, bottleneck, 1, 'conv1'))
    x = net.end(f'{name}/conv2', net.conv(x, bottleneck, 3, 'conv2', stride=stride, padding='FIXED'))
    x = net.end(f'{name}/conv3', net.conv(x, outputs, 1, 'conv3', activation=None))
    return net.end(name, net.relu(shortcut + x))


def _unit_v2(net: Layers, x: Any, bottleneck: int, stride: int, name: str) -> Any:
    outputs = 4 * bottleneck
    normal = net.relu(net.batch_norm(x, _BATCH_NORM, 'preact'))
    if net.channels(x) == outputs:
        shortcut = x if stride == 1 else net.max_pool(x, 1, 'shortcut', stride=stride)
    else:
        shortcut = net.conv(normal, outputs, 1, 'shortcut', stride=stride, batch_norm=None, activation=None)
        net.end(f'{name}/shortcut', shortcut)
    x = net.end(f'{name}/conv1', net.conv(normal, bottleneck, 1, 'conv1'))
    x = net.end(f'{name}/conv2', net.conv(x, bottleneck, 3, 'conv2', stride=stride, padding='FIXED'))
    x = net.end(f'{name}/conv3', net.conv(x, outputs, 1, 'conv3', batch_norm=None, activation=None))
    return net.end(name, shortcut + x)
