"""Who is told to have failed where several processes of a job end badly, and what one worker is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import flags
from bench.config import BenchmarkConfig
from bench.models import registry
from bench.runners import job
from bench.runners.launch import End, Member
from bench.runners.member import Place


def end(rank: int | None, status: int, *, asked: bool = False, hang: str = '') -> End:
    """How a worker ended, or the server where there is no rank."""
    name = 'server 0' if rank is None else f'worker {rank}'
    place = Place(Path('folder'), rank, 2, 2, ())
    return End(Member('', name, place, [], {}), 1, status, 7, asked, hang, (f'last of {name}',))


def part(reason: str, *, lost: bool) -> dict[str, Any]:
    return {'record': {'ended': {'status': 'failed', 'reason': reason}}, 'exchange': None, 'lost': lost}


LOST = part('worker 1 does not answer any more', lost=True)


@pytest.mark.parametrize(
    ('ends', 'parts', 'told'),
    [
        # The server heard of it and was gone first.
        (
            [end(None, 1), end(0, 1), end(1, 1)],
            {0: LOST, 1: part('There is not enough memory.', lost=False)},
            'Worker 1 failed after 7 steps: There is not enough memory.',
        ),
        ([end(None, 1), end(0, 1), end(1, -9)], {0: LOST}, 'Worker 1 was killed by SIGKILL'),
        ([end(None, -9), end(0, 1), end(1, 1)], {0: LOST, 1: LOST}, 'Server 0 was killed by SIGKILL'),
        ([end(None, 1), end(0, -15, asked=True), end(1, -15, asked=True)], {}, 'Server 0 ended with exit status 1'),
        (
            [end(None, 1), end(0, 1), end(1, -9, hang='is stopped by a signal since 8 seconds')],
            {0: LOST},
            'Worker 1 is stopped by a signal since 8 seconds',
        ),
    ],
    ids=['failed', 'killed', 'server_killed', 'server_cannot_begin', 'stopped'],
)
def test_another_one_is_blamed_than_the_one_that_failed_first(
    ends: list[End], parts: dict[int, Any], told: str
) -> None:
    found = job._failure(ends, parts)
    assert found is not None
    assert found.startswith(told)
    assert 'ended with exit status' not in found or 'ended with exit status' in told


@pytest.mark.parametrize(
    ('words', 'usable', 'share', 'threads'),
    [
        (('--num_workers=2',), 2, 1, 2),
        (('--num_workers=2',), 8, 4, 8),
        # Four workers on two processors have a thread each, and one worker has no use for four.
        (('--num_workers=4',), 2, 1, 2),
        (('--num_workers=2', '--num_intra_threads=2'), 2, 1, 4),
    ],
)
def test_the_worker_alone_has_other_threads_than_all_workers_together(
    words: tuple[str, ...], usable: int, share: int, threads: int
) -> None:
    config, problems = flags.parse(
        BenchmarkConfig, ('--model=lenet', '--variable_update=independent', *words), 'program'
    )
    assert problems == []
    network = registry.get('lenet')
    single = job._single(config, config.resolved(network, None, usable), config.resolved(network, None, share))
    assert single.threads.num_intra_threads == threads
    assert single.distribution.workers == 1
