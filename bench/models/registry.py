"""Which networks there are. A family's file registers its networks by decorator; this module imports no TensorFlow,
and neither do those files, so that listing the networks is quick: TensorFlow reaches them as the `Layers` argument.

    @register('vgg_16', image_size=224, parameters=138_361_641, multiply_adds=15_470_268_416)
    def vgg_16(net: Layers, images: Tensor) -> Tensor:
        ...
        return logits
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, nearest

if TYPE_CHECKING:
    from bench.models.layers import Layers

Builder = Callable[['Layers', Any], Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and the facts that are known of it before it is built.

    Attributes:
      name: slim's name.
      build: makes the graph: (layers, images in the layers' data format) to logits [N, num_classes].
      image_size: height and width that it was published with.
      parameters: all variables' elements with 1001 classes, moving statistics included.
      multiply_adds: of convolutions and matrix products for one image, with 1001 classes.
      channels: of the images.
      least_image_size: the smallest height and width that its layers can still halve.
      batch_size: the default of a benchmark, chosen so that a training step takes seconds at most on a few cores.
      preprocessing: the family of image preprocessing that it was published with.
      aliases: tf_cnn_benchmarks' name, where that network is the same one.
    """

    name: str
    build: Builder
    image_size: int
    parameters: int
    multiply_adds: int
    channels: int = 3
    least_image_size: int = 1
    batch_size: int = 16
    preprocessing: str = 'inception'
    aliases: tuple[str, ...] = ()

    def size_problems(self, image_size: int) -> list[str]:
        """Why this network cannot see images of that height and width; empty where it can."""
        if image_size >= self.least_image_size:
            return []
        return [
            f'--image_size={image_size} is too small for {self.name}: its layers leave nothing of images below '
            f'{self.least_image_size} pixels. Use --image_size={self.image_size}, for which it was made.'
        ]


# tf_cnn_benchmarks' names for networks that are not slim's: the nearest of ours, and the difference. G is 10^9
# multiply-adds of an image, counted in both programs' graphs.
_FIRST_UNIT = "slim's strides in the last unit of a block, tf_cnn_benchmarks' in the first unit of the next one"
_TWO_LAST_LAYERS = "tf_cnn_benchmarks adds a second fully connected layer to slim's last one"
_NOT_THE_SAME = {
    'alexnet': ('alexnet_v2', "slim's last map is 5x5 of 224 pixels, tf_cnn_benchmarks' 6x6 of 227 (0.74 and 0.84 G)"),
    'densenet40_k12': ('nasnet_cifar', 'DenseNets for CIFAR-10 are not built here'),
    'densenet100_k12': ('nasnet_cifar', 'DenseNets for CIFAR-10 are not built here'),
    'densenet100_k24': ('nasnet_cifar', 'DenseNets for CIFAR-10 are not built here'),
    'googlenet': ('inception_v1', "slim's has batch norm and 3x3 branches, tf_cnn_benchmarks' 5x5 (1.50 and 1.58 G)"),
    'lenet5': ('lenet', "tf_cnn_benchmarks' has 512 outputs in its hidden layer, slim's 1024"),
    'mobilenet': ('mobilenet_v2', _TWO_LAST_LAYERS),
    'nasnet': ('nasnet_mobile', _TWO_LAST_LAYERS),
    'nasnetlarge': ('nasnet_large', _TWO_LAST_LAYERS),
    'resnet50': ('resnet_v1_50', f'{_FIRST_UNIT} (3.48 and 3.86 G)'),
    'resnet50_v2': ('resnet_v2_50', f'{_FIRST_UNIT} (3.48 and 3.86 G)'),
    'resnet101': ('resnet_v1_101', f'{_FIRST_UNIT} (7.19 and 7.57 G)'),
    'resnet101_v2': ('resnet_v2_101', f'{_FIRST_UNIT} (7.19 and 7.57 G)'),
    'resnet152': ('resnet_v1_152', f'{_FIRST_UNIT} (10.91 and 11.28 G)'),
    'resnet152_v2': ('resnet_v2_152', f'{_FIRST_UNIT} (10.91 and 11.28 G)'),
}

# Modules beside this one that hold no networks (and may import TensorFlow).
_NO_FAMILIES = ('registry', 'layers', 'style', 'build', 'slim', 'multiply_adds', 'listing', 'gradients')

_networks: dict[str, Network] = {}


def register(name: str, **facts: Any) -> Callable[[Builder], Builder]:
    """Decorator: makes the function the network `name`; `facts` are the fields of Network."""

    def add(build: Builder) -> Builder:
        if name in _networks:
            raise ValueError(f'two networks are called {name}')
        _networks[name] = Network(name=name, build=build, **facts)
        return build

    return add


@functools.cache
def _load_families() -> None:
    """Imports every family's file beside this one, so that its decorators run."""
    package = importlib.import_module('bench.models')
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NO_FAMILIES:
            importlib.import_module(f'bench.models.{module.name}')


def all_networks() -> list[Network]:
    """Every network, sorted by name."""
    _load_families()
    return [_networks[name] for name in sorted(_networks)]


def names_and_aliases() -> list[str]:
    """Every word that `get` takes."""
    return [word for network in all_networks() for word in (network.name, *network.aliases)]


def matching(pattern: str) -> list[Network]:
    """The networks whose name or alias matches a shell pattern."""
    return [
        network
        for network in all_networks()
        if any(fnmatch.fnmatchcase(word, pattern) for word in (network.name, *network.aliases))
    ]


def get(name: str) -> Network:
    """The network of that name or alias.

    Raises:
      UsageError: there is none; the text names the nearest.
    """
    for network in all_networks():
        if name == network.name or name in network.aliases:
            return network
    if name in _NOT_THE_SAME:
        ours, why = _NOT_THE_SAME[name]
        raise UsageError([f'--model={name}: {why}, so their speeds do not compare. The nearest here is {ours}.'])
    hint = nearest(name, names_and_aliases()) or ' `run_benchmark.py models` lists them.'
    raise UsageError([f'--model={name}: there is no such network.{hint}'])
