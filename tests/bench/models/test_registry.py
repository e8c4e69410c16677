"""Which names are known, and what is said of those that are not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.errors import UsageError
from bench.models import registry


def test_listing_the_networks_imports_no_tensorflow() -> None:
    program = (
        'import sys; from bench.models import registry; registry.all_networks(); '
        'sys.exit("tensorflow" in sys.modules or "numpy" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', program], check=False).returncode == 0


def test_no_two_networks_share_a_name_or_an_alias() -> None:
    words = registry.names_and_aliases()
    assert len(words) == len(set(words))


def test_an_alias_is_the_network_that_it_stands_for() -> None:
    assert registry.get('vgg16') is registry.get('vgg_16')


@pytest.mark.parametrize('name', sorted(registry._NOT_THE_SAME))
def test_another_programs_network_is_refused_with_one_that_exists_here(name: str) -> None:
    with pytest.raises(UsageError) as refusal:
        registry.get(name)
    assert str(refusal.value).endswith(f'The nearest here is {registry._NOT_THE_SAME[name][0]}.')
    assert registry.get(registry._NOT_THE_SAME[name][0])


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='Did you mean inception_v3'):
        registry.get('inception-v3')


def test_a_pattern_finds_names_and_aliases() -> None:
    assert 'resnet_v1_50' in [network.name for network in registry.matching('resnet*')]
    assert [network.name for network in registry.matching('vgg16')] == ['vgg_16']
    assert registry.matching('nothing*') == []
