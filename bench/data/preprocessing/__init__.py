"""How a picture becomes a network's input: one file a family, as TF-Slim's published preprocessing computes it
(github.com/tensorflow/models, research/slim/preprocessing).

A family's module has four functions. The first two work on one encoded picture, the others on a batch, so that
whatever can be is computed for many pictures at once:

    crop_training(encoded, size, channels, seed)  ->  [size, size, channels] float32, 0..255
    crop_evaluation(encoded, size, channels)      ->  the same, without chance
    distort(images, seed)                         ->  [N, size, size, channels] float32, colours changed; training only
    normalize(images)                             ->  [N, size, size, channels] float32 in the network's range

`encoded` is a JPEG as a string scalar; `seed` is an int64 [2], and the same seed gives the same picture.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from bench import errors

FAMILIES = ('cifarnet', 'inception', 'lenet', 'vgg')


def family(name: str) -> ModuleType:
    """The module of a family of preprocessing.

    Raises:
      errors.UsageError: there is none of that name.
    """
    if name not in FAMILIES:
        raise errors.UsageError(
            [f'preprocessing {name!r}: there are {", ".join(FAMILIES)}.{errors.nearest(name, FAMILIES)}']
        )
    return importlib.import_module(f'bench.data.preprocessing.{name}')
