"""MobileNet version 2 (Sandler et al. 2018, arXiv:1801.04381), as slim/nets/mobilenet/mobilenet_v2.py has it, and the
parts that version 3 shares with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import BatchNorm, Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers

STYLE: dict[str, Any] = {
    'batch_norm': BatchNorm(decay=0.997, epsilon=0.001, scale=True),
    'initializer': Initializer(stddev=0.09),
}
_IMAGES: dict[str, Any] = {'image_size': 224, 'batch_size': 32}


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution; batch norm or biases."""

    outputs: int
    size: int
    stride: int = 1
    activation: str = 'relu6'
    batch_norm: bool = True


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """An inverted residual: a 1x1 convolution to more channels, a depthwise one, a 1x1 convolution to few channels.

    Attributes:
      outputs: channels after it.
      expansion: how many times the channels the depthwise convolution has.
      fused: the first convolution has the size and the stride, and there is no depthwise one.
      gate: channels are weighted (squeeze and excite, Hu et al. 2017, arXiv:1709.01507) after the depthwise one.
      residual: the input is added where stride and channels allow.
    """

    outputs: int
    expansion: float = 6
    size: int = 3
    stride: int = 1
    activation: str = 'relu6'
    fused: bool = False
    gate: bool = False
    residual: bool = True


@dataclasses.dataclass(frozen=True)
class Pool:
    """The mean over the map."""


Part = Conv | Bottleneck | Pool

_PARTS: tuple[Part, ...] = (
    Conv(32, 3, stride=2),
    Bottleneck(16, expansion=1),
    Bottleneck(24, stride=2),
    Bottleneck(24),
    Bottleneck(32, stride=2),
    *[Bottleneck(32)] * 2,
    Bottleneck(64, stride=2),
    *[Bottleneck(64)] * 3,
    *[Bottleneck(96)] * 3,
    Bottleneck(160, stride=2),
    *[Bottleneck(160)] * 2,
    Bottleneck(320),
    Conv(1280, 1),
)


@register('mobilenet_v2', parameters=3_540_265, multiply_adds=300_775_552, **_IMAGES)
def mobilenet_v2(net: Layers, images: Any) -> Any:
    """Of full width."""
    return build(net, images, 'MobilenetV2', _PARTS)


@register('mobilenet_v2_140', parameters=6_158_505, multiply_adds=582_197_616, **_IMAGES)
def mobilenet_v2_140(net: Layers, images: Any) -> Any:
    """1.4 times the channels."""
    return build(net, images, 'MobilenetV2', scaled(_PARTS, 1.4))


@register('mobilenet_v2_035', parameters=1_692_489, multiply_adds=59_287_088, **_IMAGES)
def mobilenet_v2_035(net: Layers, images: Any) -> Any:
    """0.35 times the channels, but for the last layer's."""
    return build(net, images, 'MobilenetV2', (*scaled(_PARTS[:-1], 0.35), _PARTS[-1]))


def scaled(parts: Sequence[Part], width: float) -> tuple[Part, ...]:
    """The parts with `width` times the outputs, rounded to multiples of 8."""
    return tuple(
        part if isinstance(part, Pool) else dataclasses.replace(part, outputs=_multiple_of_8(part.outputs * width))
        for part in parts
    )


def build(net: Layers, x: Any, name: str, parts: Sequence[Part]) -> Any:
    """The parts one after another, the mean over the map, logits."""
    with net.scope(name), net.style(**STYLE):
        counts = {Conv: 0, Bottleneck: 0}
        for index, part in enumerate(parts, start=1):
            end_point = f'layer_{index}'
            if isinstance(part, Pool):
                x = net.global_pool(x, 'AvgPool')
            else:
                count = counts[type(part)]
                counts[type(part)] += 1
                suffix = f'_{count}' if count else ''
                if isinstance(part, Conv):
                    x = _conv(net, x, part, f'Conv{suffix}')
                else:
                    x = _bottleneck(net, x, part, f'expanded_conv{suffix}', end_point)
            net.end(end_point, x)
        with net.scope('Logits'):
            x = net.dropout(net.end('global_pool', net.global_pool(x, 'AvgPool')), 0.8)
            x = net.full_conv(x, net.num_classes, 1, 'Conv2d_1c_1x1', activation=None, batch_norm=None)
            x = net.end('Logits', net.identity(net.squeeze(x, 'Squeeze'), 'output'))
        net.end('Predictions', net.softmax(x))
        return x


def _conv(net: Layers, x: Any, part: Conv, scope: str) -> Any:
    with net.style(activation=part.activation):
        if part.batch_norm:
            return net.conv(x, part.outputs, part.size, scope, stride=part.stride)
        return net.full_conv(x, part.outputs, 1, scope, batch_norm=None)


def _bottleneck(net: Layers, x: Any, part: Bottleneck, scope: str, end_point: str) -> Any:
    inputs = x
    expanded = _multiple_of_8(net.channels(x) * part.expansion)
    with net.scope(scope), net.style(activation=part.activation):
        if expanded > net.channels(x):
            size, stride = (part.size, part.stride) if part.fused else (1, 1)
            x = net.end(f'{end_point}/expansion_output', net.conv(x, expanded, size, 'expand', stride=stride))
        if not part.fused:
            x = net.depthwise(x, part.size, 'depthwise', stride=part.stride)
            net.end(f'{end_point}/depthwise_output', x)
        if part.gate:
            x = _gated(net, x)
        x = net.conv(x, part.outputs, 1, 'project', activation=None)
        if part.residual and part.stride == 1 and net.channels(x) == net.channels(inputs):
            x = x + inputs
        return net.end(f'{end_point}/output', x)


def _gated(net: Layers, x: Any) -> Any:
    """Each channel times a weight between 0 and 1 that depends on the means of all."""
    with net.scope('squeeze_excite'), net.style(batch_norm=None):
        channels = net.channels(x)
        gate = net.global_pool(x, 'AvgPool')
        gate = net.full_conv(gate, _multiple_of_8(channels / 4), 1, 'Conv', activation='relu')
        return x * net.full_conv(gate, channels, 1, 'Conv_1', activation='hard_sigmoid')


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
