"""The flags of data: what each makes of a run, and which of them cannot be together."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bench import flags
from bench.config import BenchmarkConfig
from bench.data import datasets
from bench.data.datasets import Dataset
from bench.machine import capabilities
from bench.models import registry


def parsed(*words: str) -> BenchmarkConfig:
    config, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    return config


def told(*words: str) -> list[str]:
    return parsed(*words).problems(capabilities.detect)


@pytest.fixture
def folder(dataset: Dataset) -> str:
    """13 records of 13 classes, as words of a command line."""
    return f'--data_dir={dataset.shards[0].parent}'


@pytest.mark.parametrize(
    'word',
    [
        '--data_name=mnist',
        '--data_subset=validation',
        '--labels_offset=1',
        '--preprocessing_name=vgg',
        '--resize_method=area',
        '--distortions',
        '--nodistortions',
        '--cache_data=encoded',
        '--skip_bad_records=3',
        '--datasets_num_private_threads=1',
    ],
)
def test_a_flag_of_shards_is_refused_without_shards(word: str) -> None:
    name = word.lstrip('-').partition('=')[0].removeprefix('no')
    assert told('--model=lenet', word) == [f'--{name} has no effect without --data_dir; leave it out.']


@pytest.mark.parametrize(
    ('words', 'problem'),
    [
        (['--eval_method=vgg'], '--eval_method has no effect without --forward_only'),
        (['--eval_image_size=64'], '--eval_image_size has no effect without --forward_only'),
        (['--forward_only', '--distortions'], '--distortions has no effect with --forward_only'),
        (['--forward_only', '--eval_image_size=64', '--image_size=96'], '--image_size has no effect with --eval_'),
        (['--model=lenet', '--resize_method=area'], '--resize_method has no effect with the preprocessing of lenet'),
        (['--preprocessing_name=cifarnet', '--resize_method=nearest'], 'preprocessing of cifarnet'),
        (['--model=lenet', '--distortions'], 'lenet sees grey pictures'),
        (['--preprocessing_name=incepton'], 'Did you mean inception'),
        (['--num_classes=12'], '--num_classes=12: the data has 13 classes'),
        (['--labels_offset=12'], '--labels_offset=12 leaves 1 of 13 classes'),
        (['--labels_offset=1', '--num_classes=11'], '--num_classes=11: the data has 12 classes'),
        (['--learning_rate_decay_type=exponential'], '--num_samples_per_epoch is not given'),
    ],
)
def test_flags_that_contradict_each_other_or_the_data_are_told(folder: str, words: list[str], problem: str) -> None:
    (text,) = told('--model=mobilenet_v1_025', folder, '--data_name=folder', *words)
    assert problem in text


@pytest.mark.parametrize(
    'words',
    [
        ['--forward_only', '--eval_method=vgg', '--eval_image_size=64'],
        ['--forward_only', '--model=lenet', '--eval_method=inception', '--resize_method=area'],
        ['--resize_method=round_robin', '--distortions', '--cache_data=decoded', '--skip_bad_records=2'],
        ['--labels_offset=1', '--num_classes=12'],
        ['--input_only', '--forward_only'],
        ['--train_image_size=64', '--nodistortions'],
    ],
)
def test_flags_that_go_together_are_taken(folder: str, words: list[str]) -> None:
    assert told('--model=mobilenet_v1_025', folder, '--data_name=folder', *words) == []


def resolved(dataset: Dataset | None, *words: str) -> BenchmarkConfig:
    config = parsed(*words)
    return config.resolved(registry.get(config.network.model), dataset, usable_cpus=2)


def test_classes_are_those_of_the_data_less_the_offset(dataset: Dataset) -> None:
    folder = dataset.shards[0].parent
    for offset in (0, 1, 4):
        moved = datasets.load('folder', 'train', folder, offset)
        assert resolved(moved, f'--data_dir={folder}').network.num_classes == 13 - offset


def test_the_size_in_evaluation_is_that_of_its_flag_and_repeating_gives_it_again() -> None:
    words = ('--model=inception_v3', '--forward_only', '--eval_image_size=192')
    config = resolved(None, *words)
    assert config.network.image_size == 192
    assert parsed(*flags.words(config)) == config
    assert resolved(None, '--model=inception_v3', '--forward_only').network.image_size == 299


def test_a_size_in_evaluation_that_the_network_cannot_see_is_told() -> None:
    assert any('too small' in text for text in told('--model=vgg_16', '--forward_only', '--eval_image_size=8'))


@pytest.mark.parametrize(
    ('words', 'family'),
    [
        ([], 'inception'),
        (['--preprocessing_name=vgg'], 'vgg'),
        (['--preprocessing_name=resnet_v1_50'], 'vgg'),
        (['--model=cifarnet'], 'cifarnet'),
    ],
)
def test_the_preprocessing_is_the_networks_unless_another_is_named(
    dataset: Dataset, words: list[str], family: str
) -> None:
    config = resolved(dataset, '--model=mobilenet_v1', '--data_dir=x', *words)
    assert config.data.preprocessing_name == family == config.preprocessing().family
    assert parsed(*flags.words(config)) == config


def test_a_users_own_network_reads_shards_with_the_preprocessing_that_it_names(
    dataset: Dataset, folder: str, tmp_path: Path
) -> None:
    text = "from bench.models.registry import register\n@register('own', image_size=8%s)\ndef own(net, images): ...\n"
    for fact, family in (('', 'inception'), (", preprocessing='vgg'", 'vgg')):
        file = tmp_path / f'{family}.py'
        file.write_text(text % fact)
        words = (f'--model={file}', folder, '--data_name=folder')
        assert told(*words) == []
        config = resolved(dataset, *words)
        assert config.preprocessing().family == family
        assert parsed(*flags.words(config)) == config
    (tmp_path / 'wrong.py').write_text(text % ", preprocessing='incepton'")
    (problem,) = told(f'--model={tmp_path / "wrong.py"}', folder, '--data_name=folder')
    assert "ValueError in line 2: preprocessing='incepton', and one of cifarnet, inception, lenet, vgg is" in problem


def test_a_number_of_records_in_a_json_file_serves_a_decaying_learning_rate(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / 'birds.json'
    path.write_text(json.dumps({'splits': {'train': 13}, 'classes': 13}))
    words = ('--model=lenet', f'--data_dir={tmp_path}', f'--data_name={path}', '--learning_rate_decay_type=exponential')
    assert told(*words) == []
    path.write_text(json.dumps({'splits': {'train': 14}, 'classes': 13}))
    (text,) = told(*words)
    assert 'hold 13 records' in text


def test_damage_at_the_end_of_a_shard_is_told_though_bad_records_are_tolerated(dataset: Dataset, folder: str) -> None:
    shard = dataset.shards[1]
    shard.write_bytes(shard.read_bytes()[:-3])
    words = ('--model=lenet', folder, '--data_name=folder')
    (text,) = told(*words)
    assert f'{shard} is truncated' in text
    assert told(*words, '--skip_bad_records=1') == [text]


def test_a_cache_that_does_not_fit_is_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free: Any = SimpleNamespace(available=1000, total=1 << 40)
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: free)
    (text,) = told('--model=lenet', folder, '--data_name=folder', '--cache_data=encoded')
    assert '--cache_data=encoded would hold' in text
