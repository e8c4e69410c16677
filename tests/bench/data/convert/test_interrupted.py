"""A conversion that is stopped goes on where it was and gives the same bytes; what is half written is never left."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import errors
from bench.data.convert import command, report, workplace
from bench.data.convert.options import ConvertConfig
from bench.machine import capabilities

# What the fixtures of these names are.
Convert = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
Program = Callable[..., subprocess.Popen[str]]

IMAGES = Path(__file__).parents[3] / 'data' / 'images'
SHARDS = 150


def make(folder: Path, archives: SimpleNamespace, of_a_class: int) -> Path:
    picture = (IMAGES / 'great_dane.jpg').read_bytes()
    synsets = archives.synsets
    pictures = {synset: {f'{synset}_{number}.JPEG': picture for number in range(of_a_class)} for synset in synsets}
    return archives.imagenet(folder, pictures, dict.fromkeys(range(1, 41), (synsets[0], picture)))


@pytest.fixture
def source(tmp_path: Path, archives: SimpleNamespace) -> Path:
    """ImageNet with 160 pictures for training."""
    return make(tmp_path / 'imagenet', archives, 40)


@pytest.fixture
def large_source(tmp_path: Path, archives: SimpleNamespace) -> Path:
    """ImageNet with 2,400 pictures, which take long enough to be interrupted."""
    return make(tmp_path / 'large', archives, 600)


def config(source: Path, out: Path, **options: Any) -> ConvertConfig:
    given = {'num_shards': SHARDS, **options}
    return ConvertConfig(dataset_name='imagenet', source=str(source), dataset_dir=str(out), **given)


def finished(out: Path) -> set[str]:
    """Names of the shards that are done and not yet in their place."""
    folder = out / '.unfinished'
    return {path.name for path in folder.glob('*-of-?????')} if folder.is_dir() else set()


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.slow
def test_after_kill_9_again_and_again_the_bytes_are_the_same(
    large_source: Path, tmp_path: Path, convert: Convert, program: Program
) -> None:
    whole = convert('imagenet', large_source, tmp_path / 'whole', num_shards=SHARDS)
    out = tmp_path / 'out'
    words = ('--dataset_name=imagenet', f'--source={large_source}', f'--dataset_dir={out}', f'--num_shards={SHARDS}')
    before: dict[str, int] = {}
    for wanted in (10, 90):
        process = program(*words)
        while process.poll() is None and len(finished(out)) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = finished(out)
        assert wanted <= len(done) < SHARDS, 'killed too late to show anything'
        assert not list(out.glob('*-of-*')) and not (out / 'labels.txt').exists()
        # Shards that were finished are kept as they are, not written again.
        now = {name: (out / '.unfinished' / name).stat().st_mtime_ns for name in done}
        assert before.items() <= now.items()
        before = now
    process = program(*words)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert 'finished already: going on after them' in output
    assert contents(out) == whole
    assert {(out / name).stat().st_mtime_ns for name in before} == set(before.values())


def test_ctrl_c_keeps_finished_shards_and_no_half_one(large_source: Path, tmp_path: Path, program: Program) -> None:
    out = tmp_path / 'out'
    words = ('--dataset_name=imagenet', f'--source={large_source}', f'--dataset_dir={out}', f'--num_shards={SHARDS}')
    process = program(*words)
    while process.poll() is None and len(finished(out)) < 5:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and error.endswith('interrupted.\n') and 'Traceback' not in error
    assert 5 <= len(finished(out)) < SHARDS
    assert not list(out.rglob('*.part'))


def test_a_conversion_stopped_while_shards_go_to_their_place_is_finished(
    source: Path, tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = convert('imagenet', source, tmp_path / 'whole', num_shards=8)
    out = tmp_path / 'out'
    replace = Path.replace
    moved: list[Path] = []

    def stop_at_the_third(path: Path, target: Path) -> Path:
        if target.parent == out:
            moved.append(path)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, 'replace', stop_at_the_third)
        command.run(config(source, out, num_shards=8), [])
    assert len(list(out.glob('*-of-*'))) == 2
    assert convert('imagenet', source, out, num_shards=8) == whole


@pytest.mark.parametrize('change', [{'seed': 1}, {'num_shards': 9}])
def test_shards_of_a_stopped_conversion_with_other_flags_are_not_mixed_in(
    source: Path,
    tmp_path: Path,
    convert: Convert,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    change: dict[str, int],
) -> None:
    options = {'num_shards': 8, **change}
    whole = convert('imagenet', source, tmp_path / 'whole', **options)
    out = tmp_path / 'out'
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(report, 'write', stop)
        command.run(config(source, out, num_shards=8), [])
    capsys.readouterr()
    assert convert('imagenet', source, out, **options) == whole
    assert 'starting anew' in capsys.readouterr().out


def test_files_that_came_to_the_folder_while_a_conversion_was_stopped_are_not_touched(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / 'out'
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(workplace.Workplace, 'finish', stop)
        command.run(config(source, out, num_shards=8), [])
    assert len(finished(out)) == 9
    (out / 'train-00000-of-00008').write_text('of someone else')
    for seed in (0, 1):
        settings = config(source, out, num_shards=8, seed=seed)
        (told,) = settings.problems(capabilities.detect)
        assert 'holds train-00000-of-00008 already' in told
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(workplace.Workplace, 'finish', stop)
            command.run(settings, [])
        assert (out / 'train-00000-of-00008').read_text() == 'of someone else'


def test_a_repeated_conversion_does_nothing_and_needs_no_source(source: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / 'out'
    settings = config(source, out, num_shards=8)
    command.run(settings, [])
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    for path in source.iterdir():
        path.rename(tmp_path / path.name)
    source.rmdir()
    assert settings.problems(capabilities.detect) == [] and command.run(settings, []) == 0
    assert 'already: nothing to do' in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ('change', 'flag'), [({'seed': 1}, '--seed'), ({'num_shards': 9}, '--num_shards'), ({}, 'content of --source')]
)
def test_a_repeated_conversion_that_asks_for_something_else_is_refused(
    source: Path, tmp_path: Path, change: dict[str, int], flag: str
) -> None:
    out = tmp_path / 'out'
    command.run(config(source, out, num_shards=8), [])
    if not change:
        with (source / 'ILSVRC2012_img_val.tar').open('ab') as file:
            file.write(bytes(512))
    (told,) = config(source, out, **{'num_shards': 8, **change}).problems(capabilities.detect)
    assert f'holds imagenet, converted with another {flag}.' in told


def test_what_slims_own_converter_wrote_counts_as_converted(tmp_path: Path, capsys: Capture) -> None:
    for subset in ('train', 'validation'):
        for index in range(5):
            (tmp_path / f'flowers_{subset}_{index:05d}-of-00005.tfrecord').touch()
    settings = ConvertConfig(dataset_name='flowers', dataset_dir=str(tmp_path))
    assert settings.problems(capabilities.detect) == [] and command.run(settings, []) == 0
    assert 'already: nothing to do' in capsys.readouterr().out
    (tmp_path / 'flowers_train_00003-of-00005.tfrecord').unlink()
    (told,) = settings.problems(capabilities.detect)
    assert 'already. Name an empty folder' in told


def test_two_conversions_to_one_folder_do_not_mix(source: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    (out / '.unfinished').mkdir(parents=True)
    lock = os.open(out / '.unfinished', os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(errors.DataError, match='another conversion is writing'):
        command.run(config(source, out), [])
    os.close(lock)
    assert command.run(config(source, out, num_shards=8), []) == 0


def test_a_full_disk_leaves_no_half_shard_and_the_conversion_goes_on_when_there_is_room(
    source: Path, tmp_path: Path, convert: Convert, program: Program
) -> None:
    """No file may grow over 1 MB, and a shard takes more: the system refuses as it does when a disk is full."""
    out = tmp_path / 'out'
    limit = 1_000_000
    process = program(
        '--dataset_name=imagenet',
        f'--source={source}',
        f'--dataset_dir={out}',
        '--num_shards=4',
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and 'Traceback' not in error
    assert 'train-00000-of-00004' in error and 'cannot be written: File too large.' in error and 'repeat the' in error
    assert not out.exists()
    files = convert('imagenet', source, out, num_shards=4)
    assert len([name for name in files if '-of-' in name]) == 5


def test_finished_shards_survive_a_picture_that_is_broken(
    source: Path, tmp_path: Path, convert: Convert, archives: SimpleNamespace, capsys: Capture
) -> None:
    """Nobody can mend an archive of 138 GB: the pictures that are broken are left out, and the rest is not repeated."""
    name = archives.synsets[1]
    broken = archives.tar({f'{name}_{number}.JPEG': b'no picture' for number in range(2)})
    good = (IMAGES / 'colours_64x90.jpg').read_bytes()
    others = archives.tar({f'{archives.synsets[0]}_{number}.JPEG': good for number in range(60)})
    (source / 'ILSVRC2012_img_train.tar').write_bytes(
        archives.tar({f'{name}.tar': broken, f'{archives.synsets[0]}.tar': others})
    )
    out = tmp_path / 'out'
    with pytest.raises(errors.DataError, match=r'2 of the pictures cannot be converted:\n.*n01443537_\d\.JPEG'):
        command.run(config(source, out, num_shards=31), [])
    kept = finished(out)
    assert 33 <= len(kept) < 35
    times = {name: (out / '.unfinished' / name).stat().st_mtime_ns for name in kept}
    files = convert('imagenet', source, out, num_shards=31, skip_bad_records=2)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == times
    told = json.loads(files['conversion.json'])
    assert told['pictures'] == {'train': 60, 'validation': 40}
    assert sum(map(len, told['left_out'].values())) == 2 and all(
        shard.startswith('train') for shard in told['left_out']
    )
    assert 'Wrote 100 pictures' in capsys.readouterr().out


def with_broken_pictures(source: Path, archives: SimpleNamespace) -> set[str]:
    """Makes two pictures for training broken, and gives their names."""
    name = archives.synsets[1]
    picture = (IMAGES / 'colours_64x90.jpg').read_bytes()
    broken = {f'{name}_{number}.JPEG': b'no picture' for number in (3, 30)}
    class_tar = archives.tar({**{f'{name}_{number}.JPEG': picture for number in range(40)}, **broken})
    (source / 'ILSVRC2012_img_train.tar').write_bytes(archives.tar({f'{name}.tar': class_tar}))
    return set(broken)


def test_pictures_that_an_earlier_try_left_out_are_told_and_tolerated_or_not(
    source: Path, tmp_path: Path, archives: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    broken = with_broken_pictures(source, archives)
    out = tmp_path / 'out'
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(workplace.Workplace, 'finish', stop)
        command.run(config(source, out, num_shards=4, skip_bad_records=2), [])
    capsys.readouterr()
    with pytest.raises(errors.DataError, match='and --skip_bad_records=1 allows fewer'):
        command.run(config(source, out, num_shards=4, skip_bad_records=1), [])
    capsys.readouterr()
    assert command.run(config(source, out, num_shards=4, skip_bad_records=2), []) == 0
    told = capsys.readouterr().out.splitlines()
    left_out = [line for line in told if line.startswith('left out: ')]
    assert {name for name in broken for line in left_out if f'member {name}:' in line} == broken and len(left_out) == 2
    assert told[-2:] == [
        f'Wrote 78 pictures of 5 classes to {out}: 38 for train and 40 for validation.',
        f'Left out 2 broken pictures; {out / "conversion.json"} names each.',
    ]


def test_what_a_try_that_was_killed_noted_of_a_shard_is_not_said_of_a_later_one(tmp_path: Path) -> None:
    with workplace.Workplace(tmp_path) as place:
        place.begin(['shard'], 'the same')
        with pytest.raises(FileNotFoundError):  # as if killed between the note and the shard's name
            place.keep('shard', ['a picture'])
        assert place.left_out('shard') == []
        place.part('shard').touch()
        place.keep('shard', [])
        assert place.is_done('shard') and place.left_out('shard') == []


def test_a_workplace_that_came_to_nothing_is_removed_with_the_folders_made_for_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='stop'), workplace.Workplace(tmp_path / 'a' / 'b' / 'out'):
        raise ValueError('stop')
    assert not (tmp_path / 'a').exists()
    (tmp_path / 'mine').mkdir()
    with pytest.raises(ValueError, match='stop'), workplace.Workplace(tmp_path / 'mine'):
        raise ValueError('stop')
    assert list(tmp_path.iterdir()) == [tmp_path / 'mine'] and not list((tmp_path / 'mine').iterdir())
