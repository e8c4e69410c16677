"""The configurations of the commands `network` and `scaling`. Nothing here takes time to import."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from bench.machine.capabilities import Capabilities
from bench.options import option


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The measurement of a network"""

    connect: str | None = option(
        None, 'HOST:PORT where the other machine runs `network --listen=PORT`; this machine by itself where not given.'
    )
    listen: int | None = option(
        None, 'Answer at this port, for one measurement, instead of measuring.', minimum=1, maximum=65535
    )
    seconds: float = option(2.0, 'How long data is sent in each direction.', above=0, maximum=600)
    json: bool = option(False, 'Print JSON on standard output, and all else on standard error.')

    def problems(self, capabilities: Callable[..., Capabilities]) -> list[str]:
        """Flags that contradict each other, and an address that is none."""
        found = []
        if self.listen is not None and self.connect is not None:
            found.append('--listen answers and --connect asks: give one of them.')
        if self.connect is not None and address_of(self.connect) is None:
            found.append(f'--connect={self.connect}: HOST:PORT is expected, such as 10.0.0.2:5000.')
        return found


@dataclasses.dataclass(frozen=True)
class ScalingConfig:
    """The projection"""

    records: tuple[str, ...] = option(
        (),
        'Records of runs with one and more workers: files or folders, in words of their own or separated by commas.',
        positional=True,
        many=True,
    )
    network: str | None = option(None, 'What `network --json` printed, measured between the machines of those runs.')
    workers: str = option('8,64,512', 'Numbers of workers to project, separated by commas.')
    plot: str | None = option(None, 'Write the plot to this PNG file.')
    json: bool = option(False, 'Print JSON on standard output, and all else on standard error.')

    def problems(self, capabilities: Callable[..., Capabilities]) -> list[str]:
        """What is missing, is no file, or is no number."""
        found = []
        if not self.paths():
            found.append('Which runs? Give records: scaling results/a.json,results/b.json --network=network.json')
        for path in self.paths():
            if not path.exists():
                found.append(f'{path}: there is no such file or folder.')
        if self.network is None:
            found.append('--network=FILE is missing. To make one: run_benchmark.py network --json > network.json')
        elif not Path(self.network).is_file():
            found.append(f'--network={self.network}: there is no such file.')
        if any(not word.strip().isdecimal() or int(word) < 1 for word in self.workers.split(',')):
            found.append(f'--workers={self.workers}: numbers above 0, separated by commas, are expected.')
        return found

    def paths(self) -> list[Path]:
        """Of the records: files, and folders of them. A word that is the name of one is no list, for all its commas."""
        # Path's own raises where a list is longer than a name may be.
        lists = [[word] if os.path.exists(word) else word.split(',') for word in self.records]  # noqa: PTH110
        return [Path(name.strip()) for names in lists for name in names if name.strip()]


def address_of(text: str) -> tuple[str, int] | None:
    """Host and port of HOST:PORT; None where it is something else."""
    host, _, port = text.rpartition(':')
    return (host.strip('[]'), int(port)) if host and port.isdecimal() and 1 <= int(port) <= 65535 else None
