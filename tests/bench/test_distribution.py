"""Options of several processes: what is refused, and what a process takes itself for in which environment."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import distribution
from bench.config import BenchmarkConfig
from bench.distribution import DistributionOptions
from bench.machine import capabilities
from bench.options import DataOptions, NetworkOptions, ProfileOptions, StepOptions
from bench.runners import local

ROOT = Path(__file__).parents[2]
HOROVODRUN = {'HOROVOD_RANK': '1', 'HOROVOD_SIZE': '2', 'HOROVOD_LOCAL_RANK': '1', 'HOROVOD_LOCAL_SIZE': '2'}
MPIRUN = {
    'OMPI_COMM_WORLD_RANK': '3',
    'OMPI_COMM_WORLD_SIZE': '4',
    'OMPI_COMM_WORLD_LOCAL_RANK': '1',
    'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
}
MPIRUN_ALONE = {'OMPI_COMM_WORLD_RANK': '0', 'OMPI_COMM_WORLD_SIZE': '1'}
TF_CONFIG = {
    'TF_CONFIG': json.dumps(
        {'cluster': {'ps': ['a:1'], 'worker': ['b:1', 'c:1']}, 'task': {'type': 'worker', 'index': 1}}
    )
}


def problems(
    options: DistributionOptions,
    environ: Mapping[str, str] | None = None,
    step: StepOptions | None = None,
    data: DataOptions | None = None,
) -> list[str]:
    return distribution.problems(options, step or StepOptions(), data or DataOptions(), environ or {}, usable_cpus=2)


@pytest.mark.parametrize(
    ('options', 'environ', 'told'),
    [
        (
            DistributionOptions(variable_update='local', num_workers=2),
            {},
            '--num_workers=2 with --variable_update=local',
        ),
        (DistributionOptions(num_workers=17), {}, 'at most 16 workers'),
        (DistributionOptions(compression='fp16'), {}, '--compression has no effect with --variable_update=local'),
        (DistributionOptions(num_workers=2, num_ps=1), {}, '--num_ps has no effect with --variable_update=horovod'),
        (DistributionOptions(scaling_baseline=True), {}, '--scaling_baseline has no effect with one worker'),
        (
            DistributionOptions(scaling_baseline=True, variable_update='replicated', num_workers=2),
            {},
            '--scaling_baseline is for several processes',
        ),
        (DistributionOptions(num_workers=3), HOROVODRUN, '--num_workers=3: horovodrun or mpirun started 2 processes'),
        (DistributionOptions(variable_update='independent'), MPIRUN, 'mpirun started 4 processes, which share'),
        (DistributionOptions(variable_update='independent'), MPIRUN_ALONE, 'mpirun started 1 process, and the program'),
        (DistributionOptions(variable_update='parameter_server'), MPIRUN_ALONE, 'started 1 process, and the program'),
        (DistributionOptions(variable_update='parameter_server'), MPIRUN, 'mpirun started 4 processes, which share'),
        # Without --variable_update the processes of a launcher are Horovod's.
        (DistributionOptions(num_ps=1), HOROVODRUN, '--num_ps has no effect with --variable_update=horovod'),
        (
            DistributionOptions(scaling_baseline=True),
            HOROVODRUN,
            '--scaling_baseline is for processes that this program',
        ),
        (
            DistributionOptions(num_workers=2, cycle_time_ms=5),
            {'HOROVOD_CYCLE_TIME': '1'},
            '--cycle_time_ms=5 and HOROVOD_CYCLE_TIME=1 in the environment differ',
        ),
        (
            DistributionOptions(num_workers=2),
            {'HOROVOD_FUSION_THRESHOLD': '64M'},
            'HOROVOD_FUSION_THRESHOLD=64M in the environment is no number',
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    options: DistributionOptions, environ: Mapping[str, str], told: str
) -> None:
    (problem,) = problems(options, environ)
    assert told in problem


def test_so_many_copies_or_clones_are_refused_that_they_would_be_built_for_minutes() -> None:
    copies = DistributionOptions(variable_update='replicated', num_workers=16)
    assert problems(copies, step=StepOptions()) == []
    (problem,) = problems(dataclasses.replace(copies, num_workers=1000))
    assert problem == '--num_workers=1000: 2 processors are usable here. Use at most 16 copies.'
    assert problems(DistributionOptions(), step=StepOptions(num_clones=16)) == []
    (problem,) = problems(DistributionOptions(), step=StepOptions(num_clones=17))
    assert problem == '--num_clones=17: 2 processors are usable here. Use at most 16 clones.'
    # The one that started this process has judged it by the whole machine.
    several = DistributionOptions(variable_update='independent', num_workers=17)
    assert problems(several, {distribution.JOB: '/some/folder'}, step=StepOptions(num_clones=17)) == []


def test_workers_that_learn_nothing_are_pointed_to_independent_ones() -> None:
    two = DistributionOptions(num_workers=2)
    (problem,) = problems(two, step=StepOptions(forward_only=True))
    assert '--variable_update=independent' in problem
    (problem,) = problems(two, data=DataOptions(input_only=True))
    assert '--variable_update=independent' in problem
    independent = DistributionOptions(num_workers=2, variable_update='independent')
    assert problems(independent, step=StepOptions(forward_only=True)) == []


@pytest.mark.parametrize('environ', [HOROVODRUN, MPIRUN])
def test_processes_of_a_launcher_are_judged_as_one_by_itself(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = problems(DistributionOptions(), environ, step=StepOptions(forward_only=True))
    assert len(told) == 1 and 'without horovodrun or mpirun, --num_workers=' in told[0]
    assert problems(DistributionOptions(compression='fp16', cycle_time_ms=5), environ) == []
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    traced = BenchmarkConfig(network=NetworkOptions(model='lenet'), profile=ProfileOptions(profile=True))
    (problem,) = traced.problems(capabilities.detect)
    assert '--profile traces one process' in problem


def test_a_place_among_servers_is_that_of_the_hosts_also_where_mpirun_started_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in MPIRUN.items():
        monkeypatch.setenv(name, value)
    options = DistributionOptions(job_name='worker', task_index=1, ps_hosts='a:1', worker_hosts='b:1,c:1')
    assert problems(options, MPIRUN) == []
    place = local._place(options)
    assert place is not None and (place.rank, place.size) == (1, 2)
    assert not distribution.starts_processes(options, MPIRUN)


def test_tf_config_of_several_processes_asks_for_parameter_servers_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = DistributionOptions()
    assert found.meant(TF_CONFIG).kind == found.resolved(TF_CONFIG).kind == 'parameter_server'
    assert problems(found, TF_CONFIG) == []
    assert not distribution.starts_processes(found, TF_CONFIG)
    monkeypatch.setenv('TF_CONFIG', TF_CONFIG['TF_CONFIG'])
    place = local._place(found)
    assert place is not None and (place.rank, place.size) == (1, 2)
    (told,) = problems(found, TF_CONFIG, step=StepOptions(forward_only=True))
    assert 'learns nothing that workers could share' in told
    # What is asked for counts, and so does who started the process.
    assert DistributionOptions(variable_update='independent', num_workers=2).meant(TF_CONFIG).kind == 'independent'
    assert found.meant({**TF_CONFIG, distribution.JOB: '/some/folder'}).kind == 'local'
    assert found.meant({**TF_CONFIG, **HOROVODRUN}).kind == 'horovod'
    alone = json.dumps({'cluster': {'chief': ['a:1']}, 'task': {'type': 'chief', 'index': 0}})
    for text in (alone, '{', '', '[]', '{"cluster": []}'):
        assert found.meant({'TF_CONFIG': text}).kind == 'local'
    workers_alone = json.dumps({'cluster': {'worker': ['a:1', 'b:1']}, 'task': {'type': 'worker', 'index': 0}})
    (told,) = problems(found, {'TF_CONFIG': workers_alone})
    assert 'needs "ps" and "worker"' in told


def test_places_given_beside_tf_config_are_taken_without_a_word() -> None:
    options = DistributionOptions(
        variable_update='parameter_server', task_index=1, ps_hosts='a:1', worker_hosts='b:1,c:1'
    )
    told = problems(options, TF_CONFIG)
    assert len(told) == 3
    for name, text in zip(('task_index', 'ps_hosts', 'worker_hosts'), told, strict=True):
        assert text.startswith(f'--{name} has no effect without --job_name') and 'TF_CONFIG in the environment' in text


def test_a_given_flag_that_agrees_with_the_environment_is_no_problem() -> None:
    environ = {'HOROVOD_CYCLE_TIME': '5.0', 'HOROVOD_FUSION_THRESHOLD': str(4 * 2**20)}
    assert problems(DistributionOptions(num_workers=2, cycle_time_ms=5, fusion_threshold_mb=4), environ) == []


def test_the_environments_settings_are_in_the_configuration() -> None:
    environ = {'HOROVOD_CYCLE_TIME': '2.5', 'HOROVOD_FUSION_THRESHOLD': str(4 * 2**20)}
    found = DistributionOptions(num_workers=2).resolved(environ)
    assert (found.cycle_time_ms, found.fusion_threshold_mb, found.variable_update) == (2.5, 4.0, 'horovod')
    assert problems(found, environ) == []


@pytest.mark.parametrize(('environ', 'rank', 'size'), [(HOROVODRUN, 1, 2), (MPIRUN, 3, 4)])
def test_a_process_of_a_launcher_does_not_start_others(environ: dict[str, str], rank: int, size: int) -> None:
    place = distribution.launched(environ)
    assert place is not None
    assert (place.rank, place.size, place.local_rank, place.local_size) == (rank, size, 1, 2)
    found = DistributionOptions().resolved(environ)
    assert (found.kind, found.workers) == ('horovod', size)
    assert not distribution.starts_processes(found, environ)


def test_a_process_that_this_program_started_does_not_start_others() -> None:
    environ = {**HOROVODRUN, distribution.JOB: '/some/folder'}
    assert distribution.launched(environ) is None
    assert not distribution.starts_processes(DistributionOptions(num_workers=2), environ)
    assert distribution.starts_processes(DistributionOptions(num_workers=2), {})
    assert not distribution.starts_processes(DistributionOptions(), {})


def test_a_wrong_job_is_refused_without_loading_tensorflow_or_horovod() -> None:
    code = (
        'import sys; from bench.cli import main\n'
        'status = main(["--num_workers=2", "--forward_only", "--compression=fp17", "--num_ps=1"])\n'
        'sys.exit(10 * ("tensorflow" in sys.modules or "horovod" in sys.modules) + status)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    for text in ('--forward_only', '--compression=fp17', '--num_ps'):
        assert text in done.stderr
