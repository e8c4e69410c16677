"""Jobs with parameter servers and replicas before TensorFlow is loaded: plans, places, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import distribution, flags
from bench.config import BenchmarkConfig
from bench.distribution import DistributionOptions
from bench.options import DataOptions, StepOptions
from bench.runners import cluster, servers
from bench.runners.member import Place

PS = '--variable_update=parameter_server'
HOSTS = ('--ps_hosts=a:1', '--worker_hosts=b:1,c:1')
TF_CONFIG = json.dumps(
    {'cluster': {'ps': ['a:1', 'd:1'], 'worker': ['b:1', 'c:1']}, 'task': {'type': 'worker', 'index': 1}}
)


def options(*words: str) -> DistributionOptions:
    config, problems = flags.parse(BenchmarkConfig, ['--model=lenet', *words], 'program')
    assert problems == []
    return config.distribution


def problems(*words: str, environ: dict[str, str] | None = None, step: StepOptions | None = None) -> list[str]:
    return distribution.problems(options(*words), step or StepOptions(), DataOptions(), environ or {}, 8)


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        ((PS, '--job_name=worker'), ['--ps_hosts=HOST:PORT,... is missing', '--worker_hosts=HOST:PORT,... is missing']),
        ((PS, '--job_name=worker', '--task_index=2', *HOSTS), ['--task_index=2: --worker_hosts names 2']),
        ((PS, *HOSTS), ['--ps_hosts has no effect without --job_name', '--worker_hosts has no effect']),
        ((PS, '--job_name=ps', *HOSTS, '--num_workers=3'), ['--num_workers=3, and 2 are named']),
        ((PS, '--job_name=ps', *HOSTS, '--num_ps=2'), ['--num_ps=2, and 1 are named']),
        ((PS, '--nosync_replicas', '--replicas_to_aggregate=2'), ['--replicas_to_aggregate has no effect']),
        (('--variable_update=local', '--num_ps=2'), ['--num_ps has no effect with --variable_update=local']),
    ],
)
def test_flags_of_servers_that_contradict_each_other_are_refused(words: tuple[str, ...], told: list[str]) -> None:
    found = problems(*words)
    assert len(found) == len(told)
    for part in told:
        assert any(part in problem for problem in found), found


def test_a_place_among_servers_and_workers_asks_for_servers_by_itself() -> None:
    found = options('--job_name=worker', '--task_index=1', *HOSTS)
    assert found.kind == 'parameter_server'
    assert problems('--job_name=worker', '--task_index=1', *HOSTS) == []
    assert not distribution.starts_processes(found, {})
    assert found.resolved({}).variable_update == 'parameter_server'
    assert problems('--variable_update=horovod', '--job_name=worker', *HOSTS)


def test_replicas_are_counted_by_num_workers_alone() -> None:
    (found,) = problems('--variable_update=replicated', '--num_workers=2', step=StepOptions(num_clones=2))
    assert '--num_workers is the number of copies' in found
    assert options('--variable_update=replicated', '--num_workers=3').replicas == 3
    assert options(PS, '--num_workers=3').replicas == 1


def test_tf_config_tells_the_place_where_servers_are_asked_for_and_flags_tell_none() -> None:
    environ = {'TF_CONFIG': TF_CONFIG}
    assert problems(PS, environ=environ) == []
    found = options(PS).resolved(environ)
    assert (found.job_name, found.task_index, found.num_ps, found.num_workers) == ('worker', 1, 2, 2)
    # What is resolved once is the same whoever resolves it again.
    assert found.resolved({}) == found
    assert not distribution.starts_processes(options(PS), environ)
    own = options(PS, '--job_name=ps', *HOSTS).resolved(environ)
    assert (own.job_name, own.num_ps, own.num_workers) == ('ps', 1, 2)
    assert options('--variable_update=independent').resolved(environ).job_name is None
    assert problems(PS, environ={'TF_CONFIG': '{'}) != []


@pytest.mark.parametrize(
    ('words', 'together'),
    [
        ((), True),
        (('--nosync_replicas',), False),
        (('--nocross_replica_sync',), False),
        (('--replicas_to_aggregate=2',), True),
        (('--replicas_to_aggregate=1',), False),
        (('--replicas_to_aggregate=3',), False),
    ],
)
def test_steps_are_done_together_only_where_an_update_is_of_one_gradient_of_each(
    words: tuple[str, ...], together: bool
) -> None:
    assert options(PS, '--num_workers=2', *words).is_synchronous == together


def test_every_process_of_a_job_gets_the_same_hosts_and_its_own_place() -> None:
    places = [Place(Path('folder'), rank, 2, 2, (rank,)) for rank in (0, 1)]
    with servers.members(options(PS, '--num_workers=2', '--num_ps=2').resolved({}), places, ['benchmark', PS]) as found:
        assert [member.label for member in found] == ['ps 0', 'ps 1', '0', '1']
        assert [member.place.rank for member in found] == [None, None, 0, 1]
        # Servers are not pinned: they work while workers wait.
        assert [member.place.cpus for member in found] == [(), (), (0,), (1,)]
        clusters = []
        for member in found:
            config, wrong = flags.parse(BenchmarkConfig, member.words[1:], 'program')
            assert wrong == []
            clusters.append(cluster.of(config.distribution, {}))
        assert [each.name for each in clusters if each] == ['ps 0', 'ps 1', 'worker 0', 'worker 1']
        assert len({(each.servers, each.workers) for each in clusters if each}) == 1
