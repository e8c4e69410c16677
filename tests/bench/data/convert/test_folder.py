"""A folder of class folders becomes shards that hold every picture as RGB or grey JPEG, and that the pipeline reads."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from bench import errors
from bench.data import datasets
from bench.data.convert import folder

# What the fixtures of these names are.
Convert = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
Program = Callable[..., subprocess.Popen[str]]

IMAGES = Path(__file__).parents[3] / 'data' / 'images'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes of 12 pictures each and one of a few odd ones, written in an order that isn't the sorted one."""
    root = tmp_path / 'pictures'
    for name in ('tulip', 'daisy'):
        (root / name).mkdir(parents=True)
        for index in range(12):
            picture = Image.open(sorted(IMAGES.glob('colours*.jpg'))[index % 4])
            picture.save(root / name / f'{index}.JPG', 'JPEG', comment=f'{name} {index}')
    (root / 'odd one' / 'below').mkdir(parents=True)
    for path in (*IMAGES.glob('grey*'), *IMAGES.glob('cmyk*')):
        shutil.copy(path, root / 'odd one')
    shutil.copy(IMAGES / 'picture_40x24.png', root / 'odd one' / 'below')
    (root / 'daisy' / 'notes.txt').write_text('no picture')
    (root / 'daisy' / '._1.JPG').write_text('what a Macintosh leaves')
    (root / '.hidden').mkdir()
    return root


def test_every_picture_is_in_one_record_with_its_class(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, capsys: Capture
) -> None:
    out = tmp_path / 'out'
    files = convert('folder', source, out, validation_fraction=0.25, num_shards=3)
    counts = [f'{subset}-0000{index}-of-00003' for subset in ('train', 'validation') for index in range(3)]
    assert sorted(files) == ['conversion.json', 'labels.txt', *counts]
    assert files['labels.txt'] == b'0:daisy\n1:odd one\n2:tulip\n'
    examples = {name: reader.examples(out / name) for name in counts}
    assert [len(examples[name]) for name in counts] == [6, 7, 7, 2, 2, 3]
    found = Counter(
        (
            example['image/class/label'][0],
            example['image/class/text'][0].decode(),
            example['image/filename'][0].decode(),
        )
        for shard in examples.values()
        for example in shard
    )
    wanted = [
        (label, name, path.relative_to(source).as_posix())
        for label, name in enumerate(('daisy', 'odd one', 'tulip'))
        for path in (source / name).rglob('*')
        if path.is_file() and path.name not in ('notes.txt', '._1.JPG')
    ]
    assert found == Counter(wanted) and len(wanted) == 27
    assert 'Left out 1 file that is no picture by its name: daisy/notes.txt\n' in capsys.readouterr().out


def test_jpegs_stay_as_they_are_and_others_become_rgb_jpegs_of_the_same_picture(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace
) -> None:
    out = tmp_path / 'out'
    convert('folder', source, out, validation_fraction=0.0, num_shards=1)
    for example in reader.examples(out / 'train-00000-of-00001'):
        name, encoded = example['image/filename'][0].decode(), example['image/encoded'][0]
        original = (source / name).read_bytes()
        with Image.open(io.BytesIO(encoded)) as image:
            assert (image.format, *image.size) == ('JPEG', example['image/width'][0], example['image/height'][0])
            channels = {'RGB': 3, 'L': 1}[image.mode]
            assert example['image/channels'] == [channels]
            assert example['image/colorspace'] == [b'RGB' if channels == 3 else b'grayscale']
            if 'cmyk' in name or '.png' in name:
                wanted = np.asarray(Image.open(io.BytesIO(original)).convert('RGB'), float)
                assert channels == 3 and abs(np.asarray(image, float) - wanted).mean() < 5
            else:
                assert encoded == original


@pytest.mark.parametrize('kind', ['bmp', 'gif', 'tiff', 'webp', 'png'])
def test_pictures_of_other_formats_and_modes_become_rgb_jpegs(
    tmp_path: Path, convert: Convert, reader: SimpleNamespace, kind: str
) -> None:
    colours = Image.open(IMAGES / 'colours_80x60.jpg')
    for name, mode in (('rgb', 'RGB'), ('palette', 'P'), ('grey', 'L')):
        (tmp_path / 'source' / name).mkdir(parents=True)
        changed = colours.convert('RGB' if kind == 'webp' else mode)
        changed.save(tmp_path / 'source' / name / f'1.{kind}')
    convert('folder', tmp_path / 'source', tmp_path / 'out', validation_fraction=0.0, num_shards=1)
    for example in reader.examples(tmp_path / 'out' / 'train-00000-of-00001'):
        original = Image.open(tmp_path / 'source' / example['image/filename'][0].decode()).convert('RGB')
        with Image.open(io.BytesIO(example['image/encoded'][0])) as image:
            assert (image.format, image.mode, image.size) == ('JPEG', 'RGB', (80, 60))
            # In brightness: a JPEG has fewer colours than a palette's speckles.
            assert abs(np.asarray(image.convert('L'), float) - np.asarray(original.convert('L'), float)).mean() < 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_choice(
    source: Path, tmp_path: Path, convert: Convert
) -> None:
    first = convert('folder', source, tmp_path / 'first', validation_fraction=0.3, seed=5)
    assert first == convert('folder', source, tmp_path / 'second', validation_fraction=0.3, seed=5)
    third = convert('folder', source, tmp_path / 'third', validation_fraction=0.3, seed=6)
    assert all(first[name] != third[name] for name in first if name.startswith(('train', 'validation')))


@pytest.mark.parametrize('top', ['', 'photos/', './photos/'])
def test_an_archive_gives_the_same_shards_as_the_folder(
    source: Path, tmp_path: Path, convert: Convert, archives: SimpleNamespace, capsys: Capture, top: str
) -> None:
    files = {f'{top}{path.relative_to(source)}': path.read_bytes() for path in source.rglob('*') if path.is_file()}
    path = tmp_path / 'photos.tar.gz'
    path.write_bytes(gzip.compress(archives.tar(files)))
    first = convert('folder', source, tmp_path / 'first')
    capsys.readouterr()
    second = convert('folder', path, tmp_path / 'second')
    assert 'unpacking photos.tar.gz: ' in capsys.readouterr().out
    assert first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first if name != 'conversion.json')


def test_links_of_an_archive_are_the_pictures_that_they_lead_to(tmp_path: Path) -> None:
    data = (IMAGES / 'colours_80x60.jpg').read_bytes()
    path = tmp_path / 'linked.tar'
    with tarfile.open(path, 'w') as archive:
        for name, kind, target in (
            ('top/a/1.jpg', tarfile.REGTYPE, ''),
            ('top/b/2.jpg', tarfile.LNKTYPE, 'top/a/1.jpg'),
            ('top/b/3.jpg', tarfile.SYMTYPE, '2.jpg'),
            ('top/b/4.jpg', tarfile.SYMTYPE, '../a/1.jpg'),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, 0 if target else len(data)
            archive.addfile(member, io.BytesIO(data))
    listing = folder.listed(path, tmp_path / 'unpacked')
    assert [listing.pictures.name(index) for index in range(4)] == ['a/1.jpg', 'b/2.jpg', 'b/3.jpg', 'b/4.jpg']
    assert all(listing.pictures.read(index) == data for index in range(4))
    with tarfile.open(path, 'a') as archive:
        member.name, member.linkname = 'top/b/5.jpg', '../c/1.jpg'
        archive.addfile(member)
    with pytest.raises(errors.DataError, match=r'top/b/5\.jpg, is a link to top/c/1\.jpg.*--dereference'):
        folder.listed(path, tmp_path / 'unpacked')


def test_linked_folders_are_followed_and_links_to_nothing_and_in_circles_are_told(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / 'tulip', tmp_path / 'elsewhere')
    (source / 'tulip' / 'more').symlink_to(tmp_path / 'elsewhere')
    assert len(folder.listed(source, tmp_path / 'unpacked').labels) == 27 + 12
    (source / 'daisy' / 'circle').symlink_to(source / 'daisy')
    with pytest.raises(errors.DataError, match='daisy/circle is a link to a folder that it is in'):
        folder.listed(source, tmp_path / 'unpacked')
    (source / 'daisy' / 'circle').unlink()
    (source / 'daisy' / 'lost.jpg').symlink_to('nothing')
    with pytest.raises(errors.DataError, match=r'daisy/lost\.jpg cannot be read: No such file'):
        folder.listed(source, tmp_path / 'unpacked')


@pytest.mark.parametrize('locked', ['tulip', 'odd one/below'])
def test_a_folder_that_may_not_be_read_loses_no_pictures_silently(source: Path, locked: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        everybodys = Path(place, 'pictures')
        shutil.copytree(source, everybodys)
        (everybodys / locked).chmod(0)
        Path(place).chmod(0o755)
        user = os.geteuid()
        try:
            if user == 0:  # who may read everything
                os.seteuid(65534)
            with pytest.raises(errors.DataError, match=f'{locked} cannot be read: Permission denied'):
                folder.listed(everybodys, Path(place, 'unpacked'))
        finally:
            os.seteuid(user)
            (everybodys / locked).chmod(0o755)


def test_tensorflow_and_the_pipeline_read_what_convert_wrote(
    source: Path, tmp_path: Path, convert: Convert, read: Callable[..., list[tuple[Any, Any]]]
) -> None:
    out = tmp_path / 'out'
    convert('folder', source, out, validation_fraction=0.1)
    dataset = datasets.load('folder', 'train', out)
    batches = read(dataset, is_training=True, repeat=False)
    held_out = read(datasets.load('folder', 'validation', out))
    assert dataset.num_classes == 3 and len(batches) == 24 and len(held_out) == 3
    assert Counter(int(label[0]) for _, label in batches + held_out) == {0: 12, 1: 3, 2: 12}
    lengths = [len(list(tf.io.tf_record_iterator(str(path)))) for path in out.glob('*-of-*')]
    assert sum(lengths) == 27


def test_fewer_pictures_than_shards_leave_no_empty_shard(source: Path, tmp_path: Path, convert: Convert) -> None:
    convert('folder', source, tmp_path / 'out', num_shards=100, validation_fraction=0.1)
    assert datasets.problems('folder', 'train', tmp_path / 'out') == []
    assert datasets.problems('folder', 'validation', tmp_path / 'out') == []


def test_shards_without_a_picture_that_could_be_converted_are_read_as_such(
    source: Path, tmp_path: Path, convert: Convert, read: Callable[..., list[tuple[Any, Any]]]
) -> None:
    (source / 'tulip' / 'text.png').write_text('not a picture')
    out = tmp_path / 'out'
    convert('folder', source, out, num_shards=100, validation_fraction=0.0, skip_bad_records=1)
    (empty,) = (path for path in out.glob('*-of-*') if path.stat().st_size == 0)
    assert datasets.problems('folder', 'train', out) == []
    dataset = datasets.load('folder', 'train', out)
    assert datasets.damage(dataset) == []
    assert len(read(dataset, is_training=True, repeat=False)) == len(dataset.shards) - 1 == 27
    other = next(path for path in out.glob('*-of-*') if path != empty)
    other.write_bytes(b'')
    (problem,) = datasets.problems('folder', 'train', out)
    assert other.name in problem and empty.name not in problem


def test_all_broken_pictures_are_named_and_nothing_is_left(source: Path, tmp_path: Path, convert: Convert) -> None:
    cut = (IMAGES / 'great_dane.jpg').read_bytes()[:9000]
    (source / 'daisy' / 'cut.jpg').write_bytes(cut)
    (source / 'tulip' / 'text.png').write_text('not a picture')
    (source / 'tulip' / 'nothing.jpg').touch()
    with pytest.raises(errors.DataError) as raised:
        convert('folder', source, tmp_path / 'out', num_shards=1, validation_fraction=0.0)
    lines = str(raised.value).splitlines()
    assert lines[0].startswith('3 of the pictures') and '--skip_bad_records=3' in lines[-1]
    assert sorted(line.partition(':')[0] for line in lines[1:-1]) == [
        str(source / name) for name in ('daisy/cut.jpg', 'tulip/nothing.jpg', 'tulip/text.png')
    ]
    assert not (tmp_path / 'out').exists()


def test_where_the_search_for_broken_pictures_ended_no_number_is_advised(
    source: Path, tmp_path: Path, convert: Convert
) -> None:
    for number in range(60):
        (source / 'tulip' / f'broken {number}.jpg').write_bytes(b'not a picture')
    with pytest.raises(errors.DataError) as raised:
        convert('folder', source, tmp_path / 'out', num_shards=20, skip_bad_records=1)
    first, *_, last = str(raised.value).splitlines()
    told = int(first.split()[2])
    assert first.startswith('At least ') and 21 < told < 60
    assert 'The search ended there' in last and f'={told}' not in last


@pytest.mark.parametrize('damage', ['cut early', 'cut late', 'no end', 'zeros in the middle'])
def test_what_the_pipeline_cannot_decode_is_broken_and_nothing_else(
    tmp_path: Path, convert: Convert, damage: str
) -> None:
    """TensorFlow decoding the whole picture is the reference."""
    whole = (IMAGES / 'great_dane.jpg').read_bytes()
    half = len(whole) // 2
    data = {
        'cut early': whole[: len(whole) // 10],
        'cut late': whole[:-300],
        'no end': whole[:-2],
        'zeros in the middle': whole[:half] + bytes(2000) + whole[half + 2000 :],
    }[damage]
    for name, content in (('good', whole), ('odd', data)):
        (tmp_path / 'source' / name).mkdir(parents=True)
        (tmp_path / 'source' / name / '1.jpg').write_bytes(content)
    with tf.Graph().as_default(), tf.Session() as session:
        try:
            session.run(tf.io.decode_jpeg(data))
            can_be_decoded = True
        except tf.errors.InvalidArgumentError:
            can_be_decoded = False
    try:
        convert('folder', tmp_path / 'source', tmp_path / 'out', validation_fraction=0.0)
        is_converted = True
    except errors.DataError as error:
        assert 'odd/1.jpg' in str(error)
        is_converted = False
    assert is_converted == can_be_decoded


def test_broken_pictures_are_left_out_where_that_is_allowed(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, capsys: Capture
) -> None:
    (source / 'tulip' / 'text.png').write_text('not a picture')
    (source / 'tulip' / 'nothing.jpg').touch()
    out = tmp_path / 'out'
    files = convert('folder', source, out, skip_bad_records=2, num_shards=4)
    names = [
        example['image/filename'][0].decode()
        for name in files
        if '-of-' in name
        for example in reader.examples(out / name)
    ]
    assert len(names) == len(set(names)) == 27 and not {'tulip/text.png', 'tulip/nothing.jpg'} & set(names)
    told = capsys.readouterr().out
    assert told.count('left out: ') == 2 and 'Wrote 27 pictures of 3 classes' in told
    assert told.endswith(f'Left out 2 broken pictures; {out / "conversion.json"} names each.\n')
    assert files['conversion.json'].count(b'the picture is broken') == 2


def test_a_class_without_pictures_is_named(source: Path, tmp_path: Path, convert: Convert) -> None:
    (source / 'rose').mkdir()
    with pytest.raises(errors.DataError, match='the class folder rose holds no pictures'):
        convert('folder', source, tmp_path / 'out')


def test_a_name_that_would_break_labels_txt_is_refused(source: Path, tmp_path: Path, convert: Convert) -> None:
    (source / 'tulip').rename(source / 'tu\nlip')
    with pytest.raises(errors.DataError, match=r"'tu\\nlip'"):
        convert('folder', source, tmp_path / 'out')


def test_too_large_a_validation_set_is_refused(tmp_path: Path, convert: Convert) -> None:
    for name, picture in (('daisy', 'great_dane.jpg'), ('tulip', 'grey_70x50.jpg')):
        (tmp_path / 'two' / name).mkdir(parents=True)
        shutil.copy(IMAGES / picture, tmp_path / 'two' / name)
    with pytest.raises(errors.DataError, match=r'none of 2 for training.*validation_fraction'):
        convert('folder', tmp_path / 'two', tmp_path / 'out', validation_fraction=0.9)


def test_a_folder_that_cannot_be_written_is_told(source: Path, tmp_path: Path, convert: Convert) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(errors.DataError, match='cannot be written'):
        convert('folder', source, tmp_path / 'file' / 'out')


def test_a_conversion_draws_no_remarks_and_goes_on_without_a_reader(
    source: Path, tmp_path: Path, program: Program, convert: Convert
) -> None:
    """TensorFlow's log is not silenced more than it is for people, and it remarks on a picture that is cut."""
    (source / 'daisy' / 'cut.jpg').write_bytes((IMAGES / 'great_dane.jpg').read_bytes()[:9000])
    reader, writer = os.pipe()
    os.close(reader)
    out = tmp_path / 'out'
    words = ('--dataset_name=folder', f'--source={source}', f'--dataset_dir={out}', '--skip_bad_records=1')
    environment = {name: value for name, value in os.environ.items() if name != 'TF_CPP_MIN_LOG_LEVEL'}
    process = program(*words, stdout=writer, env=environment)
    os.close(writer)
    assert (process.communicate(timeout=120)[1], process.returncode) == ('', 0)
    wanted = convert('folder', source, tmp_path / 'wanted', skip_bad_records=1)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == wanted
