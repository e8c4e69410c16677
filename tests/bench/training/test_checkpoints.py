"""Checkpoints as slim's page offers them and as training leaves them: found, unpacked, restored, refused in words."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bench.data import synthetic
from bench.errors import DataError, UsageError
from bench.models import registry
from bench.models.build import build
from bench.models.slim import slim
from bench.options import CheckpointOptions
from bench.training import checkpoint_files, checkpoints

ROOT = Path(__file__).parents[3]
CLASSES = 10
# A variable's name to its value.
Values = dict[str, np.ndarray]


def network(model: str = 'lenet', classes: int = CLASSES) -> Any:
    """Builds a small network for inference in the current graph and gives its logits."""
    found = registry.get(model)
    images = tf.placeholder(tf.float32, [2, found.image_size, found.image_size, found.channels], 'images')
    return build(found, images, num_classes=classes).logits


def save(folder: Path, name: str = 'lenet.ckpt', *, version: int = 2, averages: bool = False, **options: Any) -> Values:
    """Saves the network with random values in all variables, and gives those."""
    random = np.random.RandomState(len(name))
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        network(**options)
        variables = slim.get_model_variables()
        if averages:
            tf.train.ExponentialMovingAverage(0.9).apply(variables)
        tf.train.get_or_create_global_step()
        every = tf.global_variables()
        session.run(tf.global_variables_initializer())
        for variable in every[:-1]:
            variable.load(0.1 + 0.1 * random.uniform(size=variable.shape).astype(np.float32), session)
        written = tf.train.SaverDef.V1 if version == 1 else tf.train.SaverDef.V2
        tf.train.Saver(every, write_version=written).save(session, str(folder / name))
        return {variable.op.name: session.run(variable) for variable in every[:-1]}


def restored(path: Path | str, *, averages: bool = False, model: str = 'lenet', **options: Any) -> Values:
    """The model variables of a new network after restoring what `path` names."""
    flags = {name: options.pop(name) for name in list(options) if name != 'classes'}
    with tf.Graph().as_default(), checkpoint_files.opened(str(path)) as checkpoint:
        network(model, **options)
        checkpoints.restore(checkpoint, CheckpointOptions(str(path), **flags), averages=averages)
        with tf.Session() as session, checkpoints.reading(checkpoint):
            session.run(tf.global_variables_initializer())
            return {variable.op.name: session.run(variable) for variable in slim.get_model_variables()}


def assert_equal(got: Values, wanted: Values) -> None:
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value, name)


def pack(archive: Path, members: dict[str, Path | bytes]) -> Path:
    """A tar file, compressed where its name says so, of files or contents."""
    with tarfile.open(archive, 'w:gz' if archive.name.endswith('gz') else 'w') as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty at first."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(folder))
    return folder


@pytest.mark.parametrize(
    ('version', 'named'),
    [
        (1, 'lenet.ckpt'),
        (1, 'lenet.ckpt.meta'),
        (1, '.'),
        (2, 'lenet.ckpt'),
        (2, 'lenet.ckpt.index'),
        (2, 'lenet.ckpt.data-00000-of-00001'),
        (2, '.'),
    ],
)
def test_every_way_to_name_a_checkpoint_of_either_format_restores_its_values(
    tmp_path: Path, version: int, named: str
) -> None:
    values = save(tmp_path / 'saved', version=version)
    assert_equal(restored(tmp_path / 'saved' / named), values)
    (tmp_path / 'saved' / 'checkpoint').unlink()
    assert_equal(restored(tmp_path / 'saved' / named), values)


def test_a_folders_newest_checkpoint_is_the_one_that_its_state_names_also_after_it_was_moved(tmp_path: Path) -> None:
    before, after = tmp_path / 'before', tmp_path / 'after'
    older, newer = save(before, 'model.ckpt-20'), save(before, 'model.ckpt-9')
    assert_equal(restored(before), newer)
    state = 'model_checkpoint_path: "{}"\nall_model_checkpoint_paths: "{}"\n'
    (before / 'checkpoint').write_text(state.format(before / 'model.ckpt-20', before / 'model.ckpt-9'))
    before.rename(after)
    assert_equal(restored(after), older)
    (after / 'checkpoint').unlink()
    with pytest.raises(UsageError, match=r'holds 2 checkpoints.*: model\.ckpt-20, model\.ckpt-9\. Give --'):
        restored(after)


def test_a_copied_folder_gives_its_own_checkpoint_and_not_the_originals(tmp_path: Path) -> None:
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    save(original)
    (original / 'lenet.ckpt.data-00000-of-00001').write_bytes(b'what would fail')
    values = save(copy)
    (copy / 'checkpoint').write_text(f'model_checkpoint_path: "{original / "lenet.ckpt"}"\n')
    assert_equal(restored(copy), values)


def test_archives_as_slims_page_has_them_are_restored_and_leave_no_files(tmp_path: Path, temporary: Path) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    values = save(first, 'lenet.ckpt', version=1)
    archive = pack(tmp_path / 'lenet_2016_08_28.tar.gz', {'lenet.ckpt': first / 'lenet.ckpt'})
    assert_equal(restored(archive), values)
    values = save(second, 'lenet_v1_1.0.ckpt')
    others: dict[str, Path | bytes] = {'./lenet_v1_1.0.tflite': b'x', './lenet_v1_1.0_frozen.pb': b'y'}
    parts = {f'./{path.name}': path for path in second.glob('lenet*')}
    assert set(parts) >= {'./lenet_v1_1.0.ckpt.meta', './lenet_v1_1.0.ckpt.index'}
    assert_equal(restored(pack(tmp_path / 'lenet_v1_1.0.tgz', {**others, **parts})), values)
    assert list(temporary.iterdir()) == []


def test_of_an_archive_with_two_checkpoints_one_is_named(tmp_path: Path) -> None:
    # As slim's archives of MobileNet 3 are.
    ema, pristine = tmp_path / 'ema', tmp_path / 'pristine'
    values = save(ema, 'model-540')
    save(pristine, 'model.ckpt-540')
    members = {f'v3/{path.parent.name}/{path.name}': path for folder in (ema, pristine) for path in folder.iterdir()}
    archive = pack(tmp_path / 'v3.tgz', {**members})
    with pytest.raises(UsageError, match=r'v3/ema/model-540, v3/pristine/model\.ckpt-540\. Give --checkpoint_path='):
        restored(archive)
    assert_equal(restored(f'{archive}/v3/ema/model-540'), values)
    with pytest.raises(UsageError, match='this archive holds v3/ema/model-540'):
        restored(f'{archive}/ema')


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, temporary: Path) -> None:
    for name in ('../outside.ckpt', str(tmp_path / 'outside.ckpt'), 'a/../../outside.ckpt'):
        archive = pack(tmp_path / 'evil.tar', {name: b'x'})
        with pytest.raises(DataError, match='do not trust'):
            restored(archive)
    assert not list(tmp_path.rglob('outside*'))
    assert list(temporary.iterdir()) == []


def test_moving_averages_are_restored_when_they_are_asked_for(tmp_path: Path) -> None:
    values = save(tmp_path, averages=True)
    plain = {name: value for name, value in values.items() if 'Average' not in name}
    averages = {name: values[f'{name}/ExponentialMovingAverage'] for name in plain}
    assert_equal(restored(tmp_path), plain)
    assert_equal(restored(tmp_path, averages=True), averages)
    assert any((averages[name] != plain[name]).any() for name in plain)
    save(tmp_path / 'without')
    with pytest.raises(UsageError, match=r'holds none of the variables.*conv1/weights/ExponentialMovingAverage'):
        restored(tmp_path / 'without', averages=True)


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


@pytest.mark.parametrize(('version', 'file'), [(1, 'lenet.ckpt'), (2, 'lenet.ckpt.data-00000-of-00001')])
def test_a_flipped_bit_is_noticed(tmp_path: Path, version: int, file: str) -> None:
    save(tmp_path, version=version)
    content = bytearray((tmp_path / file).read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=r'lenet\.ckpt cannot be read as a checkpoint'):
        restored(tmp_path / 'lenet.ckpt')


@pytest.mark.parametrize('name', ['lenet.tar.gz', 'lenet.tar'])
def test_a_truncated_archive_is_named_and_leaves_no_files(tmp_path: Path, temporary: Path, name: str) -> None:
    save(tmp_path / 'saved', version=1)
    archive = pack(tmp_path / name, {'lenet.ckpt': tmp_path / 'saved' / 'lenet.ckpt'})
    os.truncate(archive, archive.stat().st_size // 2)
    with pytest.raises(DataError, match=f'{name} could not be unpacked to .*get it again'):
        restored(archive)
    archive.write_bytes(b'not an archive')
    with pytest.raises(DataError, match=f'{name} could not be unpacked'):
        restored(archive)
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_told_with_where_to_unpack_instead(tmp_path: Path) -> None:
    archive = pack(tmp_path / 'large.tar.gz', {'large.ckpt': bytes(100_000)})
    # The kernel refuses to write past the limit, as it does on a full disk.
    code = (
        'import resource, signal, sys; from bench import errors; from bench.training import checkpoint_files\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n'
        'try:\n'
        '    checkpoint_files.opened(sys.argv[1]).__enter__()\n'
        'except errors.DataError as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(archive)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ''
    assert 'File too large' in done.stdout
    assert 'TMPDIR' in done.stdout


def test_finding_a_checkpoint_does_not_load_tensorflow() -> None:
    code = (
        'import sys; from bench.training import checkpoint_files; checkpoint_files.problems("nowhere")\n'
        'sys.exit("tensorflow" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0


# The whole program


def run(*words: str, temporary: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / 'run_benchmark.py'), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **({'TMPDIR': str(temporary)} if temporary else {})},
    )


def record(folder: Path) -> dict[str, Any]:
    (path,) = folder.iterdir()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


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


def test_inference_computes_with_an_archives_weights_and_the_record_repeats_it(tmp_path: Path) -> None:
    values = save(tmp_path / 'saved', 'mobilenet.ckpt', version=1, model='mobilenet_v1_025', classes=20)
    archive = pack(tmp_path / 'mobilenet.tar.gz', {'mobilenet.ckpt': tmp_path / 'saved' / 'mobilenet.ckpt'})
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    common = ('--num_warmup_batches=0', '--num_batches=1')
    words = ('--model=mobilenet_v1_025', '--batch_size=4', '--num_classes=20', f'--checkpoint_path={archive}')
    done = run(*words, *common, '--forward_only', f'--result_dir={tmp_path / "a"}', temporary=temporary)
    assert done.returncode == 0, done.stderr
    first = record(tmp_path / 'a')
    wanted = inference_loss('mobilenet_v1_025', values, classes=20, seed=1234, batch=4)
    assert first['workers'][0]['losses'][0] == pytest.approx(wanted, rel=1e-4)
    assert first['config']['checkpoint']['checkpoint_path'] == str(archive)
    again = run(*shlex.split(first['repeat'])[1:], f'--result_dir={tmp_path / "b"}', temporary=temporary)
    assert again.returncode == 0, again.stderr
    assert record(tmp_path / 'b')['workers'][0]['losses'] == pytest.approx(first['workers'][0]['losses'], rel=1e-5)
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
    found = record(tmp_path / 'results')
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
        (['--noclone_on_cpu'], ['--clone_on_cpu']),
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
    assert record(tmp_path / 'results')['ended']['status'] == 'failed'


def test_a_run_that_is_stopped_while_it_unpacks_leaves_no_files(tmp_path: Path) -> None:
    archive = pack(tmp_path / 'large.tar.gz', {'large.ckpt': bytes(100_000_000)})
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    words = [sys.executable, str(ROOT / 'run_benchmark.py'), '--model=lenet', f'--checkpoint_path={archive}']
    words.append(f'--result_dir={tmp_path / "results"}')
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env={**os.environ, 'TMPDIR': str(temporary)}, stdout=pipe, stderr=pipe) as process:
        end = time.monotonic() + 120
        while not list(temporary.glob('tf-bench-*/*')) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 1
    assert list(temporary.iterdir()) == []
