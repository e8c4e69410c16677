"""flower_photos.tgz becomes the shards of TF-Slim's converter, divided by the seed and not by the file system."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
import tf_slim as slim
from PIL import Image

from bench import errors
from bench.data.convert import flowers
from bench.data.convert.options import ConvertConfig
from bench.machine import capabilities

# What the fixtures of these names are.
Convert = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
Program = Callable[..., subprocess.Popen[str]]

IMAGES = Path(__file__).parents[3] / 'data' / 'images'


def picture(number: int) -> bytes:
    """A small JPEG that is like no other."""
    buffer = io.BytesIO()
    Image.new('RGB', (20 + number % 7, 24), (number % 256, number // 256, 50)).save(buffer, 'JPEG', comment=str(number))
    return buffer.getvalue()


@pytest.fixture(scope='module')
def photos() -> dict[str, bytes]:
    """Five classes of 80 pictures, of which every fourth of one class is a picture of another too."""
    found = {}
    for label, name in enumerate(flowers.CLASSES):
        for index in range(80):
            number = index if index % 4 == 0 else 80 * label + index
            found[f'flower_photos/{name}/{number:05}_{index}.jpg'] = picture(number)
    return found


@pytest.fixture
def source(tmp_path: Path, photos: dict[str, bytes], archives: SimpleNamespace) -> Path:
    path = tmp_path / 'flower_photos.tgz'
    path.write_bytes(gzip.compress(archives.tar({'flower_photos/LICENSE.txt': b'CC BY', **photos})))
    return path


def all_examples(out: Path, subset: str, reader: SimpleNamespace) -> list[dict[str, Any]]:
    return [example for path in sorted(out.glob(f'flowers_{subset}_*')) for example in reader.examples(path)]


def test_shards_features_and_labels_are_slims(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, photos: dict[str, bytes]
) -> None:
    out = tmp_path / 'out'
    files = convert('flowers', source, out)
    assert set(files) == {'labels.txt', 'conversion.json'} | {
        f'flowers_{subset}_0000{index}-of-00005.tfrecord' for subset in ('train', 'validation') for index in range(5)
    }
    assert files['labels.txt'] == b'0:daisy\n1:dandelion\n2:roses\n3:sunflowers\n4:tulips\n'
    train, validation = all_examples(out, 'train', reader), all_examples(out, 'validation', reader)
    assert (len(train), len(validation)) == (50, 350)
    found = []
    for example in train + validation:
        assert set(example) == {f'image/{key}' for key in ('encoded', 'format', 'class/label', 'height', 'width')}
        assert example['image/format'] == [b'jpg']
        with Image.open(io.BytesIO(example['image/encoded'][0])) as image:
            assert image.size == (example['image/width'][0], example['image/height'][0])
        found.append((flowers.CLASSES[example['image/class/label'][0]], example['image/encoded'][0]))
    assert sorted(found) == sorted((name.split('/')[1], data) for name, data in photos.items())


def test_no_picture_is_on_both_sides(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, capsys: Capture
) -> None:
    out = tmp_path / 'out'
    convert('flowers', source, out, validation_fraction=0.25)
    sides = [
        {hashlib.sha256(example['image/encoded'][0]).digest() for example in all_examples(out, subset, reader)}
        for subset in ('train', 'validation')
    ]
    assert len(sides[0]) + len(sides[1]) == 320 and not sides[0] & sides[1]
    assert '80 pictures are byte-identical to others' in capsys.readouterr().out


def test_archive_and_unpacked_folder_give_the_same_bytes_in_whatever_order_they_are(
    source: Path, tmp_path: Path, convert: Convert, photos: dict[str, bytes], archives: SimpleNamespace
) -> None:
    first = convert('flowers', source, tmp_path / 'first')
    for name, data in reversed(photos.items()):
        path = tmp_path / 'unpacked' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    backwards = tmp_path / 'backwards.tar'
    backwards.write_bytes(archives.tar(dict(reversed(photos.items()))))
    others = [
        convert('flowers', place, tmp_path / f'out{number}')
        for number, place in enumerate((tmp_path / 'unpacked', tmp_path / 'unpacked' / 'flower_photos', backwards))
    ]
    for files in others:
        assert {name: data for name, data in files.items() if name != 'conversion.json'} == {
            name: data for name, data in first.items() if name != 'conversion.json'
        }
    assert not list(tmp_path.rglob('source.tar'))


def test_slims_own_reader_reads_every_picture(
    source: Path, tmp_path: Path, convert: Convert, slims_reader: Callable[..., list[Any]]
) -> None:
    out = tmp_path / 'out'
    convert('flowers', source, out, validation_fraction=0.1)
    features = {
        'image/encoded': tf.FixedLenFeature((), tf.string, default_value=''),
        'image/format': tf.FixedLenFeature((), tf.string, default_value='png'),
        'image/class/label': tf.FixedLenFeature([], tf.int64, default_value=-1),
    }
    items = {'image': slim.tfexample_decoder.Image(), 'label': slim.tfexample_decoder.Tensor('image/class/label')}
    # The name of the files as TF-Slim's flowers.py has it.
    found = slims_reader(str(out / 'flowers_validation_*.tfrecord'), features, items)
    assert len(found) == 40 and {int(label) for _, label in found} == {0, 1, 2, 3, 4}
    assert all(image.shape[0] == 24 and image.shape[2] == 3 for image, _ in found)


def test_other_pictures_are_refused_with_what_to_do(
    tmp_path: Path, convert: Convert, archives: SimpleNamespace
) -> None:
    path = tmp_path / 'pets.tgz'
    pets = {f'{name}/1.jpg': picture(1) for name in ('cats', 'dogs')}
    path.write_bytes(gzip.compress(archives.tar(pets)))
    with pytest.raises(errors.DataError, match=r'cats, dogs.*--dataset_name=folder'):
        convert('flowers', path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('part', [0.001, 0.5, 0.99999])
def test_a_truncated_archive_is_refused_and_leaves_nothing(
    source: Path, tmp_path: Path, convert: Convert, part: float
) -> None:
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(errors.DataError, match=r'flower_photos\.tgz is truncated'):
        convert('flowers', source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_damaged_archive_and_no_archive_are_refused(source: Path, tmp_path: Path, convert: Convert) -> None:
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 0xFF
    source.write_bytes(data)
    with pytest.raises(errors.DataError, match='damaged'):
        convert('flowers', source, tmp_path / 'out')
    source.write_text('<html>404</html>' * 100)
    with pytest.raises(errors.DataError, match='not a tar archive'):
        convert('flowers', source, tmp_path / 'out')


def test_a_folder_of_something_else_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / 'source' / 'photos').mkdir(parents=True)
    config = ConvertConfig('flowers', str(tmp_path / 'out'), str(tmp_path / 'source'))
    (told,) = config.problems(capabilities.detect)
    assert 'only the folder photos' in told and 'flower_photos.tgz' in told


def test_nothing_but_the_archive_is_needed(source: Path, tmp_path: Path, program: Program) -> None:
    """As TF-Slim's users have it: the archive in the folder that the shards go to."""
    out = tmp_path / 'flowers'
    out.mkdir()
    source.rename(out / 'flower_photos.tgz')
    words = ('--dataset_name=flowers', f'--dataset_dir={out}', f'--source={out}')
    done = program(*words)
    output, error = done.communicate(timeout=120)
    assert done.returncode == 0, error
    assert 'Wrote 400 pictures of 5 classes' in output and 'converting: 400 of 400 pictures' in output
    assert 'images/sec' in output
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = program(*words)
    output, error = again.communicate(timeout=120)
    assert (again.returncode, error) == (0, '') and 'already: nothing to do' in output
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
