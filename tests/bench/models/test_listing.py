"""The command `models`: what people see of the networks, and what programs do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.config import ModelsConfig
from bench.errors import UsageError
from bench.machine import capabilities
from bench.models import listing, registry


def printed(capsys: pytest.CaptureFixture[str], pattern: str = '*', *, as_json: bool = False) -> str:
    assert listing.run(ModelsConfig(pattern=pattern, json=as_json), []) == 0
    return capsys.readouterr().out


def test_the_table_stays_readable_in_120_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert max(len(line) for line in lines) <= 120
    head, *rows = lines[:-2]
    assert len(rows) == len(registry.all_networks())
    # Columns of figures end where their headings end, whatever is in them.
    for heading in ('image', 'parameters', 'multiply-adds', 'batch', 'top-1', 'top-5', 'at'):
        end = head.index(f' {heading}') + len(heading) + 1
        assert {row[end - 1] for row in rows} <= set('0123456789MG-')
        assert {row[end : end + 1] for row in rows} <= {' ', ''}


def test_a_row_tells_what_was_published(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in printed(capsys).splitlines()}
    assert rows['vgg_16'] == ['vgg16', '224', '138.36', 'M', '15.470', 'G', '8', '71.5', '89.8', '224']
    assert rows['resnet_v2_50'][-4:] == ['16', '75.6', '92.8', '299']
    assert rows['mobilenet_v3_small'][-3:] == ['67.5', '-', '224']
    assert rows['mobilenet_edgetpu'][-3:] == ['-', '-', '-']
    assert rows['cifarnet'][-3:] == ['-', '-', '-']


def test_json_tells_programs_the_same_and_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    (vgg,) = json.loads(printed(capsys, 'vgg_16', as_json=True))
    assert vgg == {
        'name': 'vgg_16',
        'aliases': ['vgg16'],
        'image_size': 224,
        'channels': 3,
        'parameters': 138_361_641,
        'multiply_adds': 15_470_268_416,
        'batch_size': 8,
        'data_formats': ['NHWC', 'NCHW'],
        'top_1': 71.5,
        'top_5': 89.8,
        'accuracy_image_size': 224,
        'checkpoint': {
            'archive': 'vgg_16_2016_08_28.tar.gz',
            'address': 'http://download.tensorflow.org/models/vgg_16_2016_08_28.tar.gz',
            'num_classes': 1000,
        },
    }
    (lenet,) = json.loads(printed(capsys, 'lenet', as_json=True))
    assert (lenet['top_1'], lenet['checkpoint']) == (None, None)
    (paper,) = json.loads(printed(capsys, 'resnet_v2_200', as_json=True))
    assert (paper['top_1'], paper['accuracy_image_size'], paper['checkpoint']) == (79.9, 320, None)


@pytest.mark.parametrize(
    ('pattern', 'told'),
    [
        ('resnet50', 'so their speeds do not compare. The nearest here is resnet_v1_50.'),
        ('googlenet', 'The nearest here is inception_v1.'),
        ('VGG_16', 'there is no such network. Did you mean vgg_16?'),
        ('keras/resnet50', 'there is no such network. Did you mean keras/ResNet50?'),
        ('0815', 'there is no such network. `run_benchmark.py models` lists them.'),
    ],
)
def test_a_name_that_is_not_listed_is_told_as_model_tells_it(pattern: str, told: str) -> None:
    (problem,) = ModelsConfig(pattern=pattern).problems(capabilities.detect)
    assert problem.startswith(f"models '{pattern}': ")
    assert problem.endswith(told)
    with pytest.raises(UsageError) as error:
        registry.get(pattern)
    assert error.value.problems == (problem.replace(f"models '{pattern}'", f'--model={pattern}'),)


def test_a_users_own_file_is_listed_with_what_is_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / 'own.py'
    file.write_text(
        'from bench.models.registry import register\n'
        "@register('mine', image_size=64)\ndef mine(net, images): ...\n"
        "@register('counted', image_size=32, parameters=2_500_000)\ndef counted(net, images): ...\n"
    )
    rows = [line.split() for line in printed(capsys, str(file)).splitlines()[1:-2]]
    assert rows == [
        [f'{file}:mine', '64', '-', '-', '16', '-', '-', '-'],
        [f'{file}:counted', '32', '2.50', 'M', '-', '16', '-', '-', '-'],
    ]
    networks = json.loads(printed(capsys, f'{file}:mine', as_json=True))
    assert [(network['name'], network['parameters']) for network in networks] == [(f'{file}:mine', None)]
