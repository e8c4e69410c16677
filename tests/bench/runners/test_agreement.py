"""Workers that were started one by one with different flags: what is compared, and that no job of them begins."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from program import command

from bench import flags
from bench.config import BenchmarkConfig
from bench.models import registry
from bench.record import Json
from bench.runners import agreement, cluster

LENET = ('--model=lenet', '--num_batches=100000', '--num_warmup_batches=1')


def terms(*words: str, processors: int = 2) -> Json:
    config, problems = flags.parse(BenchmarkConfig, ['--variable_update=horovod', *words], 'program')
    assert problems == []
    network = registry.get(config.network.model)
    return agreement.terms(dataclasses.asdict(config.resolved(network, None, processors)))


def test_a_flag_that_differs_is_told_with_who_has_what() -> None:
    first = terms('--model=lenet', '--batch_size=4', '--optimizer=adam')
    assert agreement.problems([first, first, first]) == []
    others = [
        terms('--model=lenet', '--batch_size=8', '--optimizer=adam'),
        terms('--model=cifarnet', '--batch_size=8', '--optimizer=adam', '--gradient_clip=2', '--xla'),
    ]
    assert set(agreement.problems([first, *others])) == {
        'worker 2 has --model=cifarnet, worker 0 has --model=lenet: give all the same.',
        'worker 2 has --image_size=32, worker 0 has --image_size=28: give all the same.',
        'workers 1, 2 have --batch_size=8, worker 0 has --batch_size=4: give all the same.',
        'worker 2 has --gradient_clip=2.0, worker 0 has no --gradient_clip: give all the same.',
        'worker 2 has --xla=true, worker 0 has --xla=false: give all the same.',
    }
    (told,) = agreement.problems([first, *[others[0]] * 9])
    assert told.startswith('workers 1, 2, 3, 4 and 5 more have --batch_size=8')


def test_a_default_that_another_typed_is_no_difference() -> None:
    default = registry.get('lenet').batch_size
    assert agreement.problems([terms('--model=lenet'), terms('--model=lenet', f'--batch_size={default}')]) == []
    assert agreement.problems([terms('--model=lenet'), terms('--model=lenet', f'--batch_size={default + 1}')]) != []


def test_what_each_machine_has_of_its_own_may_differ() -> None:
    mine = ('--result_dir=a', '--display_every=5', '--num_intra_threads=3', '--json', '--cpu_affinity=0')
    assert agreement.problems([terms('--model=lenet'), terms('--model=lenet', *mine, processors=8)]) == []
    place = ('--job_name=worker', '--ps_hosts=a:1', '--worker_hosts=b:1,c:1', '--variable_update=parameter_server')
    other = tuple(word.replace('a:1', '10.0.0.1:1') for word in place)
    assert agreement.problems([terms(*place), terms(*other, '--task_index=1', '--wait_seconds=9')]) == []
    data: list[dict[str, object]] = [{'data_dir': '/here/shards'}, {'data_dir': '/there/shards'}, {'data_dir': None}]
    (told,) = agreement.problems(data)
    assert told == 'worker 2 has no --data_dir, worker 0 has --data_dir=/here/shards: give all the same.'
    elsewhere: list[dict[str, object]] = [
        {'data_name': '/here/birds.json'},
        {'data_name': '/there/birds.json'},
        {'data_name': '/there/b.json'},
    ]
    (told,) = agreement.problems(elsewhere)
    assert told.startswith('worker 2 has --data_name=/there/b.json')


def ended(lines: Sequence[Sequence[str]], seconds: float) -> list[tuple[int, str]]:
    """How processes end that run at the same time, and what they print; none outlives this."""
    environment = {**os.environ, 'TF_GRPC_REUSE_PORT': '1'}
    started = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        for line in lines
    ]
    try:
        return [(each.wait(), output) for each in started for output, _ in [each.communicate(timeout=seconds)]]
    finally:
        for each in started:
            each.kill()
            each.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('first', 'second', 'told'),
    [
        (
            ('--batch_size=4',),
            ('--batch_size=8', '--nosync_replicas'),
            (
                'worker 1 has --batch_size=8, worker 0 has --batch_size=4: give all the same.',
                'worker 0 has --sync_replicas=true: give all the same.',
            ),
        ),
        (
            ('--batch_size=4',),
            ('--batch_size=4', '--model=cifarnet'),
            ('worker 1 has --model=cifarnet, worker 0 has --model=lenet: give all the same.',),
        ),
    ],
    ids=['hung', 'failed_inside_tensorflow'],
)
def test_workers_of_servers_with_different_flags_are_refused_before_they_begin(
    tmp_path: Path, first: tuple[str, ...], second: tuple[str, ...], told: tuple[str, ...]
) -> None:
    results = tmp_path / 'results'
    with cluster.reserved_addresses(3) as (server, *workers):
        places = [cluster.words([server], workers, *place) for place in (('ps', 0), ('worker', 0), ('worker', 1))]
        lines = [
            command(*LENET, f'--result_dir={results}', *words, *place)
            for words, place in zip((first, first, second), places, strict=True)
        ]
        ends = ended(lines, 240)
    for status, output in ends:
        # The server, too.
        assert status == 2, output
        assert all(text in output for text in told), output
        assert 'Traceback' not in output
        assert 'does not answer' not in output
    assert not results.exists()


@pytest.mark.slow
def test_horovod_workers_with_different_batches_are_refused(tmp_path: Path) -> None:
    pytest.importorskip('horovod')
    results, script = tmp_path / 'results', tmp_path / 'worker.sh'
    line = ' '.join(command(*LENET, f'--result_dir={results}'))
    script.write_text(f'exec {line} --batch_size=$((4 * (1 + HOROVOD_RANK)))\n')
    horovodrun = str(Path(sys.executable).with_name('horovodrun'))
    ((status, output),) = ended([[horovodrun, '--gloo', '-np', '2', 'sh', str(script)]], 240)
    assert status != 0
    assert 'error: worker 1 has --batch_size=8, worker 0 has --batch_size=4: give all the same.' in output
    assert 'Running warm up' not in output
    assert 'Traceback (most recent call last):\n  File "' + str(Path(__file__).parents[3] / 'bench') not in output
    assert not results.exists()
