"""How a cell of a sweep is called. Imports nothing, because the start of a sweep does not wait for numpy."""

from __future__ import annotations

from collections.abc import Mapping

# Values that say nothing by themselves.
_BARE = ('on', 'off', 'auto', 'true', 'false')


def name_of(values: Mapping[str, str]) -> str:
    """The values that tell a cell from others, with the flag's name where a value needs it: `vgg_16 batch_size=8`."""
    return ' '.join(
        value if value and value not in _BARE and not value[0].isdigit() else f'{name}={value}'
        for name, value in values.items()
    )
