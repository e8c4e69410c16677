"""AlexNet in the form of "One weird trick" (Krizhevsky 2014, arXiv:1404.5997), as slim/nets/alexnet.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers


@register(
    'alexnet_v2', image_size=224, batch_size=64, least_image_size=195, parameters=50_308_009, multiply_adds=736_559_872
)
def alexnet_v2(net: Layers, images: Any) -> Any:
    """Five convolutions without local response normalization, three fully connected layers."""
    name = 'alexnet_v2'
    with net.scope(name), net.style(bias=0.1):
        x = net.end(f'{name}/conv1', net.conv(images, 64, 11, 'conv1', stride=4, padding='VALID'))
        x = net.end(f'{name}/pool1', net.max_pool(x, 3, 'pool1'))
        x = net.end(f'{name}/conv2', net.conv(x, 192, 5, 'conv2'))
        x = net.end(f'{name}/pool2', net.max_pool(x, 3, 'pool2'))
        x = net.end(f'{name}/conv3', net.conv(x, 384, 3, 'conv3'))
        x = net.end(f'{name}/conv4', net.conv(x, 384, 3, 'conv4'))
        x = net.end(f'{name}/conv5', net.conv(x, 256, 3, 'conv5'))
        x = net.end(f'{name}/pool5', net.max_pool(x, 3, 'pool5'))
        with net.style(initializer=Initializer(stddev=0.005)):
            x = net.dropout(net.end(f'{name}/fc6', net.full_conv(x, 4096, 5, 'fc6')), 0.5, 'dropout6')
            x = net.dropout(net.end(f'{name}/fc7', net.full_conv(x, 4096, 1, 'fc7')), 0.5, 'dropout7')
            x = net.full_conv(net.global_pool(x, 'global_pool'), net.num_classes, 1, 'fc8', activation=None, bias=0.0)
        return net.end(f'{name}/fc8', net.squeeze(x, 'fc8/squeezed'))
