"""How a picture becomes a network's input: one file a family, as TF-Slim's published preprocessing computes it
(github.com/tensorflow/models, research/slim/preprocessing, at the end of 2020).

A family's module has this. The first two work on one picture (`Jpeg` or `Pixels` of pictures.py), the others on a
batch, so that whatever can be is computed for many pictures at once:

    crop_training(picture, size, seed, resize)    ->  [size, size, channels] float32, 0..255
    crop_evaluation(picture, size, resize)        ->  the same, without chance
    CHANCES                                       how many random numbers `distort` needs for a picture
    distort(images, chances)                      ->  [N, size, size, channels] float32, colours changed; training only
    normalize(images)                             ->  [N, size, size, channels] float32 in the network's range

`resize` is a function (image, height, width) -> [height, width, channels] float32; `seed` is an int64 [2], and the
same seed gives the same picture; `chances` is float32 [CHANCES, N, 1, 1, 1], 0 to 1. Nothing in this file imports
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from bench import errors
from bench.models import registry

FAMILIES = registry.PREPROCESSINGS
# Those that cut a part of the picture and resize it; the others take pixels as they are.
_RESIZING = ('inception', 'vgg')
# Of tf_cnn_benchmarks; round_robin is each of the others in turn, by the place in the batch.
RESIZE_METHODS = ('bilinear', 'nearest', 'bicubic', 'area', 'round_robin')
EVAL_METHODS = _RESIZING


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to pictures.

    Attributes:
      family: of FAMILIES.
      eval_method: family whose part of the picture is seen in evaluation; its own where None.
      resize_method: of RESIZE_METHODS.
      distortions: whether training changes colours as tf_cnn_benchmarks does (True) or not at all (False); None: as
        the family does.
    """

    family: str
    eval_method: str | None = None
    resize_method: str = 'bilinear'
    distortions: bool | None = None

    def resizes(self, *, is_training: bool) -> bool:
        """Whether pictures are resized at all."""
        return (self.family if is_training else self.eval_method or self.family) in _RESIZING


def family_of(name: str) -> str:
    """The family of that name, or that which a network of that name was published with: slim's --preprocessing_name.

    Raises:
      errors.UsageError: there is neither.
    """
    if name in FAMILIES:
        return name
    try:
        return registry.get(name).preprocessing
    except errors.UsageError as error:
        hint = errors.nearest(name, (*FAMILIES, *registry.names_and_aliases()))
        raise errors.UsageError(
            [f'--preprocessing_name={name}: {", ".join(FAMILIES)} or the name of a network is expected.{hint}']
        ) from error


def module(family: str) -> Any:
    """The module of a family; imports TensorFlow."""
    return importlib.import_module(f'bench.data.preprocessing.{family}')
