"""Flags are made from config's fields, and back: the command in a record must give the same run."""

from __future__ import annotations

import dataclasses

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


def test_no_two_options_share_a_name() -> None:
    names = [
        name
        for group in dataclasses.fields(BenchmarkConfig)
        for field in dataclasses.fields(getattr(BenchmarkConfig(), group.name))
        for name in (field.name, *field.metadata['aliases'])
    ]
    assert len(names) == len(set(names))
