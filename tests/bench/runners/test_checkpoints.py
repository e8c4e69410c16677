"""The whole program with checkpoints: what it computes with their weights, and what it refuses."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from program import command, run, the_record
from saved import CLASSES, Values, network, pack, save

from bench.data import synthetic
from bench.models import registry
from bench.models.build import build
from bench.models.slim import slim


def inference_loss(model: str, values: Values, classes: int, seed: int, batch: int) -> float:
    """The loss of a network with these values on synthetic images, by itself: not frozen, no restoring."""
    found = registry.get(model)
    with tf.Graph().as_default(), tf.Session() as session:
        images, labels = synthetic.batch(
            batch_size=batch,
            image_size=found.image_size,
            channels=found.channels,
            num_classes=classes,
            data_format='NHWC',
            seed=seed,
        )
        logits = build(found, images, num_classes=classes).logits
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        for variable in slim.get_model_variables():
            variable.load(values[variable.op.name], session)
        return float(session.run(loss))


def test_inference_computes_with_an_archives_weights_and_the_record_names_it(tmp_path: Path) -> None:
    values = save(tmp_path / 'saved', 'mobilenet.ckpt', version=1, model='mobilenet_v1_025', classes=20)
    archive = pack(tmp_path / 'mobilenet.tar.gz', {'mobilenet.ckpt': tmp_path / 'saved' / 'mobilenet.ckpt'})
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    common = ('--num_warmup_batches=0', '--num_batches=1')
    words = ('--model=mobilenet_v1_025', '--batch_size=4', '--num_classes=20', f'--checkpoint_path={archive}')
    done = run(*words, *common, '--forward_only', f'--result_dir={tmp_path / "results"}', TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    first = the_record(tmp_path / 'results')
    wanted = inference_loss('mobilenet_v1_025', values, classes=20, seed=1234, batch=4)
    assert first['workers'][0]['losses'][0] == pytest.approx(wanted, rel=1e-4)
    assert first['config']['checkpoint']['checkpoint_path'] == str(archive)
    assert f'--checkpoint_path={archive}' in shlex.split(first['repeat'])
    assert list(temporary.iterdir()) == []


def test_training_begins_with_a_folders_weights_and_counts_every_clones_images(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        network()
        session.run(tf.global_variables_initializer())
        # Logits that are the biases alone, whatever the images and whatever dropout does.
        values = {variable.op.name: variable for variable in tf.trainable_variables()}
        values['LeNet/fc4/weights'].load(np.zeros(values['LeNet/fc4/weights'].shape), session)
        biases = np.linspace(-2, 2, CLASSES)
        values['LeNet/fc4/biases'].load(biases, session)
        (tmp_path / 'saved').mkdir()
        tf.train.Saver(tf.global_variables()).save(session, str(tmp_path / 'saved' / 'model.ckpt-7'))
        _, labels = synthetic.batch(
            batch_size=8, image_size=28, channels=1, num_classes=CLASSES, data_format='NHWC', seed=1234
        )
        session.run(tf.local_variables_initializer())
        seen = session.run(labels)
    wanted = np.log(np.exp(biases).sum()) - biases[seen].mean()
    words = (
        '--model=lenet',
        '--batch_size=4',
        '--num_clones=2',
        f'--num_classes={CLASSES}',
        '--weight_decay=0',
        '--learning_rate=0.00001',
    )
    where = (f'--checkpoint_path={tmp_path / "saved"}', f'--result_dir={tmp_path / "results"}')
    done = run(*words, *where, '--num_warmup_batches=0', '--num_batches=2')
    assert done.returncode == 0, done.stderr
    found = the_record(tmp_path / 'results')
    losses, seconds = (found['workers'][0][name] for name in ('losses', 'step_seconds'))
    assert losses[0] == pytest.approx(wanted, rel=1e-5)
    assert losses[1] < losses[0]
    assert found['images_per_step'] == 8
    assert found['throughput']['images_per_second'] == pytest.approx(16 / sum(seconds))
    assert '2 clones of batch 4' in done.stdout


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--checkpoint_path=/no/such/vgg_16.ckpt'], ['--checkpoint_path=/no/such/vgg_16.ckpt', 'no such checkpoint']),
        (['--checkpoint_path=/proc'], ['/proc', 'holds no checkpoint']),
        (['--checkpoint_exclude_scopes=x'], ['--checkpoint_exclude_scopes has no effect without --checkpoint_path']),
        (['--ignore_missing_vars'], ['--ignore_missing_vars has no effect without --checkpoint_path']),
        (['--forward_only', '--moving_average_decay=0.9'], ['--moving_average_decay has no effect']),
        (['--forward_only', '--trainable_scopes=x'], ['--trainable_scopes has no effect']),
        (['--forward_only', '--num_clones=2'], ['--num_clones has no effect']),
        (['--model=lenet', '--trainable_scopes=LeNet/fc9', '--batch_size=2'], ['LeNet/fc9', 'Did you mean LeNet/fc']),
    ],
)
def test_wrong_usage_is_refused_with_status_2(words: list[str], told: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2, done.stderr
    for text in told:
        assert text in done.stderr
    assert 'Traceback' not in done.stderr


def test_the_program_tells_the_number_of_classes_and_of_a_damaged_file(tmp_path: Path) -> None:
    save(tmp_path / 'saved')
    path = tmp_path / 'saved' / 'lenet.ckpt'
    done = run('--model=lenet', f'--checkpoint_path={path}', f'--result_dir={tmp_path / "results"}')
    assert (done.returncode, done.stdout) == (2, '')
    assert f'{path} has 10 classes, and this run 1001: give --num_classes=10' in done.stderr
    os.truncate(tmp_path / 'saved' / 'lenet.ckpt.data-00000-of-00001', 1000)
    words = ('--model=lenet', f'--num_classes={CLASSES}', f'--checkpoint_path={path}')
    done = run(*words, f'--result_dir={tmp_path / "results"}')
    assert done.returncode == 1
    assert f'error: {path} cannot be read as a checkpoint' in done.stderr
    assert 'Traceback' not in done.stderr
    assert the_record(tmp_path / 'results')['ended']['status'] == 'failed'


def test_a_run_that_is_stopped_while_it_unpacks_leaves_no_files(tmp_path: Path) -> None:
    archive = pack(tmp_path / 'large.tar.gz', {'large.ckpt': bytes(100_000_000)})
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    words = command('--model=lenet', f'--checkpoint_path={archive}', f'--result_dir={tmp_path / "results"}')
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env={**os.environ, 'TMPDIR': str(temporary)}, stdout=pipe, stderr=pipe) as process:
        end = time.monotonic() + 120
        while not list(temporary.glob('tf-bench-*/*')) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 1
    assert list(temporary.iterdir()) == []
