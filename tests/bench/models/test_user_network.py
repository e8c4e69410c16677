"""A user's own network in a file: found, timed and repeated, and what is said of a file that cannot be used."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from program import ROOT, run

from bench.errors import BenchError, UsageError
from bench.models import registry
from bench.models.build import build
from bench.models.slim import slim
from bench.runners import inference

IMPORT = 'from bench.models.registry import register\n'
TINY = (
    IMPORT
    + """
@register('tiny', image_size=8, batch_size=4)
def tiny(net, images):
    x = net.conv(images, 2, 3, 'conv', stride=2)
    return net.dense(net.flatten(x), net.num_classes, 'logits', activation=None)
"""
)
OTHER = "\n@register('other', image_size=8)\ndef other(net, images): ...\n"


def program(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program as a process in that folder."""
    return run(*words, cwd=folder, PYTHONDONTWRITEBYTECODE='1')


def refusal(word: str) -> str:
    with pytest.raises(UsageError) as error:
        registry.get(word)
    (problem,) = error.value.problems
    return problem


def test_the_readmes_example_runs_as_it_is_printed(tmp_path: Path) -> None:
    section = (ROOT / 'README.md').read_text().partition('\n## Time a network of your own\n')[2].partition('\n## ')[0]
    (code,) = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in section.splitlines() if line.startswith('    ./run_')]
    file = next(word.partition('=')[2] for word in commands[0] if word.startswith('--model='))
    (tmp_path / file).write_text(code)
    for command in commands:
        done = program(tmp_path, *command[1:])
        assert done.returncode == 0, done.stderr
        assert 'total images/sec' in done.stdout
    assert len(code.rstrip().splitlines()) <= 10
    assert len(list((tmp_path / 'results').iterdir())) == len(commands) > 1


@pytest.mark.slow
def test_a_record_of_an_own_network_repeats_its_run(tmp_path: Path) -> None:
    (tmp_path / 'nets').mkdir()
    (tmp_path / 'nets' / 'mine.py').write_text(TINY + OTHER)
    first = program(tmp_path, '--model=nets/mine.py:tiny', '--num_warmup_batches=0', '--num_batches=2', '--json')
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    assert record['config']['network']['model'] == 'nets/mine.py:tiny'
    assert (record['images_per_step'], record['config']['network']['image_size']) == (4, 8)
    # 4 * 4 * 2 results of 3 * 3 * 3 products, 1001 of 32.
    assert record['work']['multiply_adds_per_image'] == 32 * 27 + 1001 * 32
    (path,) = (tmp_path / 'results').iterdir()
    assert path.name.startswith('nets_mine_tiny_train_nhwc_fp32_b4_')
    again = program(tmp_path, *shlex.split(record['repeat'])[1:])
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)['config'] == record['config']


def test_an_own_network_is_frozen_for_inference(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(TINY)
    done = program(tmp_path, '--model=mine.py', '--forward_only', '--num_warmup_batches=0', '--num_batches=2')
    assert done.returncode == 0, done.stderr
    assert 'mine.py:tiny, inference' in done.stdout


def test_functions_and_the_batchs_own_statistics_are_frozen_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / 'own.py'
    file.write_text(
        'import tensorflow.compat.v1 as tf\n'
        + IMPORT
        + "@register('own', image_size=8)\ndef own(net, images):\n"
        + "    x = tf.nn.conv2d(images, tf.get_variable('w', [3, 3, 3, 4]), 2, 'SAME')\n"
        + '    x, _, _ = tf.nn.fused_batch_norm(x, tf.ones(4), tf.ones(4), is_training=True)\n'
        + '    x = tf.cond(tf.reduce_mean(x) > 100, lambda: x, lambda: x + 1)\n'
        + "    return net.dense(tf.reduce_mean(x, [1, 2]), 10, 'logits', activation=None)\n"
    )
    pictures = np.random.RandomState(1).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, pictures.shape, 'images')
        logits = build(registry.get(str(file)), images, num_classes=10).logits
        session.run(tf.global_variables_initializer())
        wanted = session.run(logits, {images: pictures})
        name = logits.op.name
        frozen = inference.fold_batch_norms(inference.freeze(session, name), name)
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(inference.attach(frozen, 'images', tf.constant(pictures), name))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_own_networks_do_not_mix_with_the_programs(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(TINY)
    (tmp_path / 'also.py').write_text(TINY)
    before = registry.names_and_aliases()
    network = registry.get(f'{tmp_path}/mine.py')
    assert network.name == f'{tmp_path}/mine.py:tiny'
    assert registry.get(network.name) == network
    assert registry.get(f'{tmp_path}/also.py:tiny').name == f'{tmp_path}/also.py:tiny'
    assert (network.parameters, network.multiply_adds) == (None, None)
    assert registry.names_and_aliases() == before


def test_a_file_that_holds_several_networks_asks_for_one(tmp_path: Path) -> None:
    file = tmp_path / 'two.py'
    file.write_text(TINY + OTHER)
    told = refusal(str(file))
    assert told.endswith(f'the file registers several networks. Name one: {file}:tiny, {file}:other.')
    assert registry.get(f'{file}:other').name == f'{file}:other'
    assert refusal(f'{file}:third').endswith('the file registers no third. It registers tiny, other.')


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        (IMPORT + 'import numpyy\n', "ModuleNotFoundError in line 2: No module named 'numpyy'."),
        ('x = 1\n\ndef broken(:\n', 'SyntaxError in line 3: invalid syntax.'),
        (IMPORT + 'def f():\n    return 1 / 0\nf()\n', 'ZeroDivisionError in line 3: division by zero.'),
        (IMPORT + '\n@register("tiny")\ndef tiny(net, images): ...\n', 'TypeError in line 3: '),
        (IMPORT + OTHER + OTHER, 'ValueError in line 6: two networks are called other.'),
        (TINY.replace('size=8', "size='8'"), "image_size='8', and a whole number from 1 on is expected."),
        (TINY.replace('batch_size=4', "data_formats='NHWC'"), "data_formats='NHWC', and some of ('NHWC', 'NCHW') are"),
        (TINY.replace('image_size=8', "image_size=8, parameters='1M'"), "parameters='1M', and a whole number or None"),
        (TINY.replace('image_size=8', 'image_size=8, multiply_adds=0.5'), 'multiply_adds=0.5, and a whole number or'),
        (TINY.replace('image_size=8', "image_size=8, aliases='ab'"), "aliases='ab', and a list such as ['other'] is"),
        (TINY.replace('image_size=8', "image_size=8, preprocessing='no'"), "preprocessing='no', and one of cifarnet,"),
        (TINY.replace('image_size=8', 'image_size=8, least_image_size=9'), 'least_image_size=9 is above image_size=8.'),
        (TINY.replace("'tiny'", '5'), 'name=5, and a text is expected.'),
        (TINY.replace("'tiny'", "''"), "name='', and a text is expected."),
        (TINY.replace('image_size=8', "image_size=8, aliases=['vgg16']"), 'vgg16 is the name of a network of this'),
        (TINY.replace('image_size=8', "image_size=8, aliases=['other']") + OTHER, 'networks are called other, by name'),
        ('import sys\nsys.exit("no")\n', 'SystemExit in line 2: no.'),
        ('x = 1\n', "the file registers no network. Write @register('name', image_size=224) before its function."),
        (IMPORT + OTHER.replace('other', 'vgg_16'), 'vgg_16 is the name of a network of this program. Choose another'),
        (IMPORT + OTHER.replace('other', 'inception3'), 'inception3 is the name of a network of this program.'),
        (None, 'there is no such file.'),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence_with_its_line(
    tmp_path: Path, text: str | None, told: str
) -> None:
    file = tmp_path / 'own.py'
    if text:
        file.write_text(text)
    problem = refusal(str(file))
    assert problem.startswith(f'--model={file}: ')
    assert told in problem
    assert '\n' not in problem


def test_a_wrong_file_is_wrong_usage_told_with_all_else_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / 'own.py').write_text('import nothing_of_the_kind\n')
    done = program(tmp_path, '--model=own.py:net', '--batch_size=0')
    assert done.returncode == 2
    assert '--model=own.py: the file fails with ModuleNotFoundError in line 1' in done.stderr
    assert '--batch_size=0' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
    ('body', 'told'),
    [
        ('return net.konv(images, 2, 3)', "AttributeError in line 7: 'Layers' object has no attribute 'konv'"),
        ('return images', 'gives a tensor of the shape [2, 8, 8, 3] in float32; logits of the shape [2, 5] in'),
        ('pass', 'gives None; logits of the shape [2, 5] in float32 are expected'),
        ('return np.zeros([2, 5])', 'gives an object of the type ndarray; logits'),
        ('return tf.zeros([2, 5], tf.float16)', 'gives a tensor of the shape [2, 5] in float16; logits'),
        ("return 1 * tf.get_variable('a', [2, 5])", 'gives logits that do not depend on the images'),
        (
            'return tf.reduce_mean(images, [1, 2, 3], keepdims=True)[:, :, 0, 0] * tf.ones([1, 5])',
            'has no variables, and so',
        ),
        ('return tf.py_func(lambda: 0, [], tf.float32)', 'gives a tensor of the shape unknown in float32; logits'),
        (
            'net.aux_logits.append(images); return tf.zeros([2, 5])',
            'gives a tensor of the shape [2, 8, 8, 3] in float32',
        ),
        ('raise SystemExit(0)', 'fails with SystemExit in line 7: 0.'),
        ('return net.dense(net.flatten(images), 5)', 'TypeError in line 7: '),
    ],
)
def test_a_function_that_fails_or_gives_no_logits_is_told_with_its_line(tmp_path: Path, body: str, told: str) -> None:
    file = tmp_path / 'own.py'
    imports = f'import numpy as np\nimport tensorflow.compat.v1 as tf\n{IMPORT}'
    file.write_text(f"{imports}\n@register('mine', image_size=8)\ndef mine(net, images):\n    {body}\n")
    with tf.Graph().as_default(), pytest.raises(BenchError) as error:
        build(registry.get(str(file)), tf.zeros([2, 8, 8, 3]), num_classes=5, is_training=True)
    assert told in str(error.value)
    assert str(error.value).startswith(f'{file}:mine ')


def test_what_an_own_network_makes_by_tensorflow_itself_is_in_checkpoints_and_averages(tmp_path: Path) -> None:
    (tmp_path / 'own.py').write_text(
        f'import tensorflow.compat.v1 as tf\n{IMPORT}'
        "@register('mixed', image_size=8)\n"
        'def mixed(net, images):\n'
        "    x = tf.get_variable('scale', [8, 8, 3]) * images\n"
        "    x = net.flatten(x + tf.Variable(tf.zeros([3]), trainable=False, name='shift'))\n"
        "    tf.get_variable('counter', [], tf.int64, trainable=False)\n"
        "    return net.dense(x, net.num_classes, 'logits')\n"
    )
    with tf.Graph().as_default():
        tf.get_variable('not_of_it', [])
        build(registry.get(str(tmp_path / 'own.py')), tf.zeros([2, 8, 8, 3]), num_classes=5)
        found = sorted(variable.op.name for variable in slim.get_model_variables())
    assert found == ['logits/biases', 'logits/weights', 'scale', 'shift']


def test_an_alias_of_an_own_network_names_it(tmp_path: Path) -> None:
    file = tmp_path / 'own.py'
    file.write_text(TINY.replace('image_size=8', "image_size=8, aliases=['small']") + OTHER)
    assert registry.get(f'{file}:small') == registry.get(f'{file}:tiny')


def test_what_lies_beside_an_own_network_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'path', [*sys.path])
    (tmp_path / 'early_beside_own.py').write_text('SIZE = 9\n')
    (tmp_path / 'late_beside_own.py').write_text(
        'def logits(net, images): return net.dense(net.flatten(images), 5, "d")\n'
    )
    file = tmp_path / 'own.py'
    file.write_text(
        f'from early_beside_own import SIZE\n{IMPORT}'
        "@register('own', image_size=SIZE)\ndef own(net, images):\n"
        '    import late_beside_own\n    return late_beside_own.logits(net, images)\n'
    )
    network = registry.get(str(file))
    assert network.image_size == 9
    with tf.Graph().as_default():
        assert build(network, tf.zeros([2, 9, 9, 3]), num_classes=5).logits.shape == [2, 5]


def test_a_file_that_imports_tensorflow_at_its_top_brings_none_of_its_chatter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL', raising=False)
    (tmp_path / 'own.py').write_text('import tensorflow\n' + TINY)
    done = program(tmp_path, 'models', 'own.py')
    assert done.returncode == 0
    assert done.stderr == ''


def test_a_network_that_fails_leaves_a_record_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / 'own.py').write_text(TINY.replace('net.flatten(x)', 'net.flaten(x)'))
    done = program(tmp_path, '--model=own.py')
    assert done.returncode == 1
    assert "error: own.py:tiny fails with AttributeError in line 6: 'Layers' object" in done.stderr
    assert 'Traceback' not in done.stderr
    (path,) = (tmp_path / 'results').iterdir()
    assert json.loads(path.read_text())['ended']['status'] == 'failed'


def test_clones_share_what_an_own_network_makes_or_it_is_refused(tmp_path: Path) -> None:
    made = "net.dense(net.flatten(images), 10, 'logits', activation=None) * "
    file = tmp_path / 'own.py'
    file.write_text(
        'import tensorflow.compat.v1 as tf\n'
        + IMPORT
        + "@register('shared', image_size=8)\ndef shared(net, images):\n"
        + f"    return {made}tf.get_variable('a', [])\n"
        + "@register('own', image_size=8)\ndef own(net, images):\n"
        + f"    return {made}tf.Variable(1.0, name='b')\n"
    )
    for name in ('shared', 'own'):
        network = registry.get(f'{file}:{name}')
        with tf.Graph().as_default():
            build(network, tf.zeros([2, 8, 8, 3]), num_classes=10)
            with tf.variable_scope(tf.get_variable_scope(), reuse=True):
                if name == 'shared':
                    build(network, tf.zeros([2, 8, 8, 3]), num_classes=10)
                    assert len(tf.global_variables()) == 3
                else:
                    with pytest.raises(BenchError, match=r'copy of b_1 for each clone.*--num_clones'):
                        build(network, tf.zeros([2, 8, 8, 3]), num_classes=10)
