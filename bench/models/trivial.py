"""Next to no work, for measuring what a program itself costs: the `trivial` network of tf_cnn_benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import HE

if TYPE_CHECKING:
    from bench.models.layers import Layers


@register('trivial', image_size=227, batch_size=32, preprocessing='vgg', parameters=4_263_877, multiply_adds=4_258_779)
def trivial(net: Layers, images: Any) -> Any:
    """One unit that sees all of the image, then 4096 that see it, then the classes."""
    with net.scope('trivial'), net.style(initializer=HE):
        x = net.end('fc1', net.dense(net.flatten(images), 1, 'fc1'))
        x = net.end('fc2', net.dense(x, 4096, 'fc2'))
        return net.end('Logits', net.dense(x, net.num_classes, 'fc3', activation=None))
