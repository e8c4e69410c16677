"""What is said of a run when it is over: the lines that are made from its record, and what kept that from its place."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from program import SCHEMA

from bench import record
from bench.config import BenchmarkConfig
from bench.distribution import DistributionOptions
from bench.errors import BenchError
from bench.models import registry
from bench.options import NetworkOptions, OutputOptions, StepOptions
from bench.runners import merge, report, summary
from bench.screen import Screen

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def config(folder: str = 'results', clones: int = 1, **shared: Any) -> BenchmarkConfig:
    typed = BenchmarkConfig(
        network=NetworkOptions(model='lenet', batch_size=8),
        step=StepOptions(num_clones=clones),
        distribution=DistributionOptions(**shared),
        output=OutputOptions(result_dir=folder),
    )
    return typed.resolved(registry.get('lenet'), None, 2)


def recorded(of: BenchmarkConfig, seconds: list[float], workers: int = 1) -> record.Json:
    """The record of a run whose steps took so long."""
    return record.assemble(
        started=START,
        ended={'time': START.isoformat(), 'status': 'completed', 'reason': 'num_batches'},
        command=(),
        repeat='',
        config=of,
        machine={},
        build=None,
        environment={},
        tuning=[],
        container=None,
        workers=[record.Worker(rank, 'host', rank, (), seconds, (), 2**30) for rank in range(workers)],
        images_per_step=of.images_per_step * workers,
        machine_rates=None,
        achieved=None,
        settings=None,
        warnings=[],
    )


def shown(capsys: pytest.CaptureFixture[str], of: BenchmarkConfig, seconds: list[float]) -> dict[str, str]:
    """The lines of the summary by their labels."""
    summary.show(recorded(of, seconds), Screen())
    return {line[:12].strip(): line[12:] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ('seconds', 'told'),
    [
        ([0.5], '16.00 images/sec, too few steps for an interval; 1 step, as many as were asked for'),
        ([0.5, 0.5], '16.00 images/sec, too few steps for an interval; 2 steps, as many as were asked for'),
        # The interval of their mean reaches below 0.
        ([0.1, 1.3, 0.1], '16.00 images/sec, too few steps, too different for an interval; 3 steps, as many as'),
        ([0.5, 0.5, 0.5], '16.00 images/sec, 95 % interval 16.00 to 16.00 (+/- 0.0 %); 3 steps, as many as'),
    ],
)
def test_why_there_is_no_interval_is_not_told(
    capsys: pytest.CaptureFixture[str], seconds: list[float], told: str
) -> None:
    assert shown(capsys, config(), seconds)['throughput'].startswith(told)


@pytest.mark.parametrize(('low', 'shown_'), [(0.001, False), (-99.0, False), (0.7, True)])
def test_an_interval_that_excludes_hardly_anything_is_told_as_none(
    capsys: pytest.CaptureFixture[str], low: float, shown_: bool
) -> None:
    run = recorded(config(num_workers=2), [0.5] * 5, workers=2)
    wide = {'low': low, 'high': 1.7}
    run['throughput'] |= wide
    run['distribution'] = {
        'variable_update': 'horovod', 'synchronous': True, 'exchange': None, 'spread': None,
        'scaling': {'efficiency': 0.85, **wide},
    }  # fmt: skip
    summary.show(run, Screen())
    lines = {line[:12].strip(): line[12:] for line in capsys.readouterr().out.splitlines()}
    assert ('95 % interval' in lines['throughput']) == ('95 % interval' in lines['scaling']) == shown_
    told = 'too few steps, too different for an interval'
    assert shown_ or told in lines['throughput']
    assert shown_ or lines['scaling'] == f'0.850 of one worker on the same processors, {told}'


def job(steps: list[float], alone: list[float] | None = None, *, kind: str) -> record.Json:
    """The record of workers whose steps take so long each, and so long without exchange."""
    parts = []
    for rank, seconds in enumerate(steps):
        own = recorded(config(variable_update=kind, num_workers=len(steps)), [seconds] * 5)
        own['workers'][0] |= {'rank': rank, 'alone_seconds': [alone[rank], alone[rank], 9.0] if alone else []}
        parts.append({'record': own, 'exchange': None, 'lost': False})
    whole = merge.merged(parts, workers=len(steps), synchronous=kind == 'horovod')
    jsonschema.validate(whole['distribution'], SCHEMA['properties']['distribution'])
    return whole


@pytest.mark.parametrize(
    ('seconds', 'told'),
    [
        ([0.5, 0.4], '16.00, 20.00 images/sec, 22.2 % apart'),
        ([0.5, 0.4, *[0.45] * 62], '64 from 16.00 to 20.00 images/sec, median 17.78, 22.5 % apart'),
    ],
)
def test_how_workers_differ_is_told_and_of_many_in_three_numbers(
    capsys: pytest.CaptureFixture[str], seconds: list[float], told: str
) -> None:
    independent = job(seconds, kind='independent')
    assert independent['distribution']['spread']['high'] == pytest.approx(20)
    summary.show(independent, Screen())
    assert f'workers     independent; {told}\n' in capsys.readouterr().out
    # A slow one makes the steps of all as long as its own.
    synchronous = job([0.6] * len(seconds), seconds, kind='horovod')
    assert synchronous['distribution']['spread']['high'] == pytest.approx(20)
    summary.show(synchronous, Screen())
    assert f'workers     horovod; without exchange {told}\n' in capsys.readouterr().out
    assert job(seconds[:1], kind='independent')['distribution']['spread'] is None


def test_workers_that_wait_for_each_other_are_told_to_be_equally_fast(capsys: pytest.CaptureFixture[str]) -> None:
    # Interrupted, say, before the steps without exchange.
    unknown = job([0.6, 0.6], kind='horovod')
    assert unknown['distribution']['spread'] is None
    summary.show(unknown, Screen())
    # As records of before have it.
    unknown['distribution']['spread'] = {'low': 13.3, 'median': 13.3, 'high': 13.3}
    summary.show(unknown, Screen())
    assert 'apart' not in capsys.readouterr().out


def test_the_speed_of_those_who_are_left_is_not_told_as_that_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    parts = []
    for rank, seconds in enumerate([[], [0.5, 0.5]]):
        own = recorded(config(variable_update='independent', num_workers=2), seconds)
        own['workers'][0]['rank'] = rank
        parts.append({'record': own, 'exchange': None, 'lost': rank == 0})
    # What a worker measured that was killed is lost, or the worker as a whole.
    for left in (parts, parts[1:]):
        whole = merge.merged(left, workers=2, synchronous=False)
        assert (whole['throughput'], whole['work']) == (None, None)
        summary.show(whole, Screen())
        told = 'of all together unknown, because of some no step is known; worker 1 16.00 images/sec'
        assert f'throughput  {told}\n' in capsys.readouterr().out


MEGAHERTZ = {'low': 3290.0, 'median': 3300.0, 'high': 3310.0}


@pytest.mark.parametrize(
    ('megahertz', 'throttles', 'told'),
    [
        (MEGAHERTZ, 0, ''),
        (MEGAHERTZ, 7, ''),
        (MEGAHERTZ, None, '; whether heat slows them is not told here'),
        (None, 0, '; their frequency is not told here'),
        (None, None, '; their frequency and whether heat slows them are not told here'),
    ],
)
def test_what_could_not_be_watched_is_taken_for_quiet(
    capsys: pytest.CaptureFixture[str], megahertz: dict[str, float] | None, throttles: int | None, told: str
) -> None:
    run = recorded(config(), [0.5])
    run['workers'][0]['noise'] = {
        'seconds': 20.0, 'processors': 2, 'other_processors': 0.02, 'stolen_seconds': 0.4,
        'megahertz': megahertz, 'thermal_throttles': throttles,
    }  # fmt: skip
    summary.show(run, Screen())
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith('noise'))
    assert line == f'noise       other processes kept 0.02 of 2 processors busy; 1.0 % of their time was stolen{told}'


def test_copies_of_a_network_are_not_told_from_one_of_their_whole_batch(capsys: pytest.CaptureFixture[str]) -> None:
    replicated = config(variable_update='replicated', num_workers=2)
    lines = shown(capsys, replicated, [0.5, 0.5])
    assert lines['run'] == 'lenet, training, 2 replicas of batch 8 of 28x28, NHWC, fp32, synthetic images'
    # Two batches of 8 in half a second.
    assert lines['throughput'].startswith('32.00 images/sec')
    assert lines['threads'] == '2 within an operation, 2 between'
    assert 'training, 3 clones of batch 8 of' in summary.title(recorded(config(clones=3), [0.5]))
    assert 'training, 2 workers, batch 8 of' in summary.title(recorded(config(num_workers=2), [0.5], workers=2))
    assert 'training, batch 8 of' in summary.title(recorded(config(), [0.5]))


@pytest.mark.parametrize('seconds', [[], [0.5, 0.5]])
def test_no_exchange_is_told_of_a_run_without_steps(capsys: pytest.CaptureFixture[str], seconds: list[float]) -> None:
    run = recorded(config(num_workers=2), seconds, workers=2)
    exchange = {'payload_bytes': 2**20, 'sent_bytes': 2**20, 'seconds': None, 'seconds_without': None}
    run['distribution'] = {'variable_update': 'horovod', 'synchronous': True, 'exchange': exchange, 'scaling': None}
    summary.show(run, Screen())
    assert ('exchange    1.0 MiB of gradients a step' in capsys.readouterr().out) == bool(seconds)


def test_a_full_disk_is_told_of_once_for_a_profile_and_its_record(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    of = config(str(tmp_path / 'file' / 'results'))
    profile = f'The profile could not be written to {of.output.result_dir}: Not a directory.'
    with pytest.raises(BenchError) as error:
        report.conclude(recorded(of, [0.5]), of, START, Screen(), [profile])
    assert str(error.value).startswith(f'The record could not be written to {of.output.result_dir}: Not a directory. ')
    assert 'profile' not in str(error.value)


def test_a_profile_that_could_not_be_written_is_told_of_where_the_record_was(tmp_path: Path) -> None:
    of = config(str(tmp_path))
    with pytest.raises(BenchError, match='no room'):
        report.conclude(recorded(of, [0.5]), of, START, Screen(), ['no room'])
    assert len(list(tmp_path.glob('lenet_train_*.json'))) == 1
