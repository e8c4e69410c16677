"""The preprocessing of LeNet, in training as in evaluation, as slim/preprocessing/lenet_preprocessing.py has it."""

from __future__ import annotations

from typing import Any

from bench.data.preprocessing import pictures
from bench.data.preprocessing.cifarnet import crop_evaluation

Tensor = Any

CHANCES = 0


def crop_training(
    picture: pictures.Picture,
    size: int,
    seed: Tensor,  # noqa: ARG001  (no chance here)
    resize: pictures.Resize,
) -> Tensor:
    """The middle of the picture, as in evaluation."""
    return crop_evaluation(picture, size, resize)


def distort(images: Tensor, chances: Tensor) -> Tensor:  # noqa: ARG001  (LeNet changes no colours)
    """The same images."""
    return images


def normalize(images: Tensor) -> Tensor:
    """0..255 to -1..1."""
    return (images - 128.0) / 128.0
