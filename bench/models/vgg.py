"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), as slim/nets/vgg.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register

if TYPE_CHECKING:
    from bench.models.layers import Layers


_IMAGES: dict[str, Any] = {'image_size': 224, 'least_image_size': 224, 'preprocessing': 'vgg'}


@register('vgg_a', batch_size=8, aliases=('vgg11',), parameters=132_867_433, multiply_adds=7_609_094_144, **_IMAGES)
def vgg_a(net: Layers, images: Any) -> Any:
    """Configuration A: 8 convolutions."""
    return _vgg(net, images, 'vgg_a', (1, 1, 2, 2, 2))


@register('vgg_16', batch_size=8, aliases=('vgg16',), parameters=138_361_641, multiply_adds=15_470_268_416, **_IMAGES)
def vgg_16(net: Layers, images: Any) -> Any:
    """Configuration D: 13 convolutions."""
    return _vgg(net, images, 'vgg_16', (2, 2, 3, 3, 3))


@register('vgg_19', batch_size=8, aliases=('vgg19',), parameters=143_671_337, multiply_adds=19_632_066_560, **_IMAGES)
def vgg_19(net: Layers, images: Any) -> Any:
    """Configuration E: 16 convolutions."""
    return _vgg(net, images, 'vgg_19', (2, 2, 4, 4, 4))


@register('vgg_416', batch_size=1, parameters=577_898_281, multiply_adds=644_364_210_176, **_IMAGES)
def vgg_416(net: Layers, images: Any) -> Any:
    """413 convolutions, for measuring what depth costs; no network that was published."""
    return _vgg(net, images, 'vgg_416', (82, 82, 83, 83, 83))


def _vgg(net: Layers, x: Any, name: str, convolutions: tuple[int, ...]) -> Any:
    """Five blocks of 3x3 convolutions, each halved by a pool, then three fully connected layers."""
    with net.scope(name):
        for block, (count, outputs) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1):
            with net.scope(f'conv{block}'):
                for index in range(1, count + 1):
                    x = net.conv(x, outputs, 3, f'conv{block}_{index}')
                    net.end(f'{name}/conv{block}/conv{block}_{index}', x)
            x = net.end(f'{name}/pool{block}', net.max_pool(x, 2, f'pool{block}'))
        x = net.dropout(net.end(f'{name}/fc6', net.full_conv(x, 4096, 7, 'fc6')), 0.5, 'dropout6')
        x = net.dropout(net.end(f'{name}/fc7', net.full_conv(x, 4096, 1, 'fc7')), 0.5, 'dropout7')
        x = net.global_pool(x, 'global_pool')
        x = net.full_conv(x, net.num_classes, 1, 'fc8', activation=None)
        return net.end(f'{name}/fc8', net.squeeze(x, 'fc8/squeezed'))
