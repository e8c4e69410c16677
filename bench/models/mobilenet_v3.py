"""MobileNet version 3 (Howard et al. 2019, arXiv:1905.02244) and MobileNet-EdgeTPU, as
slim/nets/mobilenet/mobilenet_v3.py has them. The minimalistic ones have neither gates nor hard swish nor 5x5 kernels.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bench.models.mobilenet_v2 import Bottleneck, Conv, Part, Pool, build, scaled
from bench.models.registry import register

if TYPE_CHECKING:
    from bench.models.layers import Layers

_IMAGES: dict[str, Any] = {'image_size': 224, 'batch_size': 32}


def _relu(outputs: int, expansion: float, size: int = 3, stride: int = 1, **changes: Any) -> Bottleneck:
    return Bottleneck(outputs, expansion, size, stride, 'relu', **changes)


def _swish(outputs: int, expansion: float, size: int = 3, stride: int = 1, *, gate: bool = False) -> Bottleneck:
    return Bottleneck(outputs, expansion, size, stride, 'hard_swish', gate=gate)


_LARGE: tuple[Part, ...] = (
    Conv(16, 3, stride=2, activation='hard_swish'),
    _relu(16, 1),
    _relu(24, 4, stride=2),
    _relu(24, 3),
    _relu(40, 3, 5, stride=2, gate=True),
    *[_relu(40, 3, 5, gate=True)] * 2,
    _swish(80, 6, stride=2),
    _swish(80, 2.5),
    *[_swish(80, 184 / 80)] * 2,
    *[_swish(112, 6, gate=True)] * 2,
    _swish(160, 6, 5, stride=2, gate=True),
    *[_swish(160, 6, 5, gate=True)] * 2,
    Conv(960, 1, activation='hard_swish'),
    Pool(),
    Conv(1280, 1, activation='hard_swish', batch_norm=False),
)

_SMALL: tuple[Part, ...] = (
    Conv(16, 3, stride=2, activation='hard_swish'),
    _relu(16, 1, stride=2, gate=True),
    _relu(24, 72 / 16, stride=2),
    _relu(24, 88 / 24),
    _swish(40, 4, 5, stride=2, gate=True),
    *[_swish(40, 6, 5, gate=True)] * 2,
    *[_swish(48, 3, 5, gate=True)] * 2,
    _swish(96, 6, 5, stride=2, gate=True),
    *[_swish(96, 6, 5, gate=True)] * 2,
    Conv(576, 1, activation='hard_swish'),
    Pool(),
    Conv(1024, 1, activation='hard_swish', batch_norm=False),
)

_EDGETPU: tuple[Part, ...] = (
    Conv(32, 3, stride=2, activation='relu'),
    _relu(16, 1, fused=True),
    _relu(32, 8, stride=2, fused=True),
    *[_relu(32, 4, fused=True)] * 3,
    _relu(48, 8, stride=2, fused=True),
    *[_relu(48, 4, fused=True)] * 3,
    _relu(96, 8, stride=2),
    *[_relu(96, 4)] * 3,
    _relu(96, 8, residual=False),
    *[_relu(96, 4)] * 3,
    _relu(160, 8, 5, stride=2),
    *[_relu(160, 4, 5)] * 3,
    _relu(192, 8),
    Conv(1280, 1, activation='relu'),
)


def _minimalistic(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(
        dataclasses.replace(part, activation='relu', size=3, gate=False)
        if isinstance(part, Bottleneck)
        else dataclasses.replace(part, activation='relu')
        if isinstance(part, Conv)
        else part
        for part in parts
    )


@register('mobilenet_v3_small', parameters=2_555_993, multiply_adds=56_511_424, **_IMAGES)
def mobilenet_v3_small(net: Layers, images: Any) -> Any:
    """11 bottlenecks."""
    return build(net, images, 'MobilenetV3', _SMALL)


@register('mobilenet_v3_large', parameters=5_508_713, multiply_adds=216_591_040, **_IMAGES)
def mobilenet_v3_large(net: Layers, images: Any) -> Any:
    """15 bottlenecks."""
    return build(net, images, 'MobilenetV3', _LARGE)


@register('mobilenet_v3_small_minimalistic', parameters=2_057_873, multiply_adds=52_289_472, **_IMAGES)
def mobilenet_v3_small_minimalistic(net: Layers, images: Any) -> Any:
    """11 bottlenecks of what every processor has."""
    return build(net, images, 'MobilenetV3', _minimalistic(_SMALL))


@register('mobilenet_v3_large_minimalistic', parameters=3_949_969, multiply_adds=209_137_984, **_IMAGES)
def mobilenet_v3_large_minimalistic(net: Layers, images: Any) -> Any:
    """15 bottlenecks of what every processor has."""
    return build(net, images, 'MobilenetV3', _minimalistic(_LARGE))


@register('mobilenet_edgetpu', parameters=4_131_593, multiply_adds=990_670_464, **_IMAGES)
def mobilenet_edgetpu(net: Layers, images: Any) -> Any:
    """22 bottlenecks; the first ones' convolutions are whole and not depthwise."""
    return build(net, images, 'MobilenetEdgeTPU', _EDGETPU)


@register('mobilenet_edgetpu_075', parameters=3_019_569, multiply_adds=624_487_584, **_IMAGES)
def mobilenet_edgetpu_075(net: Layers, images: Any) -> Any:
    """Three quarters of the channels, but for the last layer's."""
    return build(net, images, 'MobilenetEdgeTPU', (*scaled(_EDGETPU[:-1], 0.75), _EDGETPU[-1]))
