"""The compose file beside what this program understands; test_network.py runs it where there is a docker compose."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from bench import flags
from bench.config import BenchmarkConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'docker' / 'compose.yaml').read_text()


def with_defaults(value: Any) -> Any:
    """What compose makes of it where nothing is in the environment."""
    if isinstance(value, str):
        return re.sub(r'\$\{\w+:-([^}]*)\}', r'\1', value)
    if isinstance(value, list):
        return [with_defaults(each) for each in value]
    return {name: with_defaults(each) for name, each in value.items()} if isinstance(value, dict) else value


SERVICES: dict[str, Any] = with_defaults(yaml.safe_load(TEXT))['services']


def words_of(service: str) -> list[str]:
    """The words of the program in a service's command; those of a shell are its last."""
    command = SERVICES[service]['command']
    words = shlex.split(command if isinstance(command, str) else command[-1])
    return words[words.index('run_benchmark.py') + 1 :]


def understood(service: str) -> BenchmarkConfig:
    config, problems = flags.parse(BenchmarkConfig, words_of(service), 'program')
    assert problems == []
    return config


def of(profile: str) -> set[str]:
    return {name for name, service in SERVICES.items() if service['profiles'] == [profile]}


def test_the_commands_in_its_first_lines_name_its_profiles_and_services() -> None:
    told = set(re.findall(r'--profile ([\w-]+)', TEXT))
    assert told == {profile for service in SERVICES.values() for profile in service['profiles']}
    assert set(re.findall(r'--exit-code-from (\w+)', TEXT)) <= of('horovod')


def test_one_server_and_two_workers_know_each_other_and_their_own_places() -> None:
    assert of('parameter-server') == {'ps0', 'worker0', 'worker1'}
    configs = {name: understood(name).distribution for name in of('parameter-server')}
    assert {name: f'{config.job_name}{config.task_index}' for name, config in configs.items()} == {
        name: name for name in configs
    }
    for config in configs.values():
        assert config.variable_update == 'parameter_server'
        assert (config.ps_hosts, config.worker_hosts) == ('ps0:5000', 'worker0:5000,worker1:5000')
    assert understood('ps0').network == understood('worker0').network == understood('worker1').network


def test_a_rank_is_started_on_each_of_horovods_two_services() -> None:
    assert of('horovod') == {'rank0', 'rank1'}
    (hosts,) = re.findall(r'mpirun -np 2 -H ([\w,]+)', SERVICES['rank0']['command'][-1])
    assert set(hosts.split(',')) == of('horovod')
    assert understood('rank0').distribution.variable_update == 'horovod'


def test_both_ranks_find_the_same_folder_by_whose_owner_they_choose_their_user() -> None:
    """Without LOCAL_USER_ID; rank 0 could not read the key that rank 1 makes for another user."""
    results = {volume for name in of('horovod') for volume in SERVICES[name]['volumes'] if volume.endswith(':/results')}
    assert results == {'../out:/results'}
    for name in of('horovod'):
        assert '../out:/results' in SERVICES[name]['volumes']


def test_what_others_need_is_stopped_last_and_nobody_is_killed_within_a_servers_minute() -> None:
    assert [SERVICES[name].get('depends_on') for name in ('worker0', 'worker1', 'ps0')] == [['ps0'], ['ps0'], None]
    assert SERVICES['rank0']['depends_on'] == ['rank1']
    assert {service['stop_grace_period'] for service in SERVICES.values()} == {'70s'}
    # mpirun passes no SIGTERM on.
    assert {name: service.get('stop_signal') for name, service in SERVICES.items() if 'stop_signal' in service} == {
        'rank0': 'SIGUSR1'
    }


def test_no_container_ends_before_its_job_with_which_compose_would_end_the_others() -> None:
    """`--exit-code-from` ends the job with the first container that ends, one for the keys alone included."""
    assert SERVICES['rank1']['command'][-1].endswith('exec entrypoint sshd')
    assert 'service_completed_successfully' not in TEXT
