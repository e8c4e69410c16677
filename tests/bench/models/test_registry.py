"""Which names are known, and what is said of those that are not."""

from __future__ import annotations

import re
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


# Every name that tf_cnn_benchmarks' models/model_config.py takes, for any of its data sets, and the network that it is
# here; None where it is refused. `lenet` and `overfeat` are slim's names too, of networks with other channels.
_TF_CNN_BENCHMARKS = {
    'alexnet': None,
    'deepspeech2': None,
    'densenet100_k12': None,
    'densenet100_k24': None,
    'densenet40_k12': None,
    'googlenet': None,
    'inception3': 'inception_v3',
    'inception4': 'inception_v4',
    'lenet': 'lenet',
    'mobilenet': None,
    'nasnet': None,
    'nasnetlarge': None,
    'ncf': None,
    'official_resnet101': None,
    'official_resnet101_v2': None,
    'official_resnet152': None,
    'official_resnet152_v2': None,
    'official_resnet18': None,
    'official_resnet18_v2': None,
    'official_resnet200': None,
    'official_resnet200_v2': None,
    'official_resnet34': None,
    'official_resnet34_v2': None,
    'official_resnet50': 'resnet_v1.5_50',
    'official_resnet50_v2': None,
    'overfeat': 'overfeat',
    'resnet101': None,
    'resnet101_v2': None,
    'resnet110': None,
    'resnet110_v2': None,
    'resnet152': None,
    'resnet152_v2': None,
    'resnet20': None,
    'resnet20_v2': None,
    'resnet32': None,
    'resnet32_v2': None,
    'resnet44': None,
    'resnet44_v2': None,
    'resnet50': None,
    'resnet50_v1.5': 'resnet_v1.5_50',
    'resnet50_v2': None,
    'resnet56': None,
    'resnet56_v2': None,
    'ssd300': None,
    'trivial': 'trivial',
    'vgg11': 'vgg_a',
    'vgg16': 'vgg_16',
    'vgg19': 'vgg_19',
}
_NOTHING_LIKE_IT = ('deepspeech2', 'ncf', 'ssd300')


@pytest.mark.parametrize('name', sorted(_TF_CNN_BENCHMARKS))
def test_every_name_of_tf_cnn_benchmarks_is_the_same_network_or_refused_with_the_nearest(name: str) -> None:
    same = _TF_CNN_BENCHMARKS[name]
    if same:
        assert registry.get(name).name == same
        return
    with pytest.raises(UsageError) as refusal:
        registry.get(name)
    assert str(refusal.value).startswith(f'--model={name}: ')
    if name in _NOTHING_LIKE_IT:
        assert str(refusal.value).endswith('the networks here classify images. `run_benchmark.py models` lists them.')
        return
    told = re.fullmatch(r'.+, so their speeds do not compare\. The nearest here is (\S+)\.', str(refusal.value))
    assert told
    assert registry.get(told[1]).name == told[1]


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='Did you mean inception_v3'):
        registry.get('inception-v3')


@pytest.mark.parametrize(
    ('word', 'told'),
    [
        ('resnet_50', 'Did you mean resnet_v1_50?'),
        ('resnet', 'Did you mean resnet_v1_50?'),
        ('ResNet*', 'Did you mean resnet*?'),
        ('keras/Foo', "`run_benchmark.py models 'keras/*'` lists them."),
        ('keras/EffNetB0', 'Did you mean keras/EfficientNetB0?'),
    ],
)
def test_a_hint_names_no_variant_and_nothing_that_is_unlike(word: str, told: str) -> None:
    assert registry.absent(word) == f'there is no such network. {told}'


def test_a_pattern_finds_names_and_aliases() -> None:
    assert 'resnet_v1_50' in [network.name for network in registry.matching('resnet*')]
    assert [network.name for network in registry.matching('vgg16')] == ['vgg_16']
    assert registry.matching('nothing*') == []


def test_a_network_of_keras_is_found_by_its_class() -> None:
    assert registry.get('keras/ResNet50').name == 'keras/ResNet50'
    with pytest.raises(UsageError, match='Did you mean keras/EfficientNetB0'):
        registry.get('EfficientNetB0')
