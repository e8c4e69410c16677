"""The processes of a job with parameter servers on this machine. Knows nothing of TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from bench.distribution import DistributionOptions
from bench.machine import cpu
from bench.runners import cluster
from bench.runners.launch import Member
from bench.runners.member import Place

# Lets TensorFlow's servers take the ports that are reserved for them.
_ENVIRONMENT = {'TF_GRPC_REUSE_PORT': '1'}


@contextlib.contextmanager
def members(options: DistributionOptions, places: Sequence[Place], words: Sequence[str]) -> Iterator[list[Member]]:
    """Servers, which may use all processors, and workers; their ports are theirs while this is entered.

    Args:
      options: resolved.
      places: of the workers.
      words: of the command line, for all of them.
    """
    number = options.num_ps or 1
    with cluster.reserved_addresses(number + len(places)) as addresses:
        servers, workers = addresses[:number], addresses[number:]

        def words_of(job: str, task: int) -> list[str]:
            return [*words, *cluster.words(servers, workers, job, task)]

        # The words tell how many threads a worker has; a server works while they wait.
        cpus = cpu.usable_cpus()
        all_threads = [f'--num_intra_threads={cpus}', f'--num_inter_threads={cpus}']
        shared = dataclasses.replace(places[0], rank=None, cpus=())
        yield [
            *(
                Member(
                    f'ps {task}',
                    f'server {task}',
                    shared,
                    [*words_of(cluster.SERVER, task), *all_threads],
                    _ENVIRONMENT,
                )
                for task in range(number)
            ),
            *(
                Member(str(place.rank), f'worker {place.rank}', place, words_of(cluster.WORKER, task), _ENVIRONMENT)
                for task, place in enumerate(places)
            ),
        ]
