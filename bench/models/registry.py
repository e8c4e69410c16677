"""Which networks there are. A family's file registers its networks by decorator; this module imports no TensorFlow,
and neither do those files, so that listing the networks is quick: TensorFlow reaches them as the `Layers` argument.
A user's own file does the same (user_network.py).

    @register('vgg_16', image_size=224, parameters=138_361_641, multiply_adds=15_470_268_416)
    def vgg_16(net: Layers, images: Tensor) -> Tensor:
        ...
        return logits
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, nearest
from bench.models import tf_cnn_benchmarks, user_network

if TYPE_CHECKING:
    from bench.models.layers import Layers

Builder = Callable[['Layers', Any], Any]

# The families of image preprocessing: the modules of bench/data/preprocessing.
PREPROCESSINGS = ('cifarnet', 'inception', 'lenet', 'vgg')


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and value > 0


# Facts of a network, what holds for each, and what to tell where it does not.
_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (('name',), _is_word, 'a text is'),
    (('image_size', 'channels', 'least_image_size', 'batch_size'), _is_whole, 'a whole number from 1 on is'),
    (('parameters', 'multiply_adds'), lambda value: value is None or _is_whole(value), 'a whole number or None is'),
    (('preprocessing',), lambda value: value in PREPROCESSINGS, f'one of {", ".join(PREPROCESSINGS)} is'),
    (
        ('data_formats',),
        lambda value: isinstance(value, (tuple, list)) and {*value} in ({'NHWC'}, {'NCHW'}, {'NHWC', 'NCHW'}),
        "some of ('NHWC', 'NCHW') are",
    ),
    (
        ('aliases',),
        lambda value: isinstance(value, (tuple, list)) and all(map(_is_word, value)),
        "a list such as ['other'] is",
    ),
)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and the facts that are known of it before it is built.

    Attributes:
      name: slim's name; 'keras/' and the name in tf_keras.applications; 'file.py:name' of a user's own.
      build: makes the graph: (layers, images in the layers' data format) to logits [N, num_classes].
      image_size: height and width that it was published with.
      parameters: all variables' elements with 1001 classes, moving statistics included; None where nobody said.
      multiply_adds: of convolutions and matrix products for one image, with 1001 classes; None where nobody said.
      channels: of the images.
      least_image_size: the smallest height and width that its layers can still halve.
      batch_size: the default of a benchmark, chosen so that a training step takes seconds at most on a few cores.
      preprocessing: the family of image preprocessing that it was published with, of PREPROCESSINGS.
      data_formats: the layouts that it can be built in.
      aliases: other names: tf_cnn_benchmarks', where that network is the same one.
      file: a user's own, that it is from; None for the program's networks.
    """

    name: str
    build: Builder
    image_size: int
    parameters: int | None = None
    multiply_adds: int | None = None
    channels: int = 3
    least_image_size: int = 1
    batch_size: int = 16
    preprocessing: str = 'inception'
    data_formats: tuple[str, ...] = ('NHWC', 'NCHW')
    aliases: tuple[str, ...] = ()
    file: Path | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where a fact cannot be true: people write them by hand."""
        for facts, holds, expected in _RULES:
            for fact in facts:
                if not holds(getattr(self, fact)):
                    raise ValueError(f'{fact}={getattr(self, fact)!r}, and {expected} expected')
        if self.least_image_size > self.image_size:
            raise ValueError(f'least_image_size={self.least_image_size} is above image_size={self.image_size}')

    def size_problems(self, image_size: int) -> list[str]:
        """Why this network cannot see images of that height and width; empty where it can."""
        if image_size >= self.least_image_size:
            return []
        return [
            f'--image_size={image_size} is too small for {self.name}: its layers leave nothing of images below '
            f'{self.least_image_size} pixels. Use --image_size={self.image_size}, for which it was made.'
        ]

    def data_format_problems(self, data_format: str) -> list[str]:
        """Why this network cannot be built in that layout; empty where it can."""
        if data_format in self.data_formats:
            return []
        return [
            f'--data_format={data_format}: {self.name} is written for {" and ".join(self.data_formats)} alone. '
            f'Use --data_format={self.data_formats[0]}.'
        ]


# Modules beside this one that hold no networks (and may import TensorFlow).
_NO_FAMILIES = (
    'build',
    'gradients',
    'layers',
    'listing',
    'multiply_adds',
    'published',
    'registry',
    'slim',
    'style',
    'tf_cnn_benchmarks',
    'user_network',
    'weight_decay',
)

_networks: dict[str, Network] = {}


def register(name: str, **facts: Any) -> Callable[[Builder], Builder]:
    """Decorator: makes the function the network `name`; `facts` are the fields of Network."""

    def add(build: Builder) -> Builder:
        if name in _networks:
            raise ValueError(f'two networks are called {name}')
        _networks[name] = Network(name=name, build=build, **facts)
        return build

    return add


@contextlib.contextmanager
def _collecting() -> Iterator[dict[str, Network]]:
    """Gives a dictionary that takes what is registered within, in place of the program's own."""
    global _networks  # noqa: PLW0603
    before, _networks = _networks, {}
    try:
        yield _networks
    finally:
        _networks = before


@functools.cache
def _load_families() -> None:
    """Imports every family's file beside this one, so that its decorators run."""
    package = importlib.import_module('bench.models')
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NO_FAMILIES:
            importlib.import_module(f'bench.models.{module.name}')


def all_networks() -> list[Network]:
    """Every network of the program's, sorted by name."""
    _load_families()
    return [_networks[name] for name in sorted(_networks)]


def names_and_aliases() -> list[str]:
    """Every word that `get` takes, but for a user's own file."""
    return [word for network in all_networks() for word in (network.name, *network.aliases)]


def matching(pattern: str) -> list[Network]:
    """The networks whose name or alias matches a shell pattern, or that a user's own file holds.

    Raises:
      UsageError: a user's own file is named that cannot be used.
    """
    own = user_network.parts(pattern)
    if own:
        return _of_file(*own)
    return [
        network
        for network in all_networks()
        if any(fnmatch.fnmatchcase(word, pattern) for word in (network.name, *network.aliases))
    ]


def get(name: str) -> Network:
    """The network of that name or alias, or of a user's own file: `path/to/file.py:name`.

    Raises:
      UsageError: there is none; the text names the nearest.
    """
    own = user_network.parts(name)
    if own:
        found = _of_file(*own)
        if len(found) > 1:
            several = ', '.join(network.name for network in found)
            raise UsageError([f'--model={name}: the file registers several networks. Name one: {several}.'])
        return found[0]
    for network in all_networks():
        if name == network.name or name in network.aliases:
            return network
    raise UsageError([f'--model={name}: {absent(name)}'])


def absent(word: str) -> str:
    """What to say of a word that no network has: why tf_cnn_benchmarks' is another one, or which name is nearest."""
    return tf_cnn_benchmarks.refusal(word) or f'there is no such network.{_hint(word)}'


_KERAS = 'keras/'
# A name without its version is taken for the first one: resnet_50 for resnet_v1_50, and not for resnet_d_50.
_FIRST_VERSION = re.compile(r'_v1(?![.\d])')


def _hint(word: str) -> str:
    if word != word.lower() and matching(word.lower()):
        return f' Did you mean {word.lower()}?'
    known = names_and_aliases()
    if word.lower().startswith(_KERAS):
        # The beginning that they share would make any two of them alike.
        names = {name.removeprefix(_KERAS): name for name in known if name.startswith(_KERAS)}
        return nearest(word[len(_KERAS) :], (), names) or f" `run_benchmark.py models '{_KERAS}*'` lists them."
    without = {_FIRST_VERSION.sub('', name): name for name in known}
    return nearest(word, known, without) or ' `run_benchmark.py models` lists them.'


def _of_file(path: str, name: str) -> list[Network]:
    """The network of that name that a user's own file registers, or all of them where the name is empty."""
    registered = _registered_by(path, Path(path).resolve())
    found = [
        dataclasses.replace(network, name=f'{path}:{network.name}')
        for network in registered
        if name in ('', network.name, *network.aliases)
    ]
    if found:
        return found
    known = [network.name for network in registered]
    if known:
        raise UsageError([f'--model={path}:{name}: the file registers no {name}. It registers {", ".join(known)}.'])
    raise UsageError(
        [f"--model={path}: the file registers no network. Write @register('name', image_size=224) before its function."]
    )


@functools.cache
def _registered_by(path: str, file: Path) -> list[Network]:
    """What a user's own file registers, under the names that it gives; `path` is how the user wrote it."""
    known, own = names_and_aliases(), set[str]()
    with _collecting() as registered:
        problem = user_network.run(file)
    for word in (word for network in registered.values() for word in dict.fromkeys((network.name, *network.aliases))):
        if word in known:
            problem = problem or f'{word} is the name of a network of this program. Choose another one.'
        if word in own:
            problem = problem or f'two of its networks are called {word}, by name or alias. Rename one.'
        own.add(word)
    if problem:
        raise UsageError([f'--model={path}: {problem}'])
    return [dataclasses.replace(network, file=file) for network in registered.values()]
