"""The whole program on real shards as a process: convert, train, infer, read alone; and shards that are damaged."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / 'bench' / 'record.schema.json').read_text())
IMAGES = ROOT / 'tests' / 'data' / 'images'
SMALL = ('--model=mobilenet_v1', '--image_size=64', '--batch_size=4', '--num_warmup_batches=1', '--num_batches=2')


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / 'run_benchmark.py'), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


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


def the_record(folder: Path) -> dict[str, Any]:
    (path,) = folder.iterdir()
    record = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record


@pytest.mark.parametrize('more', [(), ('--forward_only',), ('--data_format=NHWC', '--optimizer=rmsprop')])
def test_converted_pictures_train_and_infer(shards: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    done = run(*SMALL, f'--data_dir={shards}', '--data_name=folder', f'--result_dir={tmp_path}', *more)
    assert done.returncode == 0, done.stderr
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


def test_xla_computes_the_same_first_loss(tmp_path: Path) -> None:
    losses = []
    for xla in ('--noxla', '--xla'):
        words = ('--model=cifarnet', '--batch_size=4', '--num_warmup_batches=0', '--num_batches=1', xla)
        done = run(*words, f'--result_dir={tmp_path / xla}')
        assert done.returncode == 0, done.stderr
        losses += the_record(tmp_path / xla)['workers'][0]['losses']
    # Dropout draws other numbers in XLA, so only the size is the same.
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_truncated_shard_is_named_and_the_record_says_failed(damaged: Path, tmp_path: Path) -> None:
    shard = damaged / 'train-00001-of-00002'
    shard.write_bytes(shard.read_bytes()[:-40])
    done = run(
        *SMALL, '--num_batches=50', f'--data_dir={damaged}', '--data_name=folder', f'--result_dir={tmp_path / "r"}'
    )
    _failed(done, str(shard), tmp_path / 'r')


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


def test_fewer_classes_than_the_data_has_are_refused(shards: Path) -> None:
    # imagenet's 1001 against 2 would train on labels that no output stands for.
    done = run(*SMALL, f'--data_dir={shards}', '--data_name=imagenet', '--num_classes=2')
    assert done.returncode == 2
    assert '--num_classes=2' in done.stderr


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--forward_only', '--optimizer=adam'], '--optimizer has no effect with --forward_only'),
        (['--momentum=0.5'], '--momentum has no effect with --optimizer=sgd'),
        (['--num_epochs_per_decay=3'], '--num_epochs_per_decay has no effect with a fixed learning rate'),
        (['--data_subset=validation'], '--data_subset has no effect without --data_dir'),
    ],
)
def test_a_flag_without_effect_is_refused(words: list[str], told: str) -> None:
    done = run('--model=lenet', *words)
    assert done.returncode == 2
    assert told in done.stderr
