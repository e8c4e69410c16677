"""Who is in a job: from flags, from TF_CONFIG, and on ports of this machine."""

from __future__ import annotations

import json
import shlex
import socket

import pytest

from bench.errors import UsageError
from bench.runners import cluster
from bench.runners.cluster import Cluster


def problems(job: str, task: int, servers: str | None, workers: str | None) -> str:
    with pytest.raises(UsageError) as error:
        cluster.from_flags(job, task, servers, workers)
    return '\n'.join(error.value.problems)


def environment(config: object) -> dict[str, str]:
    return {'TF_CONFIG': json.dumps(config)}


def test_flags_give_the_place_of_a_process_and_the_names_of_all_others() -> None:
    found = cluster.from_flags('worker', 1, 'a:2222, b:2222', 'c:2222,d:2223,[::1]:2224')
    assert found == Cluster(('a:2222', 'b:2222'), ('c:2222', 'd:2223', '[::1]:2224'), 'worker', 1)
    assert found.name == 'worker 1'
    assert found.peers == {'ps 0': 'a:2222', 'ps 1': 'b:2222', 'worker 0': 'c:2222', 'worker 2': '[::1]:2224'}


def test_the_words_that_a_process_is_started_with_give_its_place() -> None:
    servers, workers = ['h:1'], ['h:2', 'h:3']
    given = dict(word.removeprefix('--').split('=', 1) for word in cluster.words(servers, workers, 'ps', 0))
    found = cluster.from_flags(given['job_name'], int(given['task_index']), given['ps_hosts'], given['worker_hosts'])
    assert found == Cluster(('h:1',), ('h:2', 'h:3'), 'ps', 0)


def test_every_problem_with_hosts_is_told_at_once() -> None:
    assert problems('ps', 0, None, ' ,').count('is missing') == 2
    text = problems('worker', 2, 'a:0,nothing', 'c:2222,c:2222')
    for part in (
        'a:0: a port is 1 to 65535',
        "'nothing' is no address",
        '--task_index=2: --worker_hosts names 2; 0 to 1',
        'c:2222 is given to 2',
    ):
        assert part in text


def test_of_one_worker_a_range_of_numbers_is_expected() -> None:
    told = problems('worker', 2, 'a:2222', 'b:2222')
    assert told == '--task_index=2: --worker_hosts names 1; 0 is expected.'


def test_tf_config_gives_servers_and_workers() -> None:
    config = {'cluster': {'ps': ['a:1'], 'worker': ['b:1', 'c:1']}, 'task': {'type': 'worker', 'index': 1}}
    assert cluster.from_environment(environment(config)) == Cluster(('a:1',), ('b:1', 'c:1'), 'worker', 1)


@pytest.mark.parametrize('chief', ['chief', 'master'])
def test_a_chief_is_the_first_worker_and_moves_the_others_up(chief: str) -> None:
    hosts = {chief: ['z:1'], 'ps': ['a:1'], 'worker': ['b:1', 'c:1']}
    places = [(chief, 0), ('worker', 0), ('worker', 1)]
    found = [
        cluster.from_environment(environment({'cluster': hosts, 'task': {'type': kind, 'index': index}}))
        for kind, index in places
    ]
    assert found == [Cluster(('a:1',), ('z:1', 'b:1', 'c:1'), 'worker', task) for task in (0, 1, 2)]


@pytest.mark.parametrize('environ', [{}, {'TF_CONFIG': ''}, {'TF_CONFIG': '{}'}, {'TF_CONFIG': '{"cluster": {}}'}])
def test_without_a_cluster_in_tf_config_there_is_none(environ: dict[str, str]) -> None:
    assert cluster.from_environment(environ) is None


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('{"cluster": ', 'this is no JSON'),
        ('[1]', 'it is a list; an object with "cluster" and "task" is expected.'),
        ('7', 'it is the number 7; an object'),
        ('{"cluster": 7, "task": {}}', '"cluster" is the number 7; an object is expected.'),
        ('{"cluster": {}, "task": null}', '"task" is the word null; an object is expected.'),
        ('{"cluster": {"ps": "a:1", "worker": ["b:1"]}}', 'the hosts of "ps" are the text "a:1"; a list of texts'),
        ('{"cluster": {"ps": ["a:1"], "worker": [1]}}', 'the hosts of "worker" are a list; a list of texts'),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": 1}}', 'the type of the task is the number 1; "ps", "worker"'),
        ('{"task": {"type": "ps", "index": "x"}}', 'the index of the task is the text "x"; a whole number'),
        ('{"task": {"type": "ps", "index": 0.5}}', 'the index of the task is the number 0.5; a whole number'),
        ('{"task": {"type": "ps", "index": "--1"}}', 'the index of the task is the text "--1"; a whole number'),
        (
            '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 1}}',
            'not in the cluster',
        ),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "evaluator", "index": 0}}', "'evaluator'"),
        ('{"cluster": {"worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}', 'needs "ps" and "worker"'),
        ('{"cluster": {"ps": ["a"], "worker": ["b:1"]}, "task": {"type": "ps", "index": 0}}', 'HOST:PORT'),
    ],
)
def test_a_tf_config_that_is_wrong_is_refused_with_its_text(text: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        cluster.from_environment({'TF_CONFIG': text})
    (problem,) = error.value.problems
    assert told in problem
    assert text.strip()[:40] in problem
    for words in ('attribute', 'invalid literal', 'int()'):
        assert words not in problem


def test_the_example_of_a_tf_config_can_be_copied() -> None:
    with pytest.raises(UsageError) as error:
        cluster.from_environment({'TF_CONFIG': '{"cluster": 7, "task": 7}'})
    first, second = error.value.problems
    assert 'For example' not in first
    _, _, typed = second.partition('For example: ')
    (word,) = shlex.split(typed)
    found = cluster.from_environment({'TF_CONFIG': word.removeprefix('TF_CONFIG=')})
    assert found is not None and found.name == 'worker 0'


def test_an_index_may_be_written_as_a_text() -> None:
    config = {'cluster': {'ps': ['a:1'], 'worker': ['b:1', 'c:1']}, 'task': {'type': 'worker', 'index': '1'}}
    found = cluster.from_environment(environment(config))
    assert found is not None and found.task == 1


def test_reserved_ports_are_nobody_elses_until_a_process_of_the_job_takes_them() -> None:
    with cluster.reserved_addresses(3) as addresses:
        ports = [int(address.rpartition(':')[2]) for address in addresses]
        assert len(set(ports)) == 3
        with socket.socket() as stranger, pytest.raises(OSError, match='in use'):
            stranger.bind(('127.0.0.1', ports[0]))
        with socket.socket() as early, pytest.raises(ConnectionRefusedError):
            early.connect(('127.0.0.1', ports[0]))
        with socket.socket() as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            own.bind(('0.0.0.0', ports[0]))
            own.listen()
            with socket.create_connection(('127.0.0.1', ports[0]), timeout=5):
                own.accept()[0].close()
