"""Builds a registered network into the current graph."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.errors import BenchError, UsageError
from bench.models import user_network
from bench.models.layers import Layers, Tensor
from bench.models.registry import Network


@dataclasses.dataclass(frozen=True)
class Output:
    """What a network gives.

    Attributes:
      logits: [N, num_classes], float32.
      aux_logits: of the auxiliary heads, where the network has them; [N, num_classes] each.
      end_points: named activations in the data format.
    """

    logits: Tensor
    aux_logits: tuple[Tensor, ...]
    end_points: dict[str, Tensor]


def build(network: Network, images: Tensor, **options: Any) -> Output:
    """Builds `network` on images [N, H, W, C] (NHWC) or [N, C, H, W] (NCHW); `options` are those of Layers.

    Raises:
      UsageError: the images are too small for it, or in a layout that it has not.
      BenchError: it is a user's own, and its function fails or gives no logits.
    """
    layers = Layers(**options)
    problems = network.size_problems(min(layers.map_size(images))) + network.data_format_problems(layers.data_format)
    if problems:
        raise UsageError(problems)
    logits = network.build(layers, images) if network.file is None else _build_own(network, layers, images)
    return Output(logits, tuple(layers.aux_logits), layers.end_points)


def _build_own(network: Network, layers: Layers, images: Tensor) -> Tensor:
    """A user's own network: what is wrong with it is told in a sentence, with the line of the user's file."""
    assert network.file
    try:
        logits = network.build(layers, images)
    except Exception as error:
        raise BenchError(f'{network.name} fails with {user_network.explained(error, network.file)}') from error
    shape = getattr(logits, 'shape', None)
    wanted = [images.shape[0], layers.num_classes]
    if shape is None or list(shape) != wanted:
        seen = f'a tensor of the shape {list(shape)}' if shape is not None else repr(logits)
        raise BenchError(f'{network.name} gives {seen}; logits of the shape {wanted} are expected: [N, num_classes].')
    return logits
