"""The command `models`: which networks there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.config import ModelsConfig
from bench.models import published, registry

_FACTS = ('name', 'aliases', 'image_size', 'channels', 'parameters', 'multiply_adds', 'batch_size', 'data_formats')
_LEGEND = """\
For 1001 classes; multiply-adds of one image; batch: the default of a benchmark; -: not known or not published.
top-1, top-5: percent of ImageNet's pictures, as published with slim's checkpoints, at the size in the last column."""


def run(config: ModelsConfig, words: Sequence[str]) -> int:
    """Prints the networks that match the pattern, as a table or as JSON."""
    del words
    networks = registry.matching(config.pattern)
    if config.json:
        print(json.dumps([_facts(network) for network in networks], indent=2))
        return 0
    head = ('network', 'also', 'image', 'parameters', 'multiply-adds', 'batch', 'top-1', 'top-5', 'at')
    for row in (head, *(_row(network) for network in networks)):
        name, also, image, parameters, multiply_adds, batch, top_1, top_5, at = row
        print(f'{name:<32}{also:<32}{image:>6}{parameters:>11}{multiply_adds:>14}{batch:>6}{top_1:>6}{top_5:>6}{at:>5}')
    print(_LEGEND)
    return 0


def _facts(network: registry.Network) -> dict[str, Any]:
    found = published.CHECKPOINTS.get(network.name)
    return {
        **{fact: getattr(network, fact) for fact in _FACTS},
        'top_1': found and found.top_1,
        'top_5': found and found.top_5,
        'accuracy_image_size': found and found.image_size,
        'checkpoint': {'archive': found.archive, 'address': found.address, 'num_classes': found.num_classes}
        if found and found.archive
        else None,
    }


def _row(network: registry.Network) -> tuple[str, ...]:
    found = published.CHECKPOINTS.get(network.name)
    accuracies = (found.top_1, found.top_5, found.image_size) if found and found.top_1 else (None, None, None)
    return (
        network.name,
        ', '.join(network.aliases),
        str(network.image_size),
        f'{network.parameters / 1e6:.2f} M' if network.parameters else '-',
        f'{network.multiply_adds / 1e9:.3f} G' if network.multiply_adds else '-',
        str(network.batch_size),
        *('-' if figure is None else str(figure) for figure in accuracies),
    )
