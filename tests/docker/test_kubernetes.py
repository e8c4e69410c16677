"""The manifests beside what Kubeflow's operators publish, and beside what this program understands."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bench import flags
from bench.config import BenchmarkConfig
from bench.runners import cluster

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'docker' / 'kubernetes'
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((ROOT / 'tests' / 'data' / 'kubernetes' / 'jobs.schema.json').read_text())
)
MPIJOB, TFJOB = (yaml.safe_load((FOLDER / name).read_text()) for name in ('mpijob.yaml', 'tfjob.yaml'))
# What the training operator looks for (its tensorflow_types.go).
CONTAINER, PORT_NAME = 'tensorflow', 'tfjob-port'


def container(replicas: dict[str, Any]) -> dict[str, Any]:
    (only,) = replicas['template']['spec']['containers']
    return dict(only)


def tf_config(job: dict[str, Any], kind: str, index: int) -> str:
    """What the training operator puts into the environment: genTFConfigJSONStr in its tensorflow.go."""
    name, specs = job['metadata']['name'], job['spec']['tfReplicaSpecs']
    hosts = {}
    for replica_type, replicas in specs.items():
        (port,) = [port['containerPort'] for port in container(replicas)['ports'] if port['name'] == PORT_NAME]
        low = replica_type.lower()
        hosts[low] = [f'{name}-{low}-{i}.default.svc:{port}' for i in range(replicas['replicas'])]
    return json.dumps({'cluster': hosts, 'task': {'type': kind.lower(), 'index': index}, 'environment': 'cloud'})


def understood(words: list[str]) -> BenchmarkConfig:
    config, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    return config


@pytest.mark.parametrize('job', [MPIJOB, TFJOB], ids=['MPIJob', 'TFJob'])
def test_the_operators_accept_every_field(job: dict[str, Any]) -> None:
    VALIDATOR.validate(job)


@pytest.mark.parametrize(
    ('job', 'change'),
    [
        (MPIJOB, lambda spec: spec.update(slotPerWorker=1)),
        (MPIJOB, lambda spec: spec.update(cleanPodPolicy='Running')),
        (MPIJOB, lambda spec: spec['mpiReplicaSpecs'].pop('Launcher')),
        (MPIJOB, lambda spec: spec['mpiReplicaSpecs']['Worker'].update(replicas='2')),
        (MPIJOB, lambda spec: spec.update(launcherCreationPolicy='WhenWorkersReady')),
        (TFJOB, lambda spec: spec['tfReplicaSpecs'].update(ParameterServer={'template': {}})),
        (TFJOB, lambda spec: spec['runPolicy'].update(cleanPodPolicy='Done')),
        (TFJOB, lambda spec: spec['tfReplicaSpecs']['PS']['template']['spec'].pop('containers')),
    ],
)
def test_a_wrong_field_would_be_noticed(job: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    wrong = copy.deepcopy(job)
    change(wrong['spec'])
    assert not VALIDATOR.is_valid(wrong)


def test_mpirun_starts_as_many_processes_as_there_are_slots() -> None:
    spec = MPIJOB['spec']
    words = container(spec['mpiReplicaSpecs']['Launcher'])['args']
    slots = spec['mpiReplicaSpecs']['Worker']['replicas'] * spec['slotsPerWorker']
    assert words[words.index('-np') + 1] == str(slots)


def test_mpirun_gives_the_program_words_that_it_understands() -> None:
    workers = MPIJOB['spec']['mpiReplicaSpecs']
    words = container(workers['Launcher'])['args']
    config = understood(words[words.index('tf-bench') + 1 :])
    assert config.distribution.variable_update == 'horovod'
    assert str(config.threads.num_intra_threads) == container(workers['Worker'])['resources']['limits']['cpu']


@pytest.mark.parametrize(('kind', 'index'), [('PS', 0), ('Worker', 0), ('Worker', 1)])
def test_every_process_of_a_tfjob_finds_its_place_in_what_the_operator_tells_it(kind: str, index: int) -> None:
    config = understood(container(TFJOB['spec']['tfReplicaSpecs'][kind])['args'])
    assert config.distribution.variable_update == 'parameter_server'
    place = cluster.from_environment({'TF_CONFIG': tf_config(TFJOB, kind, index)})
    assert place is not None
    assert (place.job, place.task) == (kind.lower(), index)
    assert place.servers == ('tf-bench-ps-ps-0.default.svc:2222',)
    assert place.workers == tuple(f'tf-bench-ps-worker-{i}.default.svc:2222' for i in (0, 1))


def test_a_tfjob_has_the_names_that_the_operator_looks_for() -> None:
    for replicas in TFJOB['spec']['tfReplicaSpecs'].values():
        assert container(replicas)['name'] == CONTAINER
        assert [port['name'] for port in container(replicas)['ports']] == [PORT_NAME]


@pytest.mark.parametrize('job', [MPIJOB, TFJOB], ids=['MPIJob', 'TFJob'])
def test_what_computes_has_its_processors_for_itself(job: dict[str, Any]) -> None:
    """Requests that equal limits, in whole processors: what Kubernetes calls Guaranteed, for its static CPU policy."""
    specs = job['spec'].get('mpiReplicaSpecs') or job['spec']['tfReplicaSpecs']
    resources = container(specs['Worker'])['resources']
    assert resources['requests'] == resources['limits']
    assert resources['limits']['cpu'].isdecimal()


@pytest.mark.parametrize('job', [MPIJOB, TFJOB], ids=['MPIJob', 'TFJob'])
def test_a_namespace_of_the_restricted_standard_admits_every_pod(job: dict[str, Any]) -> None:
    """What Kubernetes' strictest Pod Security Standard asks for."""
    specs = job['spec'].get('mpiReplicaSpecs') or job['spec']['tfReplicaSpecs']
    for replicas in specs.values():
        user = replicas['template']['spec']['securityContext']
        assert user['runAsNonRoot'] and user['runAsUser'] == 9001
        assert user['seccompProfile'] == {'type': 'RuntimeDefault'}
        rights = container(replicas)['securityContext']
        assert rights == {'allowPrivilegeEscalation': False, 'capabilities': {'drop': ['ALL']}}
