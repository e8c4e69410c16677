"""A folder of class folders becomes shards that hold every picture as RGB or grey JPEG, and that the pipeline reads."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import errors
from bench.config import ConvertConfig
from bench.data import datasets
from bench.data.convert import folder
from bench.machine import capabilities

IMAGES = Path(__file__).parents[3] / 'data' / 'images'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes of 12 pictures each and one of a few odd ones, written in an order that isn't the sorted one."""
    root = tmp_path / 'pictures'
    for name in ('tulip', 'daisy'):
        (root / name).mkdir(parents=True)
        for index in range(12):
            shutil.copy(sorted(IMAGES.glob('colours*.jpg'))[index % 4], root / name / f'{index}.JPG')
    (root / 'odd one').mkdir()
    for path in (*IMAGES.glob('grey*'), *IMAGES.glob('cmyk*'), *IMAGES.glob('picture*')):
        shutil.copy(path, root / 'odd one')
    (root / 'daisy' / 'notes.txt').write_text('no picture')
    (root / '.hidden').mkdir()
    return root


def config(source: Path, out: Path, **options: Any) -> ConvertConfig:
    return ConvertConfig(source=str(source), data_dir=str(out), **{'num_shards': 3, **options})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def convert(source: Path, out: Path, **options: Any) -> dict[str, bytes]:
    """Converts and gives the files by name."""
    settings = config(source, out, **options)
    assert settings.problems(capabilities.detect) == []
    assert folder.run(settings, []) == 0
    return contents(out)


def test_every_picture_is_in_one_record_with_its_class(
    source: Path, tmp_path: Path, records: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    files = convert(source, out, validation_fraction=0.25)
    counts = [f'train-0000{index}-of-00003' for index in range(3)], [f'validation-0000{i}-of-00003' for i in range(3)]
    assert sorted(files) == ['labels.txt', *counts[0], *counts[1]]
    assert files['labels.txt'] == b'0:daisy\n1:odd one\n2:tulip\n'
    examples = {name: records.examples(out / name) for name in files if name != 'labels.txt'}
    assert [len(examples[name]) for name in sorted(examples)] == [6, 7, 7, 2, 2, 3]
    found = Counter(
        (example['image/class/label'], example['image/class/text'], example['image/filename'].decode())
        for shard in examples.values()
        for example in shard
    )
    wanted = [
        (label, name.encode(), f'{name}/{path.name}')
        for label, name in enumerate(('daisy', 'odd one', 'tulip'))
        for path in (source / name).iterdir()
        if path.name != 'notes.txt'
    ]
    assert found == Counter(wanted)
    assert 'notes.txt' in capsys.readouterr().out


def test_jpegs_stay_as_they_are_and_others_become_rgb_jpegs_of_the_same_picture(
    source: Path, tmp_path: Path, records: SimpleNamespace
) -> None:
    out = tmp_path / 'out'
    convert(source, out, validation_fraction=0, num_shards=1)
    for example in records.examples(out / 'train-00000-of-00001'):
        original = (source / example['image/filename'].decode()).read_bytes()
        with Image.open(io.BytesIO(example['image/encoded'])) as image:
            assert (image.format, *image.size) == ('JPEG', example['image/width'], example['image/height'])
            assert (image.mode, example['image/channels']) in (('RGB', 3), ('L', 1))
            if b'cmyk' in example['image/filename'] or b'.png' in example['image/filename']:
                wanted = np.asarray(Image.open(io.BytesIO(original)).convert('RGB'), float)
                assert image.mode == 'RGB' and abs(np.asarray(image, float) - wanted).mean() < 5
            else:
                assert example['image/encoded'] == original


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_choice(source: Path, tmp_path: Path) -> None:
    first = convert(source, tmp_path / 'first', validation_fraction=0.3, seed=5)
    assert first == convert(source, tmp_path / 'second', validation_fraction=0.3, seed=5)
    assert first != convert(source, tmp_path / 'third', validation_fraction=0.3, seed=6)


def test_the_pipeline_reads_what_convert_wrote(
    source: Path, tmp_path: Path, read: Callable[..., list[tuple[Any, Any]]]
) -> None:
    out = tmp_path / 'out'
    convert(source, out, validation_fraction=0.1)
    dataset = datasets.load('folder', 'train', out)
    batches = read(dataset, is_training=True, repeat=False)
    held_out = read(datasets.load('folder', 'validation', out))
    assert dataset.num_classes == 3 and len(batches) == 24 and len(held_out) == 3
    assert Counter(int(label[0]) for _, label in batches + held_out) == {0: 12, 1: 3, 2: 12}


def test_fewer_pictures_than_shards_leave_no_empty_shard(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / 'out', num_shards=100, validation_fraction=0.1)
    assert datasets.problems('folder', 'train', tmp_path / 'out') == []
    assert datasets.problems('folder', 'validation', tmp_path / 'out') == []


def test_all_broken_pictures_are_named_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    cut = (IMAGES / 'great_dane.jpg').read_bytes()[:9000]
    (source / 'daisy' / 'cut.jpg').write_bytes(cut)
    (source / 'tulip' / 'text.png').write_text('not a picture')
    (source / 'tulip' / 'nothing.jpg').touch()
    with pytest.raises(errors.DataError) as raised:
        folder.run(config(source, tmp_path / 'out'), [])
    text = str(raised.value)
    assert all(str(source / name) in text for name in ('daisy/cut.jpg', 'tulip/text.png', 'tulip/nothing.jpg'))
    assert len(text.splitlines()) == 3
    assert contents(tmp_path / 'out') == {}


def test_a_class_without_pictures_is_named(source: Path, tmp_path: Path) -> None:
    (source / 'rose').mkdir()
    with pytest.raises(errors.DataError, match='rose holds no pictures'):
        folder.run(config(source, tmp_path / 'out'), [])


def test_a_folder_that_cannot_be_written_is_told(source: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(errors.DataError, match='cannot be written'):
        folder.run(config(source, tmp_path / 'file' / 'out'), [])


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'source': None}, '--source is not given'),
        ({'source': '/no/such/folder'}, 'no such folder'),
        ({'source': 'tulip'}, 'holds no folders'),
        ({'data_dir': None}, '--data_dir is not given'),
        ({'data_dir': 'inside'}, 'is in --source'),
        ({'data_dir': 'holding'}, 'holds train-00000-of-00001 already'),
        ({'data_dir': 'file'}, 'is a file'),
    ],
)
def test_what_cannot_be_converted_is_told_before_anything_is_read(
    source: Path, tmp_path: Path, options: dict[str, str | None], words: str
) -> None:
    (tmp_path / 'holding').mkdir()
    (tmp_path / 'holding' / 'train-00000-of-00001').touch()
    (tmp_path / 'file').touch()
    places = {name: str(tmp_path / name) for name in ('holding', 'file')}
    places |= {'tulip': str(source / 'tulip'), 'inside': str(source / 'shards')}
    given: dict[str, Any] = {'source': str(source), 'data_dir': str(tmp_path / 'out'), **options}
    settings = ConvertConfig(**{key: value and places.get(value, value) for key, value in given.items()})
    (told,) = settings.problems(capabilities.detect)
    assert words in told
