"""The weights behind the published networks' recorded outputs, as a function of a variable's name and shape."""

from __future__ import annotations

import zlib

import numpy as np


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of the trainable variable `name`."""
    normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.rsplit('/', 1)[-1]
    if leaf == 'gamma':
        value = 1 + 0.1 * normal
    elif leaf in ('beta', 'biases', 'bias'):
        value = 0.1 * normal
    else:
        inputs = shape[0] * shape[1] if leaf == 'depthwise_weights' else np.prod(shape[:-1])
        value = normal * np.sqrt(2 / inputs)
    return value.astype(np.float32)
