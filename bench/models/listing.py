"""The command `models`: which networks there are."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.config import ModelsConfig
from bench.models import registry


def run(config: ModelsConfig, words: Sequence[str]) -> int:
    """Prints the networks that match the pattern, as a table or as JSON."""
    del words
    networks = registry.matching(config.pattern)
    if config.json:
        facts = ('name', 'aliases', 'image_size', 'channels', 'parameters', 'multiply_adds', 'batch_size')
        print(json.dumps([{fact: getattr(network, fact) for fact in facts} for network in networks], indent=2))
        return 0
    print(f'{"network":<32}{"also":<14}{"image":>7}{"parameters":>13}{"multiply-adds":>16}{"batch":>7}')
    for network in networks:
        print(
            f'{network.name:<32}{", ".join(network.aliases):<14}{network.image_size:>7}'
            f'{network.parameters / 1e6:>11.2f} M{network.multiply_adds / 1e9:>14.3f} G{network.batch_size:>7}'
        )
    print('For 1001 classes; multiply-adds of one image; batch: the default of a benchmark.')
    return 0
