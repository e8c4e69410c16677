"""ImageNet's archives become the records that TF-Slim's converter would write, by an own reader and by TF-Slim's."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import tf_slim as slim
from PIL import Image
from program import run

from bench import errors
from bench.data import progress
from bench.data.convert import archives as tars
from bench.data.convert import imagenet, sources

# What the fixtures of these names are.
Convert = Callable[..., Any]
Capture = pytest.CaptureFixture[str]

IMAGES = Path(__file__).parents[3] / 'data' / 'images'
COLOURS = {path.name: path.read_bytes() for path in sorted(IMAGES.glob('colours*.jpg'))}
KEYS = {
    'image/encoded', 'image/format', 'image/height', 'image/width', 'image/colorspace', 'image/channels',
    'image/filename', 'image/class/label', 'image/class/synset', 'image/class/text',
    'image/object/bbox/xmin', 'image/object/bbox/xmax', 'image/object/bbox/ymin', 'image/object/bbox/ymax',
    'image/object/bbox/label',
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path, archives: SimpleNamespace) -> Path:
    """Three classes of 5, 4 and 3 pictures, not in the order of their labels, and four pictures for validation."""
    some = list(COLOURS.values())
    odd = {'grey': 'grey_70x50.jpg', 'cmyk': 'cmyk_70x50.jpg', 'png': 'picture_40x24.png'}
    synsets = archives.synsets
    pictures = {
        synsets[2]: {f'{synsets[2]}_{number}.JPEG': some[number % 4] for number in (7, 3, 12, 9, 1)},
        synsets[0]: {f'{synsets[0]}_{number}.JPEG': some[number % 4] for number in (4, 2, 8, 6)},
        synsets[3]: {f'{synsets[3]}_{name}.JPEG': (IMAGES / file).read_bytes() for name, file in odd.items()},
    }
    validation = {
        2: (synsets[1], some[0]),
        3: (synsets[3], some[1]),
        5: (synsets[0], some[2]),
        9: (synsets[1], some[3]),
    }
    return archives.imagenet(tmp_path / 'imagenet', pictures, validation)


def records(files: dict[str, bytes], out: Path, subset: str, reader: SimpleNamespace) -> dict[str, dict[str, Any]]:
    """A subset's records by the name of the picture."""
    names = sorted(name for name in files if name.startswith(subset))
    found = [example for name in names for example in reader.examples(out / name)]
    by_name = {example['image/filename'][0].decode(): example for example in found}
    assert len(by_name) == len(found)
    return by_name


def test_records_have_the_features_labels_and_words_of_slims_converter(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, archives: SimpleNamespace
) -> None:
    out = tmp_path / 'out'
    files = convert('imagenet', source, out, num_shards=3)
    shards = {f'train-0000{index}-of-00003' for index in range(3)} | {'validation-00000-of-00001'}
    assert set(files) == {*shards, 'labels.txt', 'conversion.json'}
    words = [f'words of {synset}, and more' for synset in archives.synsets]
    assert files['labels.txt'].decode().splitlines() == [
        '0:background', *(f'{label}:{text}' for label, text in enumerate(words, 1))
    ]  # fmt: skip
    train = records(files, out, 'train', reader)
    assert len(train) == 12
    for name, example in train.items():
        label = archives.synsets.index(name.partition('_')[0]) + 1
        assert set(example) == KEYS
        assert example['image/class/label'] == [label]
        assert example['image/class/synset'] == [archives.synsets[label - 1].encode()]
        assert example['image/class/text'] == [words[label - 1].encode()]
        assert (example['image/format'], example['image/colorspace']) == ([b'JPEG'], [b'RGB'])
        assert example['image/channels'] == [3]
        assert [example[key] for key in KEYS if 'bbox' in key] == [[]] * 5
        with Image.open(io.BytesIO(example['image/encoded'][0])) as image:
            assert image.size == (example['image/width'][0], example['image/height'][0])


def test_validation_pictures_get_the_label_of_the_line_of_their_number(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace
) -> None:
    out = tmp_path / 'out'
    validation = records(convert('imagenet', source, out), out, 'validation', reader)
    labels = {name: example['image/class/label'] for name, example in validation.items()}
    assert labels == {
        f'ILSVRC2012_val_0000000{number}.JPEG': [label] for number, label in ((2, 2), (3, 4), (5, 1), (9, 2))
    }


def test_jpegs_stay_and_what_is_a_png_or_cmyk_by_its_content_becomes_slims_rgb_jpeg(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, archives: SimpleNamespace
) -> None:
    out = tmp_path / 'out'
    train = records(convert('imagenet', source, out), out, 'train', reader)
    encoded = {name: example['image/encoded'][0] for name, example in train.items()}
    odd = archives.synsets[3]
    assert encoded[f'{archives.synsets[2]}_3.JPEG'] == list(COLOURS.values())[3]
    assert encoded[f'{odd}_grey.JPEG'] == (IMAGES / 'grey_70x50.jpg').read_bytes()
    with tf.Graph().as_default(), tf.Session() as session:
        cmyk = tf.io.decode_jpeg((IMAGES / 'cmyk_70x50.jpg').read_bytes())
        png = tf.io.decode_png((IMAGES / 'picture_40x24.png').read_bytes(), channels=3)
        wanted = session.run([tf.io.encode_jpeg(picture, format='rgb', quality=100) for picture in (cmyk, png)])
    assert [encoded[f'{odd}_cmyk.JPEG'], encoded[f'{odd}_png.JPEG']] == wanted


def test_boxes_are_those_of_the_picture_in_the_order_of_the_file(
    source: Path, tmp_path: Path, convert: Convert, reader: SimpleNamespace, archives: SimpleNamespace
) -> None:
    name, other = f'{archives.synsets[0]}_4.JPEG', f'{archives.synsets[2]}_12.JPEG'
    (source / 'imagenet_2012_bounding_boxes.csv').write_text(
        f'{other},0.1,0.2,0.3,0.4\n\n{name},0.5,0.0625,0.75,1.0\nn99999999_1.JPEG,0,0,1,1\n{name},0.25,0.0,0.5,0.125\n'
    )
    out = tmp_path / 'out'
    train = records(convert('imagenet', source, out), out, 'train', reader)
    box = 'image/object/bbox/'
    assert [train[name][box + side] for side in ('xmin', 'ymin', 'xmax', 'ymax', 'label')] == [
        [0.5, 0.25], [0.0625, 0.0], [0.75, 0.5], [1.0, 0.125], [1, 1]
    ]  # fmt: skip
    assert train[other][box + 'label'] == [3] and train[other][box + 'ymax'] == [np.float32(0.4)]
    assert sum(len(example[box + 'xmin']) for example in train.values()) == 3


@pytest.mark.parametrize('wrong', ['b.JPEG,0,0,1', 'b.JPEG,nan,0,1,1', 'b.JPEG,0,0,1,inf'])
def test_a_line_of_boxes_that_is_wrong_is_named(source: Path, tmp_path: Path, convert: Convert, wrong: str) -> None:
    (source / 'imagenet_2012_bounding_boxes.csv').write_text(f'a.JPEG,0,0,1,1\n{wrong}\n')
    with pytest.raises(errors.DataError, match=r'boxes\.csv, line 2'):
        convert('imagenet', source, tmp_path / 'out')


def test_a_name_that_is_no_text_is_kept_byte_by_byte_and_told(
    source: Path, tmp_path: Path, reader: SimpleNamespace, archives: SimpleNamespace
) -> None:
    """In a process, whose standard output takes nothing but UTF-8."""
    synset, good = archives.synsets[0], COLOURS['colours_80x60.jpg']
    names = [os.fsdecode(f'{synset}_'.encode() + byte + b'.JPEG') for byte in (b'\xe9', b'\xfc')]
    pictures = dict(zip(names, (good, b'no picture'), strict=True))
    replace(source, sources.IMAGENET_TRAIN, archives.tar({f'{synset}.tar': archives.tar(pictures)}))
    out = tmp_path / 'out'
    words = (f'--source={source}', f'--dataset_dir={out}', '--num_shards=1', '--skip_bad_records=1')
    done = run('convert', '--dataset_name=imagenet', *words)
    assert (done.returncode, done.stderr) == (0, '')
    assert rf'member {synset}_\udcfc.JPEG: the picture is broken' in done.stdout
    (record,) = reader.examples(out / 'train-00000-of-00001')
    assert record['image/filename'] == [f'{synset}_'.encode() + b'\xe9.JPEG']


def test_listing_either_archive_is_shown(
    source: Path, tmp_path: Path, convert: Convert, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, '_SECONDS_BETWEEN_LINES', -1.0)
    convert('imagenet', source, tmp_path / 'out')
    told = capsys.readouterr().out
    assert f'listing {sources.IMAGENET_TRAIN}: 12 pictures' in told
    assert f'listing {sources.IMAGENET_VALIDATION}: 4 pictures' in told


def test_slims_own_reader_reads_pictures_labels_words_and_boxes(
    source: Path, tmp_path: Path, convert: Convert, archives: SimpleNamespace, slims_reader: Callable[..., list[Any]]
) -> None:
    name = f'{archives.synsets[0]}_4.JPEG'
    (source / 'imagenet_2012_bounding_boxes.csv').write_text(f'{name},0.5,0.0625,0.75,1.0\n')
    out = tmp_path / 'out'
    convert('imagenet', source, out, num_shards=2)
    features = {
        'image/encoded': tf.FixedLenFeature([], tf.string),
        'image/format': tf.FixedLenFeature([], tf.string),
        'image/class/label': tf.FixedLenFeature([], tf.int64),
        'image/class/text': tf.FixedLenFeature([], tf.string),
        **{f'image/object/bbox/{side}': tf.VarLenFeature(tf.float32) for side in ('xmin', 'ymin', 'xmax', 'ymax')},
    }
    items = {
        'image': slim.tfexample_decoder.Image(),
        'label': slim.tfexample_decoder.Tensor('image/class/label'),
        'text': slim.tfexample_decoder.Tensor('image/class/text'),
        'boxes': slim.tfexample_decoder.BoundingBox(['ymin', 'xmin', 'ymax', 'xmax'], 'image/object/bbox/'),
    }
    found = slims_reader(str(out / 'train-*'), features, items)
    assert sorted(int(label) for _, label, _, _ in found) == [1] * 4 + [3] * 5 + [4] * 3
    assert {text.decode() for _, label, text, _ in found if label == 3} == {f'words of {archives.synsets[2]}, and more'}
    (boxes,) = [boxes.tolist() for *_, boxes in found if len(boxes)]
    assert boxes == [[0.0625, 0.5, 1.0, 0.75]]
    assert all(image.shape[2] == 3 and image.std() > 1 for image, *_ in found)


def test_pictures_are_mixed_over_the_shards_by_the_seed_alone(
    tmp_path: Path, convert: Convert, reader: SimpleNamespace, archives: SimpleNamespace
) -> None:
    picture = COLOURS['colours_64x90.jpg']
    pictures = {synset: {f'{synset}_{n:03}.JPEG': picture for n in range(50)} for synset in archives.synsets}
    source = archives.imagenet(tmp_path / 'one', pictures, {1: (archives.synsets[0], picture)})
    backwards = {synset: dict(reversed(members.items())) for synset, members in reversed(pictures.items())}
    other = archives.imagenet(tmp_path / 'other', backwards, {1: (archives.synsets[0], picture)})
    first = convert('imagenet', source, tmp_path / 'first', num_shards=4, seed=3)
    second = convert('imagenet', other, tmp_path / 'second', num_shards=4, seed=3)
    third = convert('imagenet', source, tmp_path / 'third', num_shards=4, seed=4)
    shards = [name for name in first if name.startswith('train')]
    assert [first[name] for name in shards] == [second[name] for name in shards]
    assert all(first[name] != third[name] for name in shards)
    for name in shards:
        labels = [example['image/class/label'][0] for example in reader.examples(tmp_path / 'first' / name)]
        # 50 of 200 without replacement: 12.5 of each class, give or take 2.7.
        assert len(labels) == 50 and all(2 < labels.count(label) < 24 for label in (1, 2, 3, 4))
        # Shuffled within the shard too: neighbours are of the same class in 1 of 4 cases, not in nearly all.
        assert sum(a == b for a, b in itertools.pairwise(labels)) < 28


def test_an_archive_without_some_of_the_classes_or_pictures_is_told(
    source: Path, tmp_path: Path, convert: Convert, capsys: Capture
) -> None:
    convert('imagenet', source, tmp_path / 'out', num_shards=1)
    told = capsys.readouterr().out.splitlines()
    assert 'ILSVRC2012_img_train.tar is not all of ImageNet: it has pictures of 3 of 4 classes.' in told
    assert 'ILSVRC2012_img_val.tar is not all of ImageNet: it has 4 of 9 pictures.' in told


def test_the_archive_for_validation_alone_can_be_converted(
    source: Path, tmp_path: Path, convert: Convert, capsys: Capture
) -> None:
    (source / sources.IMAGENET_TRAIN).unlink()
    files = convert('imagenet', source, tmp_path / 'out')
    assert {name.partition('-')[0] for name in files} == {'validation', 'labels.txt', 'conversion.json'}
    assert 'ILSVRC2012_img_train.tar is not in --source' in capsys.readouterr().out


def replace(source: Path, name: str, data: bytes) -> None:
    (source / name).write_bytes(data)


@pytest.mark.parametrize(
    ('name', 'members', 'words'),
    [
        (sources.IMAGENET_TRAIN, {'n01440764_1.JPEG': b'x'}, 'Is it another archive'),
        (sources.IMAGENET_TRAIN, {'n99999999.tar': b'x'}, 'Is it another archive'),
        (sources.IMAGENET_TRAIN, {}, 'holds no pictures'),
        (sources.IMAGENET_TRAIN, {'n01440764.tar': b'no tar archive'}, 'n01440764.tar'),
        (sources.IMAGENET_VALIDATION, {'n01440764_1.JPEG': b'x'}, 'Is it another archive'),
        (sources.IMAGENET_VALIDATION, {'ILSVRC2012_val_00000010.JPEG': b'x'}, 'ILSVRC2012_val_00000009'),
    ],
)
def test_another_archive_is_refused_by_what_it_holds(
    source: Path,
    tmp_path: Path,
    convert: Convert,
    archives: SimpleNamespace,
    name: str,
    members: dict[str, bytes],
    words: str,
) -> None:
    replace(source, name, archives.tar(members))
    with pytest.raises(errors.DataError, match=words):
        convert('imagenet', source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('imagenet_lsvrc_2015_synsets.txt', 'tench\n', "found 'tench'"),
        ('imagenet_metadata.txt', 'n01440764 without a tab\n', 'has no words for n01440764'),
        ('imagenet_2012_validation_synset_labels.txt', 'n77777777\n', 'n77777777'),
    ],
)
def test_a_wrong_text_file_is_named(
    source: Path, tmp_path: Path, convert: Convert, name: str, text: str, words: str
) -> None:
    replace(source, name, text.encode())
    with pytest.raises(errors.DataError, match=f'{name}.*{words}'):
        convert('imagenet', source, tmp_path / 'out')


def test_an_archive_that_is_cut_anywhere_is_refused(source: Path, tmp_path: Path, archives: SimpleNamespace) -> None:
    """Also between two members, where Python's tarfile would see the archive's end."""
    whole = (source / sources.IMAGENET_TRAIN).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        borders = [member.offset for member in archive.getmembers()]
        last = archive.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    cuts = {*borders[1:], *(border + 100 for border in borders), *(border + 512 for border in borders), end, end + 511}
    cuts |= {border + 512 + 700 for border in borders}
    for cut in sorted(cuts):
        path = tmp_path / 'cut.tar'
        path.write_bytes(whole[:cut])
        with pytest.raises(errors.DataError, match='truncated'):
            imagenet._training(path, list(archives.synsets))
    path.write_bytes(whole[: end + 512])
    assert len(imagenet._training(path, list(archives.synsets))[1]) == 12


def test_a_class_whose_own_archive_was_cut_is_refused(source: Path, tmp_path: Path, archives: SimpleNamespace) -> None:
    """Its end is then the header of the next class, which must not be taken for a picture."""
    first, second = archives.synsets[:2]
    whole = archives.tar({f'{first}_{number}.JPEG': bytes(512) for number in range(3)})
    path = tmp_path / 'train.tar'
    for cut in range(512, 3 * 1024 + 1, 512):
        path.write_bytes(archives.tar({f'{first}.tar': whole[:cut], f'{second}.tar': whole}))
        with pytest.raises(errors.DataError, match=f'{first}.tar, is (truncated|not a tar)'):
            imagenet._training(path, list(archives.synsets))


def test_an_index_of_all_of_imagenet_stays_small() -> None:
    """Of 1,281,167 pictures: below 80 MB, and 300 MB while they are listed."""
    import tracemalloc

    member = tarfile.TarInfo()
    member.offset_data, member.size = 1 << 37, 110_000
    tracemalloc.start()
    index = imagenet._Index()
    count = 100_000
    for number in range(count):
        member.name = f'n01440764_{number}.JPEG'
        index.add(member, 1 + number % 1000)
    pictures, labels = index.members(Path('archive.tar'))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(labels) == count and pictures.offsets[5] == 1 << 37
    assert peak / count < 250
    assert sum(part.nbytes for part in (pictures.names, pictures.offsets, pictures.sizes, labels)) / count < 60


def test_members_far_behind_in_an_archive_are_found_where_they_are(tmp_path: Path, archives: SimpleNamespace) -> None:
    """Long names, which take two members of their own, shift what follows."""
    content = {'a' * 150 + '.jpg': b'first', 'b.jpg': b'second' * 300, 'c.jpg': b''}
    inner = archives.tar(content)
    path = tmp_path / 'outer.tar'
    path.write_bytes(archives.tar({'x' * 200: b'', 'inner.tar': inner}))
    with path.open('rb', buffering=0) as file:
        found = {member.name: member for member in tars.members(path, file)}
        inside = list(tars.members(path, file, found['inner.tar']))
        for member in inside:
            file.seek(member.offset_data)
            assert file.read(member.size) == content[member.name]
    assert [member.name for member in inside] == list(content)
