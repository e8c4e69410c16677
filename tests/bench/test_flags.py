"""Flags are made from config's fields, and back: the command in a record must give the same run."""

from __future__ import annotations

import dataclasses

import pytest

from bench import flags
from bench.config import BenchmarkConfig
from bench.models import registry


def parsed(*words: str) -> BenchmarkConfig:
    config, problems = flags.parse(BenchmarkConfig, words, 'program')
    assert problems == []
    return config


def test_words_of_a_resolved_config_give_it_back() -> None:
    config = parsed(
        '--model=lenet', '--forward_only', '--learning_rate=0.1', '--num_batches=7', '--json', '--gradient_clip=2'
    ).resolved(registry.get('lenet'), None, usable_cpus=3)
    assert parsed(*flags.words(config)) == config
    assert config.threads.num_intra_threads == 3
    assert config.network.image_size == 28


def test_a_later_word_wins_and_aliases_are_the_same_flag() -> None:
    config = parsed('--model_name=lenet', '--dataset_dir=/x', '--init_learning_rate=0.5', '--noforward_only')
    assert (config.network.model, config.data.data_dir) == ('lenet', '/x')
    assert (config.step.learning_rate, config.step.forward_only) == (0.5, False)
    assert parsed('--model=vgg_16', '--model_name=lenet').network.model == 'lenet'


MKL_TWICE = '--mkl is given as {} and as {}. Leave one of them out.'


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--mkl', '--nomkl'], MKL_TWICE.format('on', 'off')),
        (['--nomkl', '--mkl'], MKL_TWICE.format('off', 'on')),
        (['--mkl=on', '--mkl=off'], MKL_TWICE.format('on', 'off')),
        (['--mkl=auto', '--mkl=on'], MKL_TWICE.format('auto', 'on')),
        (['--mkl', '--nomkl', '--mkl'], MKL_TWICE.format('on', 'off')),
        (['--mkl=yes', '--mkl=on'], '--mkl=yes: one of auto, on, off is expected.'),
        (['--mkl=on', '--mkl=yes'], '--mkl=yes: one of auto, on, off is expected.'),
        (['--mkl='], '--mkl=: one of auto, on, off is expected.'),
        (['--nomkl=on'], '--nomkl=on does not take an argument.'),
        (['--mkl', 'off'], "'off' is a stray word: every option is written --name=value."),
        (['--forward_only', '--noforward_only'], '--forward_only is given as on and as off. Leave one of them out.'),
        # Under two names.
        (['--sync_replicas', '--nocross_replica_sync'], '--sync_replicas is given as on and as off. Leave one'),
    ],
)
def test_of_a_switch_that_is_given_as_on_and_as_off_one_word_is_dropped_in_silence(words: list[str], told: str) -> None:
    (problem,) = flags.parse(BenchmarkConfig, words, 'program')[1]
    assert problem.startswith(told)
    if 'is given as' in told:
        # A sweep, whose values are only read where its cells are made.
        given, problems = flags.several(BenchmarkConfig, words)
        assert problems == [problem]
        assert not given


@pytest.mark.parametrize('words', [('--mkl', '--mkl=on', '--mkl=true', '--mkl=1'), ('--mkl=on',), ('--mkl',)])
def test_a_switch_that_is_given_twice_as_the_same_is_refused(words: tuple[str, ...]) -> None:
    assert parsed(*words).machine.mkl == 'on'
    assert flags.several(BenchmarkConfig, words)[1] == []


def test_no_two_options_share_a_name() -> None:
    names = [
        name
        for group in dataclasses.fields(BenchmarkConfig)
        for field in dataclasses.fields(getattr(BenchmarkConfig(), group.name))
        for name in (field.name, *field.metadata['aliases'])
    ]
    assert len(names) == len(set(names))
