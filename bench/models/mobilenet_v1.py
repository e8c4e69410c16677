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
    'activation': 'relu6',
    'initializer': Initializer(stddev=0.09),
}


@register('mobilenet_v1', image_size=224, batch_size=32, parameters=4_254_889, multiply_adds=568_741_376)
def mobilenet_v1(net: Layers, images: Any) -> Any:
    """Of full width."""
    return _mobilenet_v1(net, images)


def _mobilenet_v1(net: Layers, x: Any) -> Any:
    with net.scope('MobilenetV1'), net.style(**_STYLE):
        x = net.end('Conv2d_0', net.conv(x, 32, 3, 'Conv2d_0', stride=2))
        for index, (stride, outputs) in enumerate(_PAIRS, start=1):
            depthwise, pointwise = f'Conv2d_{index}_depthwise', f'Conv2d_{index}_pointwise'
            x = net.end(depthwise, net.depthwise(x, 3, depthwise, stride=stride))
            x = net.end(pointwise, net.conv(x, outputs, 1, pointwise))
        with net.scope('Logits'):
            x = net.dropout(net.end('AvgPool_1a', net.global_pool(x, 'AvgPool_1a')), 0.999, 'Dropout_1b')
            x = net.full_conv(x, net.num_classes, 1, 'Conv2d_1c_1x1', activation=None, batch_norm=None)
            x = net.end('Logits', net.squeeze(x, 'SpatialSqueeze'))
        net.end('Predictions', net.softmax(x))
        return x
