"""OverFeat, the fast model (Sermanet et al. 2014, arXiv:1312.6229), as slim/nets/overfeat.py has it.

tf_cnn_benchmarks' network of the same name has 96 channels in its first convolution where this one has 64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers


@register('overfeat', image_size=231, least_image_size=231, parameters=145_708_521, multiply_adds=2_647_015_424)
def overfeat(net: Layers, images: Any) -> Any:
    """Five convolutions, three fully connected layers."""
    name = 'overfeat'
    with net.scope(name):
        x = net.end(f'{name}/conv1', net.conv(images, 64, 11, 'conv1', stride=4, padding='VALID'))
        x = net.end(f'{name}/pool1', net.max_pool(x, 2, 'pool1'))
        x = net.end(f'{name}/conv2', net.conv(x, 256, 5, 'conv2', padding='VALID'))
        x = net.end(f'{name}/pool2', net.max_pool(x, 2, 'pool2'))
        x = net.end(f'{name}/conv3', net.conv(x, 512, 3, 'conv3'))
        x = net.end(f'{name}/conv4', net.conv(x, 1024, 3, 'conv4'))
        x = net.end(f'{name}/conv5', net.conv(x, 1024, 3, 'conv5'))
        x = net.end(f'{name}/pool5', net.max_pool(x, 2, 'pool5'))
        with net.style(initializer=Initializer(stddev=0.005), bias=0.1):
            x = net.dropout(net.end(f'{name}/fc6', net.full_conv(x, 3072, 6, 'fc6')), 0.5, 'dropout6')
            x = net.dropout(net.end(f'{name}/fc7', net.full_conv(x, 4096, 1, 'fc7')), 0.5, 'dropout7')
            x = net.full_conv(net.global_pool(x, 'global_pool'), net.num_classes, 1, 'fc8', activation=None, bias=0.0)
        return net.end(f'{name}/fc8', net.squeeze(x, 'fc8/squeezed'))
