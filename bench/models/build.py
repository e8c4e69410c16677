"""Builds a registered network into the current graph."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.errors import UsageError
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
      UsageError: the images are too small for it.
    """
    layers = Layers(**options)
    problems = network.size_problems(min(layers.map_size(images)))
    if problems:
        raise UsageError(problems)
    logits = network.build(layers, images)
    return Output(logits, tuple(layers.aux_logits), layers.end_points)
