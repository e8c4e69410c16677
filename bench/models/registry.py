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
    batch_size: int = 16
    preprocessing: str = 'inception'
    aliases: tuple[str, ...] = ()


# tf_cnn_benchmarks' names for networks that are not slim's: the nearest of ours, and the difference.
_NOT_THE_SAME = {
    'alexnet': ('alexnet_v2', "tf_cnn_benchmarks' alexnet has other padding and fully connected layers"),
    'googlenet': ('inception_v3', "tf_cnn_benchmarks' googlenet has no batch norm and other branches"),
    'inception4': ('inception_v3', "inception_v4 is not built here yet"),
    'lenet5': ('lenet', "tf_cnn_benchmarks' lenet5 has other layer sizes"),
    'mobilenet': ('mobilenet_v1', "tf_cnn_benchmarks' mobilenet is version 2"),
    'resnet50': ('resnet_v1_50', "tf_cnn_benchmarks' resnet50 strides at the start of a block, slim's at its end"),
    'resnet50_v1.5': ('resnet_v1_50', "v1.5 strides in the 3x3 convolution, slim's network at the end of a block"),
}

# Modules beside this one that hold no networks (and may import TensorFlow).
_NO_FAMILIES = ('registry', 'layers', 'build', 'slim', 'multiply_adds')

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
