"""The estimate of a step's memory against what real runs used, and what a limit makes of a default batch."""

from __future__ import annotations

import dataclasses
import re

import pytest

from bench import flags
from bench.config import BenchmarkConfig
from bench.machine import capabilities, tensorflow_build
from bench.models import registry
from bench.runners import footprint
from bench.runners import step as steps
from bench.runners.replicated import Replicated

MIB = 2**20


def resolved(*words: str) -> tuple[BenchmarkConfig, registry.Network]:
    config, problems = flags.parse(BenchmarkConfig, words, '')
    assert problems == []
    network = registry.get(config.network.model)
    return config.resolved(network, None, 2), network


# Largest resident sets, in MiB, of two training steps in float32 on two cores with AVX512-BF16; and with AVX2 alone,
# where gradients of weights are products of copies (bench/models/gradients.py).
@pytest.mark.parametrize(
    ('model', 'batch', 'seen', 'copies'),
    [
        ('vgg_16', 1, 1741, False),
        ('vgg_16', 4, 1921, False),
        ('vgg_16', 4, 2417, True),
        ('resnet_v1_50', 4, 1114, False),
        ('resnet_v1_50', 16, 2026, False),
    ],
)
def test_the_estimate_is_what_a_real_run_needed(
    model: str, batch: int, seen: int, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, 'vector_level', lambda _: 'avx2' if copies else 'avx512')
    monkeypatch.setattr(tensorflow_build, 'onednn_enabled', lambda: True)
    config, network = resolved(f'--model={model}', f'--batch_size={batch}')
    found = footprint.measure(steps.benchmark_step(config, network, None, None).graph, batch)
    assert found.fixed + batch * found.per_image == pytest.approx(seen * MIB, rel=0.1)


def test_variables_of_the_optimizer_count() -> None:
    words = ('--model=lenet', '--batch_size=8')
    sizes = []
    for more in ('--optimizer=sgd', '--optimizer=adam'):
        config, network = resolved(*words, more)
        sizes.append(footprint.measure(steps.benchmark_step(config, network, None, None).graph, 8).fixed)
    weights = 4 * (network.parameters or 0)
    assert sizes[1] - sizes[0] == pytest.approx(2 * weights, rel=0.01)


def test_a_limit_halves_the_default_batch_until_it_fits_and_says_so() -> None:
    config, network = resolved('--model=lenet')
    default = config.network.batch_size or 0
    found = footprint.measure(steps.benchmark_step(config, network, None, None).graph, default)
    fitted, (warning,) = footprint.fitted(config, network, found.of(default // 4))
    assert fitted.network.batch_size == default // 4
    assert dataclasses.replace(fitted, network=config.network) == config
    assert warning['code'] == 'batch_reduced'
    assert f': {default // 4} is taken' in warning['text']


def test_a_limit_is_that_of_all_replicas_and_their_variables() -> None:
    config, network = resolved('--model=lenet', '--variable_update=replicated', '--num_workers=2')
    default = config.network.batch_size or 0
    graph = steps.benchmark_step(config, network, None, None, strategy=Replicated(2)).graph
    found = footprint.measure(graph, 2 * default)
    fitted, (warning,) = footprint.fitted(config, network, found.of(2 * (default // 4)))
    assert fitted.network.batch_size == default // 4
    assert warning['code'] == 'batch_reduced'


def test_a_limit_that_nothing_fits_leaves_a_batch_of_one_and_warns_with_what_is_needed() -> None:
    config, network = resolved('--model=lenet')
    fitted, (reduced, short) = footprint.fitted(config, network, 100 * MIB)
    assert fitted.network.batch_size == 1
    assert (reduced['code'], short['code']) == ('batch_reduced', footprint.MAY_BE_KILLED)
    # TensorFlow itself, lenet's 4 million weights and their gradients, a tenth of margin.
    assert re.search(r'needs about 0\.[67]\d GiB with a batch of 1', short['text'])
    assert 'allows 0.10: the kernel may kill this run' in short['text']
    assert '--image_size' in short['text']


@pytest.mark.parametrize(('words', 'limit'), [((), None), ((), 2**40), (('--forward_only',), 100 * MIB)])
def test_a_batch_that_fits_stays_and_so_does_that_of_inference(words: tuple[str, ...], limit: int | None) -> None:
    config, network = resolved('--model=lenet', *words)
    assert footprint.fitted(config, network, limit) == (config, [])
