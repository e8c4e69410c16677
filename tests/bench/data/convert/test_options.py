"""What `convert` refuses before anything is read, in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import python, run

from bench.data.convert.options import ConvertConfig
from bench.machine import capabilities


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in ('pictures/daisy', 'pictures/tulip', 'one/daisy', 'empty', 'imagenet', 'holding'):
        (tmp_path / name).mkdir(parents=True)
    for name in ('holding/train-00000-of-00001', 'file.tgz', 'imagenet/ILSVRC2012_img_val.tar'):
        (tmp_path / name).touch()
    (tmp_path / 'mnist').mkdir()
    for name in ('train-images-idx3', 'train-labels-idx1', 't10k-images-idx3'):
        (tmp_path / 'mnist' / f'{name}-ubyte.gz').touch()
    return tmp_path


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        ('', '--dataset_name is not given: one of imagenet, flowers, cifar10, mnist, folder'),
        ('--dataset_name=flower', 'Did you mean flowers?'),
        ('--dataset_name=folder --source=@/pictures', '--dataset_dir is not given'),
        ('--dataset_name=folder --dataset_dir=@/out', '--source is not given'),
        ('--dataset_name=folder --dataset_dir=@/out --source=/no/such', 'there is no such file or folder'),
        ('--dataset_name=folder --dataset_dir=@/out --source=@/empty', 'holds no folders'),
        ('--dataset_name=folder --dataset_dir=@/out --source=@/one', 'holds only the folder daisy'),
        ('--dataset_name=folder --dataset_dir=@/pictures/shards --source=@/pictures', 'is in --source'),
        ('--dataset_name=folder --dataset_dir=@/pictures --source=@/pictures', 'is in --source'),
        ('--dataset_name=folder --dataset_dir=@/file.tgz --source=@/pictures', 'is a file'),
        ('--dataset_name=folder --dataset_dir=@/holding --source=@/pictures', 'holds train-00000-of-00001 already'),
        ('--dataset_name=imagenet --dataset_dir=@/out', 'register at https://www.image-net.org'),
        ('--dataset_name=imagenet --dataset_dir=@/out --source=@/empty', 'neither ILSVRC2012_img_train.tar nor'),
        ('--dataset_name=imagenet --dataset_dir=@/out --source=@/file.tgz', 'Name the folder that holds it'),
        ('--dataset_name=imagenet --dataset_dir=@/out --source=http://host/a.tar', 'imagenet is read from a folder'),
        ('--dataset_name=mnist --dataset_dir=@/out --source=@/empty', 'does not hold train-images-idx3-ubyte.gz, '),
        ('--dataset_name=mnist --dataset_dir=@/out --source=@/mnist', 'does not hold t10k-labels-idx1-ubyte.gz. '),
        ('--dataset_name=mnist --dataset_dir=@/out --partial', '--partial has no effect on mnist'),
        ('--dataset_name=cifar10 --dataset_dir=@/out --source=@/empty', 'does not hold cifar-10-python.tar.gz'),
        ('--dataset_name=cifar10 --dataset_dir=@/out --source=http://host/', 'names no file'),
        ('--dataset_name=cifar10 --dataset_dir=@/out --seed=1', '--seed has no effect on cifar10'),
        ('--dataset_name=mnist --dataset_dir=@/out --num_shards=2', '--num_shards has no effect on mnist'),
        ('--dataset_name=mnist --dataset_dir=@/out --validation_fraction=0.1', 'no effect on mnist'),
        ('--dataset_name=flowers --dataset_dir=@/out --mirror=host', '--mirror=host: an address is expected'),
        ('--dataset_name=folder --dataset_dir=@/o --source=@/pictures --mirror=http://h/', '--mirror has no effect'),
        ('--dataset_name=folder --dataset_dir=@/o --source=@/pictures --download_dir=@/d', '--download_dir has no eff'),
    ],
)
def test_what_cannot_be_converted_is_told_with_the_flag_and_makes_no_folder(
    places: Path, words: str, told: str
) -> None:
    done = run('convert', *words.replace('@', str(places)).split())
    assert done.returncode == 2
    assert told in done.stderr and len(done.stderr.splitlines()) == 1
    assert 'Traceback' not in done.stderr and done.stdout == ''
    assert not (places / 'out').exists() and not (places / 'pictures' / 'shards').exists()


def test_all_that_is_wrong_is_told_together(places: Path) -> None:
    config = ConvertConfig('mnist', str(places / 'holding'), str(places / 'empty'), num_shards=2, seed=1)
    assert len(config.problems(capabilities.detect)) == 4


def test_what_is_right_is_let_through(places: Path) -> None:
    """A folder that holds other things, and shards within the folder of the archives, are no mistakes."""
    out, imagenet = str(places / 'one'), str(places / 'imagenet')
    assert ConvertConfig('imagenet', f'{imagenet}/shards', imagenet).problems(capabilities.detect) == []
    assert ConvertConfig('folder', out, str(places / 'pictures')).problems(capabilities.detect) == []
    assert ConvertConfig('flowers', out).problems(capabilities.detect) == []
    assert ConvertConfig('mnist', out, 'https://host/mnist').problems(capabilities.detect) == []


@pytest.mark.parametrize('words', [['convert', '--help'], ['convert'], ['convert', '--dataset_name=mnist']])
def test_answers_do_not_load_tensorflow_or_numpy(words: list[str]) -> None:
    loaded = '{"tensorflow", "numpy", "requests", "pooch"} & set(sys.modules)'
    code = f'import sys; from bench.cli import main; main({words!r}); sys.exit(bool({loaded}))'
    done = python(code)
    assert done.returncode == 0, done.stderr
