"""Whether the processes of a job were given the same flags. Knows nothing of TensorFlow, nor of how they talk.

Each process of horovodrun's, of mpirun's or of several machines has a command line of its own. Where these differ, the
record is of another run than was timed, or a step waits for ever. So workers compare before the first step. Servers
compute nothing of the network, and only hear what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.record import Json

# A process's place and patience, what it prints and where it writes.
_OWN = ('job_name', 'task_index', 'ps_hosts', 'worker_hosts', 'wait_seconds', 'result_dir', 'json', 'display_every')
# Processors, of which each machine may have others; and where settings are, which are compared by themselves.
_OF_THE_MACHINE = (
    'settings',
    'num_intra_threads',
    'num_inter_threads',
    'datasets_num_private_threads',
    'omp_num_threads',
    'kmp_affinity',
    'cpu_affinity',
    'numa_node',
)
_MAY_DIFFER = frozenset((*_OWN, *_OF_THE_MACHINE))
# What each machine may have somewhere else: the same file in another folder, and data that all or none have.
_FILES, _PATHS = ('model', 'data_name'), ('data_dir', 'checkpoint_path')
_MOST_NAMED = 4


def terms(config: Mapping[str, Mapping[str, Any]]) -> Json:
    """What must be the same in all workers of a job, by flag.

    Args:
      config: resolved, as a record has it.
    """
    return {name: value for group in config.values() for name, value in group.items() if name not in _MAY_DIFFER}


def problems(of_all: Sequence[Mapping[str, Any]]) -> list[str]:
    """The flags in which workers differ from the first one, each as a sentence that names who has what.

    Args:
      of_all: the workers' terms, by rank.
    """
    first, found = of_all[0], []
    for name, value in first.items():
        others: dict[str, list[int]] = {}
        for rank, each in enumerate(of_all):
            if _compared(name, each.get(name)) != _compared(name, value):
                others.setdefault(_typed(name, each.get(name)), []).append(rank)
        mine = _typed(name, value)
        found += [f'{_named(ranks)} {flag}, worker 0 has {mine}: give all the same.' for flag, ranks in others.items()]
    return found


def _compared(name: str, value: Any) -> Any:
    if name in _PATHS:
        return value is not None
    return Path(value).name if name in _FILES else value


def _typed(name: str, value: Any) -> str:
    """A flag as it would be typed."""
    if value is None:
        return f'no --{name}'
    return f'--{name}={str(value).lower() if isinstance(value, bool) else value}'


def _named(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f'worker {ranks[0]} has'
    more = f' and {len(ranks) - _MOST_NAMED} more' if len(ranks) > _MOST_NAMED else ''
    return f'workers {", ".join(map(str, ranks[:_MOST_NAMED]))}{more} have'
