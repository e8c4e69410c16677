"""MobileNet version 1 (Howard et al. 2017, arXiv:1704.04861), as slim/nets/mobilenet_v1.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import BatchNorm, Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers

# Stride and outputs of each pair of a depthwise and a pointwise convolution.
_PAIRS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *((1, 512),) * 5, (2, 1024), (1, 1024))

_STYLE: dict[str, Any] = {
    'batch_norm': BatchNorm(decay=0.9997, epsilon=0.001, scale=True),
    'initializer': Initializer(stddev=0.09),
}


_IMAGES: dict[str, Any] = {'image_size': 224, 'batch_size': 32}


@register('mobilenet_v1', parameters=4_254_889, multiply_adds=568_741_376, **_IMAGES)
def mobilenet_v1(net: Layers, images: Any) -> Any:
    """Of full width."""
    return _mobilenet_v1(net, images)


@register('mobilenet_v1_075', parameters=2_602_745, multiply_adds=325_401_216, **_IMAGES)
def mobilenet_v1_075(net: Layers, images: Any) -> Any:
    """Three quarters of the channels."""
    return _mobilenet_v1(net, images, width=0.75)


@register('mobilenet_v1_050', parameters=1_343_049, multiply_adds=149_497_600, **_IMAGES)
def mobilenet_v1_050(net: Layers, images: Any) -> Any:
    """Half of the channels."""
    return _mobilenet_v1(net, images, width=0.5)


@register('mobilenet_v1_025', parameters=475_801, multiply_adds=41_030_528, **_IMAGES)
def mobilenet_v1_025(net: Layers, images: Any) -> Any:
    """A quarter of the channels."""
    return _mobilenet_v1(net, images, width=0.25)


@register('mobilenet_v1_relu', parameters=4_254_889, multiply_adds=568_741_376, **_IMAGES)
def mobilenet_v1_relu(net: Layers, images: Any) -> Any:
    """Of full width, with ReLU instead of ReLU6; it has mobilenet_v1's variables."""
    return _mobilenet_v1(net, images, activation='relu')


def _mobilenet_v1(net: Layers, x: Any, width: float = 1.0, activation: str = 'relu6') -> Any:
    with net.scope('MobilenetV1'), net.style(**_STYLE, activation=activation):
        x = net.end('Conv2d_0', net.conv(x, int(32 * width), 3, 'Conv2d_0', stride=2))
        for index, (stride, outputs) in enumerate(_PAIRS, start=1):
            depthwise, pointwise = f'Conv2d_{index}_depthwise', f'Conv2d_{index}_pointwise'
            x = net.end(depthwise, net.depthwise(x, 3, depthwise, stride=stride))
            x = net.end(pointwise, net.conv(x, int(outputs * width), 1, pointwise))
        with net.scope('Logits'):
            x = net.dropout(net.end('AvgPool_1a', net.global_pool(x, 'AvgPool_1a')), 0.999, 'Dropout_1b')
            x = net.full_conv(x, net.num_classes, 1, 'Conv2d_1c_1x1', activation=None, batch_norm=None)
            x = net.end('Logits', net.squeeze(x, 'SpatialSqueeze'))
        net.end('Predictions', net.softmax(x))
        return x
