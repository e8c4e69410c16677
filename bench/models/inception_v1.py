"""Inception version 1, GoogLeNet with batch norm (Szegedy et al. 2014, arXiv:1409.4842), as slim/nets/inception_v1.py
has it: its branches of 5x5 convolutions are 3x3 there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE, BatchNorm, Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers

_STYLE: dict[str, Any] = {'batch_norm': BatchNorm(decay=0.9997, epsilon=0.001, scale=False), 'initializer': HE}

# Outputs of each module: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after a pool.
_MODULES_28 = {'Mixed_3b': (64, 96, 128, 16, 32, 32), 'Mixed_3c': (128, 128, 192, 32, 96, 64)}
_MODULES_14 = {
    'Mixed_4b': (192, 96, 208, 16, 48, 64),
    'Mixed_4c': (160, 112, 224, 24, 64, 64),
    'Mixed_4d': (128, 128, 256, 24, 64, 64),
    'Mixed_4e': (112, 144, 288, 32, 64, 64),
    'Mixed_4f': (256, 160, 320, 32, 128, 128),
}
_MODULES_7 = {'Mixed_5b': (256, 160, 320, 32, 128, 128), 'Mixed_5c': (384, 192, 384, 48, 128, 128)}


@register('inception_v1', image_size=224, parameters=6_633_209, multiply_adds=1_498_377_216)
def inception_v1(net: Layers, images: Any) -> Any:
    """Nine modules."""
    with net.scope('InceptionV1'), net.style(**_STYLE):
        with net.style(initializer=Initializer(stddev=0.01)):
            x = net.end('Conv2d_1a_7x7', net.conv(images, 64, 7, 'Conv2d_1a_7x7', stride=2))
            x = net.end('MaxPool_2a_3x3', net.max_pool(x, 3, 'MaxPool_2a_3x3', padding='SAME'))
            x = net.end('Conv2d_2b_1x1', net.conv(x, 64, 1, 'Conv2d_2b_1x1'))
            x = net.end('Conv2d_2c_3x3', net.conv(x, 192, 3, 'Conv2d_2c_3x3'))
            x = net.end('MaxPool_3a_3x3', net.max_pool(x, 3, 'MaxPool_3a_3x3', padding='SAME'))
            x = _modules(net, x, _MODULES_28)
            x = net.end('MaxPool_4a_3x3', net.max_pool(x, 3, 'MaxPool_4a_3x3', padding='SAME'))
            x = _modules(net, x, _MODULES_14)
            x = net.end('MaxPool_5a_2x2', net.max_pool(x, 2, 'MaxPool_5a_2x2', padding='SAME'))
            x = _modules(net, x, _MODULES_7)
        with net.scope('Logits'):
            x = net.dropout(net.end('AvgPool_0a_7x7', net.global_pool(x, 'AvgPool_0a_7x7')), 0.8, 'Dropout_0b')
            x = net.full_conv(x, net.num_classes, 1, 'Conv2d_0c_1x1', activation=None, batch_norm=None)
            x = net.end('Logits', net.squeeze(x, 'SpatialSqueeze'))
            net.end('Predictions', net.softmax(x))
        return x


def _modules(net: Layers, x: Any, modules: Mapping[str, tuple[int, ...]]) -> Any:
    for name, (one, before_three, three, before_second, second, pooled) in modules.items():
        # A slip in the published name, which checkpoints have too.
        second_name = 'Conv2d_0a_3x3' if name == 'Mixed_5b' else 'Conv2d_0b_3x3'
        with net.scope(name):
            with net.scope('Branch_0'):
                branches = [net.conv(x, one, 1, 'Conv2d_0a_1x1')]
            with net.scope('Branch_1'):
                branches += [net.conv(net.conv(x, before_three, 1, 'Conv2d_0a_1x1'), three, 3, 'Conv2d_0b_3x3')]
            with net.scope('Branch_2'):
                branches += [net.conv(net.conv(x, before_second, 1, 'Conv2d_0a_1x1'), second, 3, second_name)]
            with net.scope('Branch_3'):
                pool = net.max_pool(x, 3, 'MaxPool_0a_3x3', stride=1, padding='SAME')
                branches += [net.conv(pool, pooled, 1, 'Conv2d_0b_1x1')]
            x = net.end(name, net.concat(branches))
    return x
