"""Who is told to have failed where several processes of a job end badly, and what one worker is compared with."""

from __future__ import annotations

import dataclasses
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


def part(reason: str, *, lost: bool, unfinished: bool = False) -> dict[str, Any]:
    ended = {'status': 'failed', 'reason': reason}
    return {'record': {'ended': ended}, 'exchange': None, 'lost': lost, 'unfinished': unfinished}


LOST = part('worker 1 does not answer any more', lost=True)
UNFINISHED = part('It was ended within a step.', lost=False, unfinished=True)


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
            [end(None, 1), end(0, 1), end(1, -9, hang='has been stopped by a signal for 8 seconds')],
            {0: LOST},
            'Worker 1 has been stopped by a signal for 8 seconds',
        ),
        # Of two that do no step one computes, and both were ended in their step.
        (
            [
                end(0, 1, asked=True, hang='hangs: it did no step for 20 seconds'),
                end(1, 1, asked=True, hang='hangs: it did no step for 25 seconds, though it computes'),
            ],
            {0: UNFINISHED, 1: UNFINISHED},
            'Worker 1 hangs: it did no step for 25 seconds, though it computes, after 7 steps.',
        ),
        ([end(0, 1), end(1, 1, asked=True)], {0: LOST, 1: UNFINISHED}, 'Worker 1 was not reached by the others'),
        ([end(0, 1, asked=True), end(1, -9)], {0: UNFINISHED}, 'Worker 1 was killed by SIGKILL'),
    ],
    ids=[
        'failed',
        'killed',
        'server_killed',
        'server_cannot_begin',
        'stopped',
        'computes',
        'not_reached',
        'ended_within_a_step',
    ],
)
def test_another_one_is_blamed_than_the_one_that_failed_first(
    ends: list[End], parts: dict[int, Any], told: str
) -> None:
    found = job._failure(ends, parts)
    assert found is not None
    assert found.startswith(told)
    assert 'ended with exit status' not in found or 'ended with exit status' in told


@pytest.mark.parametrize(
    ('rank', 'status', 'hang', 'told'),
    [
        (None, -9, '', 'Server 0 was killed by SIGKILL, as the kernel does it where memory runs out.'),
        (None, 1, '', 'Server 0 ended with exit status 1.'),
        (
            None,
            -9,
            'has been stopped by a signal for 8 seconds',
            'Server 0 has been stopped by a signal for 8 seconds.',
        ),
        (1, 1, '', 'Worker 1 ended with exit status 1, before its first step. It printed nothing.'),
    ],
)
def test_no_steps_and_lines_are_missed_of_a_server(rank: int | None, status: int, hang: str, told: str) -> None:
    silent = dataclasses.replace(end(rank, status, hang=hang), steps=0, last_lines=())
    assert job._failure([silent, end(0, 0, asked=True)], {}) == told


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


@pytest.mark.parametrize('typed', [(), ('--batch_size=7',)])
def test_a_default_batch_is_typed_for_workers_which_may_then_not_reduce_it(typed: tuple[str, ...]) -> None:
    words = ('--model=lenet', '--variable_update=independent', '--num_workers=2', *typed)
    config, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    resolved = config.resolved(registry.get('lenet'), None, 1)
    with job._members(resolved, job._places(2), batch_is_given=bool(typed)) as members:
        assert len(members) == 2
        for each in members:
            assert tuple(word for word in each.words if word.startswith('--batch_size')) == typed


def test_a_job_is_compared_with_one_worker_of_another_batch() -> None:
    rate = {'images_per_second': 10.0, 'low': 9.0, 'high': 11.0, 'confidence': 0.95}

    def seen(batch: int) -> dict[str, Any]:
        config = {'network': {'batch_size': batch}}
        return {'config': config, 'throughput': rate, 'distribution': {'scaling': None}, 'warnings': []}

    same, other = seen(8), seen(8)
    job._compare(same, seen(8))
    assert same['distribution']['scaling']['efficiency'] == pytest.approx(1)
    assert same['warnings'] == []
    job._compare(other, seen(16))
    assert other['distribution']['scaling'] is None
    assert '--batch_size=8' in other['warnings'][0]['text']
