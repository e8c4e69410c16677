"""The whole program on real shards as a process: convert, train, infer, read alone; and shards that are damaged."""

from __future__ import annotations

import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from program import python, run, the_record

IMAGES = Path(__file__).parents[2] / 'data' / 'images'
SMALL = ('--model=mobilenet_v1', '--image_size=64', '--batch_size=4', '--num_warmup_batches=1', '--num_batches=2')
# Builds no network, which takes the most of the others' time.
INPUT = (*SMALL, '--input_only')


@pytest.fixture(scope='module')
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of photos, converted by the program itself."""
    folder = tmp_path_factory.mktemp('photos')
    pictures = sorted([*IMAGES.glob('*.jpg'), *IMAGES.glob('*.png')])
    for name in ('cats', 'dogs'):
        (folder / 'source' / name).mkdir(parents=True)
        for picture in pictures:
            shutil.copy(picture, folder / 'source' / name / f'{name}-{picture.name}')
    done = run(
        'convert',
        '--dataset_name=folder',
        f'--source={folder / "source"}',
        f'--dataset_dir={folder / "shards"}',
        '--num_shards=2',
        '--validation_fraction=0',
    )
    assert done.returncode == 0, done.stderr
    return folder / 'shards'


@pytest.fixture
def damaged(shards: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to be damaged."""
    return Path(shutil.copytree(shards, tmp_path / 'damaged'))


@pytest.mark.parametrize(
    'more', [(), ('--forward_only',), pytest.param(('--optimizer=rmsprop',), marks=pytest.mark.slow)]
)
def test_converted_pictures_train_and_infer(shards: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    done = run(*SMALL, f'--data_dir={shards}', '--data_name=folder', f'--result_dir={tmp_path}', *more)
    assert (done.returncode, done.stderr) == (0, '')  # without XLA's remarks, which the pipeline draws
    record = the_record(tmp_path)
    assert record['config']['network']['num_classes'] == 2
    assert record['work']['fraction'] > 0
    assert all(loss is not None for loss in record['workers'][0]['losses'])


def test_input_alone_is_timed_and_computes_nothing(shards: Path, tmp_path: Path) -> None:
    done = run(*SMALL, f'--data_dir={shards}', '--data_name=folder', '--input_only', f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    record = the_record(tmp_path)
    assert record['work'] is None
    assert record['throughput']['images_per_second'] > 0
    assert record['workers'][0]['losses'] == [None, None]


@pytest.mark.slow
def test_xla_computes_the_same_first_loss(tmp_path: Path) -> None:
    losses = []
    for xla in ('--noxla', '--xla'):
        words = ('--model=cifarnet', '--batch_size=4', '--num_warmup_batches=0', '--num_batches=1', xla)
        done = run(*words, f'--result_dir={tmp_path / xla}')
        assert done.returncode == 0, done.stderr
        losses += the_record(tmp_path / xla)['workers'][0]['losses']
    # Dropout draws other numbers in XLA, so only the size is the same.
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize('lost', [40, -5])
def test_a_truncated_shard_is_named_before_anything_begins(damaged: Path, tmp_path: Path, lost: int) -> None:
    shard = damaged / 'train-00001-of-00002'
    data = shard.read_bytes()
    # Cut within a record's data, and within the first bytes of a further record.
    shard.write_bytes(data[:-lost] if lost > 0 else data + data[:-lost])
    words = (*SMALL, f'--data_dir={damaged}', '--data_name=folder', f'--result_dir={tmp_path / "r"}')
    # Nobody knows how many records are lost, so that they cannot be among those that may be left out.
    for more in ((), ('--skip_bad_records=1',)):
        done = run(*words, *more)
        assert done.returncode == 2
        assert f'{shard} is truncated' in done.stderr
        assert not (tmp_path / 'r').exists()


def test_bad_records_are_left_out_told_and_in_the_record(damaged: Path, tmp_path: Path) -> None:
    shard = damaged / 'train-00001-of-00002'
    data = bytearray(shard.read_bytes())
    start, starts = 0, []
    for _ in range(2):
        (size,) = struct.unpack_from('<Q', data, start)
        data[start + 12 + size // 2] ^= 0xFF
        starts.append(start)
        start += 12 + size + 4
    shard.write_bytes(data)
    words = (*INPUT, f'--data_dir={damaged}', '--data_name=folder', f'--result_dir={tmp_path / "r"}')
    done = run(*words, '--skip_bad_records=2')
    assert done.returncode == 0, done.stderr
    skipped = [line.removeprefix('Skipped: ') for line in done.stdout.splitlines() if line.startswith('Skipped: ')]
    assert len(skipped) == 2
    for number, (start, text) in enumerate(zip(starts, skipped, strict=True)):
        assert f'{shard}, record {number} at byte {start}: its checksum' in text
    warnings = [warning for warning in the_record(tmp_path / 'r')['warnings'] if 'bad_record' in warning['code']]
    assert [warning['text'] for warning in warnings] == skipped
    refused = run(*words, '--skip_bad_records=1')
    assert refused.returncode == 1
    assert all(text in refused.stderr for text in skipped) and '--skip_bad_records=1' in refused.stderr


def test_looking_for_bad_records_leaves_the_run_the_threads_that_it_asks_for(shards: Path, tmp_path: Path) -> None:
    """TensorFlow keeps the threads of the first session of a process, whatever the others ask for."""
    code = (
        'import pathlib, sys; from bench.cli import main\n'
        'assert main(sys.argv[1:]) == 0\n'
        "print(len(list(pathlib.Path('/proc/self/task').iterdir())))\n"
    )
    words = (*INPUT, f'--data_dir={shards}', '--data_name=folder', '--skip_bad_records=1', f'--result_dir={tmp_path}')
    done = python(code, *words, '--num_intra_threads=40', '--num_inter_threads=30')
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) >= 40 + 30


def test_a_read_only_folder_described_by_a_json_file_is_read_and_left_as_it_was(damaged: Path, tmp_path: Path) -> None:
    (damaged / 'labels.txt').unlink()
    (damaged / 'conversion.json').unlink(missing_ok=True)
    for path in list(damaged.iterdir()):
        path.rename(path.with_name(f'pets_{path.name}'))
        (damaged / f'pets_{path.name}').chmod(0o444)
    damaged.chmod(0o555)
    # Root may write nevertheless, so what is there is compared too.
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in damaged.iterdir()}
    description = tmp_path / 'pets.json'
    description.write_text('{"splits": {"train": null}, "files": "pets_%s-*", "labels": ["none", "cat", "dog"]}')
    try:
        done = run(*INPUT, f'--data_dir={damaged}', f'--data_name={description}', f'--result_dir={tmp_path / "r"}')
        after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in damaged.iterdir()}
    finally:
        damaged.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert the_record(tmp_path / 'r')['config']['network']['num_classes'] == 3
    assert before == after


@pytest.mark.parametrize(
    ('words', 'size', 'family'),
    [
        (['--preprocessing_name=vgg_16', '--resize_method=area', '--cache_data=encoded'], 64, 'vgg'),
        pytest.param(['--distortions', '--cache_data=decoded'], 64, 'inception', marks=pytest.mark.slow),
        pytest.param(
            ['--forward_only', '--eval_image_size=96', '--eval_method=vgg'], 96, 'inception', marks=pytest.mark.slow
        ),
    ],
)
def test_preprocessing_and_cache_are_as_asked_for_and_the_record_repeats_them(
    shards: Path, tmp_path: Path, words: list[str], size: int, family: str
) -> None:
    small = [word for word in INPUT if size == 64 or not word.startswith('--image_size')]
    done = run(*small, f'--data_dir={shards}', '--data_name=folder', f'--result_dir={tmp_path / "r"}', *words)
    assert done.returncode == 0, done.stderr
    record = the_record(tmp_path / 'r')
    assert record['config']['network']['image_size'] == size
    assert record['config']['data']['preprocessing_name'] == family
    again = run(*shlex.split(record['repeat'])[1:], f'--result_dir={tmp_path / "again"}')
    assert again.returncode == 0, again.stderr
    assert the_record(tmp_path / 'again')['config']['data'] == record['config']['data']


def test_a_file_that_is_no_tfrecord_is_named(damaged: Path, tmp_path: Path) -> None:
    shard = damaged / 'train-00000-of-00002'
    shard.write_bytes(b'this is no TFRecord file, just some text that is long enough to be read' * 20)
    done = run(*SMALL, f'--data_dir={damaged}', '--data_name=folder', f'--result_dir={tmp_path / "r"}')
    _failed(done, str(shard), tmp_path / 'r')


def test_a_flipped_byte_is_found_by_its_checksum(damaged: Path, tmp_path: Path) -> None:
    shard = damaged / 'train-00000-of-00002'
    data = bytearray(shard.read_bytes())
    (size,) = struct.unpack_from('<Q', data)
    data[12 + size // 2] ^= 0xFF
    shard.write_bytes(data)
    done = run(
        *SMALL, '--num_batches=50', f'--data_dir={damaged}', '--data_name=folder', f'--result_dir={tmp_path / "r"}'
    )
    _failed(done, str(shard), tmp_path / 'r')


def _failed(done: subprocess.CompletedProcess[str], shard: str, results: Path) -> None:
    assert done.returncode == 1
    assert shard in done.stderr
    assert 'Traceback' not in done.stderr
    ended = the_record(results)['ended']
    assert ended['status'] == 'failed'
    assert shard in ended['reason']


def test_an_empty_data_folder_is_wrong_usage(tmp_path: Path) -> None:
    done = run(*SMALL, f'--data_dir={tmp_path}')
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--forward_only', '--optimizer=adam'], '--optimizer has no effect with --forward_only'),
        (['--momentum=0.5'], '--momentum has no effect with --optimizer=sgd'),
        (['--num_epochs_per_decay=3'], '--num_epochs_per_decay has no effect with a fixed learning rate'),
    ],
)
def test_a_flag_without_effect_is_refused(words: list[str], told: str) -> None:
    done = run('--model=lenet', *words)
    assert done.returncode == 2
    assert told in done.stderr
