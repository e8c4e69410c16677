"""Variables that a checkpoint gives: which are restored, and what is told of one that does not fit or is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf
from saved import assert_equal, network, pack, restored, save

from bench.errors import DataError, UsageError
from bench.models.slim import slim
from bench.options import CheckpointOptions
from bench.training import checkpoint_files, checkpoints


def test_moving_averages_are_restored_when_they_are_asked_for(tmp_path: Path) -> None:
    values = save(tmp_path, averages=True)
    plain = {name: value for name, value in values.items() if 'Average' not in name}
    averages = {name: values[f'{name}/ExponentialMovingAverage'] for name in plain}
    assert_equal(restored(tmp_path), plain)
    assert_equal(restored(tmp_path, averages=True), averages)
    assert any((averages[name] != plain[name]).any() for name in plain)


def test_a_checkpoint_without_what_was_asked_for_is_not_taken_for_another_networks(tmp_path: Path) -> None:
    variables = save(tmp_path / 'without')
    with pytest.raises(UsageError, match=r'holds variables, and no moving averages.*Leave --moving_average_decay out'):
        restored(tmp_path / 'without', averages=True)
    with tf.Graph().as_default(), tf.Session() as session:
        network()
        averages = {f'{v.op.name}/ExponentialMovingAverage': v for v in tf.trainable_variables()}
        session.run([variable.assign(variables[variable.op.name]) for variable in averages.values()])
        tf.train.Saver(averages).save(session, str(tmp_path / 'alone' / 'lenet.ckpt'))
    assert_equal(restored(tmp_path / 'alone', averages=True), variables)
    with pytest.raises(UsageError, match=r'and not the variables: --forward_only --moving_average_decay=0\.9999'):
        restored(tmp_path / 'alone')
    with pytest.raises(UsageError, match=r'holds none of the variables.*Give its own network with --model'):
        restored(tmp_path / 'without', averages=True, model='cifarnet')


def test_excluded_scopes_and_missing_variables_begin_anew(tmp_path: Path) -> None:
    values = save(tmp_path)
    got = restored(tmp_path, checkpoint_exclude_scopes='LeNet/fc4, LeNet/conv1/w')
    anew = {name for name in values if (got[name] != values[name]).any()}
    assert anew == {'LeNet/fc4/weights', 'LeNet/fc4/biases', 'LeNet/conv1/weights'}
    with pytest.raises(UsageError, match=r'LeNet/fc9\. Did you mean LeNet/fc'):
        restored(tmp_path, checkpoint_exclude_scopes='LeNet/fc9')
    with pytest.raises(UsageError, match='leaves nothing to restore'):
        restored(tmp_path, checkpoint_exclude_scopes='LeNet')


def test_variables_that_a_checkpoint_lacks_are_named_or_ignored(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        network()
        session.run(tf.global_variables_initializer())
        some = [variable for variable in tf.trainable_variables() if 'fc' not in variable.op.name]
        tf.train.Saver(some).save(session, str(tmp_path / 'lenet.ckpt'))
        values = {variable.op.name: session.run(variable) for variable in some}
    with pytest.raises(UsageError, match=r'lacks 4 .*LeNet/fc3/weights.* and 1 more.*--ignore_missing_vars'):
        restored(tmp_path)
    got = restored(tmp_path, ignore_missing_vars=True)
    assert_equal({name: got[name] for name in values}, values)


def test_another_number_of_classes_is_told_with_the_flags_that_help(tmp_path: Path) -> None:
    values = save(tmp_path, classes=12)
    with pytest.raises(UsageError, match='has 12 classes, and this run 10: give --num_classes=12') as told:
        restored(tmp_path)
    flag = '--checkpoint_exclude_scopes='
    exclude = str(told.value).partition(flag)[2].rstrip('.')
    got = restored(tmp_path, checkpoint_exclude_scopes=exclude)
    others = {name for name in values if values[name].shape != got[name].shape}
    assert others == {'LeNet/fc4/weights', 'LeNet/fc4/biases'}
    assert_equal(restored(tmp_path, classes=12), values)


def test_a_checkpoint_of_another_network_is_told_with_where_its_variables_are(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(UsageError, match=r'such as CifarNet/conv1/weights; its own are in LeNet\. Give .* --model'):
        restored(tmp_path, model='cifarnet')
    save(tmp_path / 'wide', model='mobilenet_v1_025')
    with pytest.raises(UsageError, match=r'other shapes.*instead of \[3, 3, 3, 24\].* more\. Give'):
        restored(tmp_path / 'wide', model='mobilenet_v1_075')


def test_a_worker_has_its_checkpoint_read_by_the_servers_that_have_the_variables(tmp_path: Path) -> None:
    save(tmp_path)
    servers = tf.train.replica_device_setter(ps_tasks=2, worker_device='/job:worker/task:1/cpu:0')
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'), tf.device(servers):
        network()
        with checkpoint_files.opened(str(tmp_path)) as checkpoint:
            checkpoints.restore(checkpoint, CheckpointOptions(str(tmp_path)), averages=False)
        variables = slim.get_model_variables()
        assert {tf.DeviceSpec.from_string(variable.device).job for variable in variables} == {'ps'}
        reading = [operation for operation in graph.get_operations() if operation.type == 'RestoreV2']
        assert len(reading) == len(variables) == 8
        for each in reading:
            place = tf.DeviceSpec.from_string(each.device)
            assert (place.job, place.task) == ('worker', 1)
        initializers = [variable.initializer for variable in variables]
        assert {tf.DeviceSpec.from_string(each.device).job for each in initializers} == {'ps'}


def own(folder: Path, body: str) -> str:
    """A network of a user's own, whose function has that body, as --model names it."""
    (folder / 'own.py').write_text(
        'import tensorflow.compat.v1 as tf\nfrom bench.models.registry import register\n'
        f"@register('own', image_size=4)\ndef own(net, images):\n    {body}\n"
    )
    return str(folder / 'own.py')


def test_variables_that_an_own_network_makes_by_tensorflow_itself_are_restored(tmp_path: Path) -> None:
    model = own(tmp_path, "return net.dense(net.flatten(images * tf.get_variable('w', [3])), net.num_classes, 'd')")
    values = save(tmp_path / 'saved', averages=True, model=model)
    plain = {name: value for name, value in values.items() if 'Average' not in name}
    assert 'w' in plain
    assert_equal(restored(tmp_path / 'saved', model=model), plain)
    averages = {name: values[f'{name}/ExponentialMovingAverage'] for name in plain}
    assert_equal(restored(tmp_path / 'saved', model=model, averages=True), averages)


def test_a_network_without_variables_is_not_blamed_on_a_flag_that_was_not_given(tmp_path: Path) -> None:
    save(tmp_path)
    model = own(tmp_path, 'return tf.zeros([images.shape[0], net.num_classes]) + tf.reduce_mean(images)')
    with pytest.raises(UsageError, match='checkpoint_path: this network has no variables; leave it out'):
        restored(tmp_path, model=model)


def test_a_checkpoint_in_another_type_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        network()
        wide = {v.op.name: tf.Variable(tf.zeros(v.shape, tf.float64)) for v in tf.trainable_variables()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(wide).save(session, str(tmp_path / 'lenet.ckpt'))
    with pytest.raises(UsageError, match=r'LeNet/conv1/weights in float64 instead of float32.* and 5 more. Convert'):
        restored(tmp_path)


@pytest.mark.parametrize(
    ('version', 'file', 'kept'),
    [
        (1, 'lenet.ckpt', 0.5),
        (1, 'lenet.ckpt', 0.0),
        (2, 'lenet.ckpt.index', 0.5),
        (2, 'lenet.ckpt.data-00000-of-00001', 0.5),
        (2, 'lenet.ckpt.data-00000-of-00001', 0.0),
    ],
)
def test_a_truncated_checkpoint_is_named(tmp_path: Path, version: int, file: str, kept: float) -> None:
    save(tmp_path, version=version)
    os.truncate(tmp_path / file, int((tmp_path / file).stat().st_size * kept))
    with pytest.raises(DataError, match=rf'{tmp_path}/lenet\.ckpt cannot be read as a checkpoint: .* get it again'):
        restored(tmp_path / 'lenet.ckpt')


def test_a_file_that_is_missing_from_a_folder_or_an_archive_is_told_by_its_own_name(tmp_path: Path) -> None:
    folder, missing = tmp_path / 'saved', 'lenet.ckpt.data-00000-of-00001'
    save(folder)
    (folder / missing).unlink()
    archive = pack(tmp_path / 'lenet.tgz', {'v1/lenet.ckpt.index': folder / 'lenet.ckpt.index'})
    for path, told in ((folder, folder / missing), (archive, archive / 'v1' / missing)):
        with pytest.raises(DataError, match=f'^{path} cannot be read as a checkpoint: {told}; No such file'):
            restored(path)


@pytest.mark.parametrize(('version', 'file'), [(1, 'lenet.ckpt'), (2, 'lenet.ckpt.data-00000-of-00001')])
def test_a_flipped_bit_is_noticed(tmp_path: Path, version: int, file: str) -> None:
    save(tmp_path, version=version)
    content = bytearray((tmp_path / file).read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=r'lenet\.ckpt cannot be read as a checkpoint'):
        restored(tmp_path / 'lenet.ckpt')
