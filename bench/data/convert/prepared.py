"""What each dataset's file gives to the writing of shards."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.data.convert.shards import Subset

Array = Any


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A dataset that is ready to be written.

    Attributes:
      labels: the lines of labels.txt: names of the classes by label.
      subsets: by name, such as 'train'; none is empty.
      listing: arrays that tell this source from another: names and lengths of the pictures, or their pixels.
    """

    labels: tuple[str, ...]
    subsets: Mapping[str, Subset]
    listing: tuple[Array, ...]

    def shards(self) -> list[str]:
        """The names of all files but labels.txt."""
        return [name for subset in self.subsets.values() for name in subset.shards]

    def fingerprint(self) -> str:
        """A text that differs where the shards would."""
        digest = hashlib.sha256()
        for subset in self.subsets.values():
            digest.update(repr((subset.shards, self.labels)).encode())
            digest.update(subset.order.tobytes())
        for array in self.listing:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
