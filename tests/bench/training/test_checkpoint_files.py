"""Checkpoints as slim's page offers them and as training leaves them: found by any name, unpacked, refused in words."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from program import on_a_full_disk, python
from saved import assert_equal, pack, restored, save

from bench.errors import DataError, UsageError
from bench.training import checkpoint_files


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
        (2, 'checkpoint'),
    ],
)
def test_every_way_to_name_a_checkpoint_of_either_format_restores_its_values(
    tmp_path: Path, version: int, named: str
) -> None:
    values = save(tmp_path / 'saved', version=version)
    assert_equal(restored(tmp_path / 'saved' / named), values)
    (tmp_path / 'saved' / 'checkpoint').unlink()
    if named != 'checkpoint':
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
    assert_equal(restored(archive.rename(tmp_path / 'saved under another name')), values)
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


@pytest.mark.parametrize('name', ['lenet.tar.gz', 'lenet.tar'])
def test_a_truncated_archive_is_named_and_leaves_no_files(tmp_path: Path, temporary: Path, name: str) -> None:
    save(tmp_path / 'saved', version=1)
    archive = pack(tmp_path / name, {'lenet.ckpt': tmp_path / 'saved' / 'lenet.ckpt'})
    os.truncate(archive, archive.stat().st_size // 2)
    with pytest.raises(DataError, match=f'{name} could not be unpacked to .*Download it again') as told:
        restored(archive)
    assert 'TMPDIR' not in str(told.value)
    assert list(temporary.iterdir()) == []


def test_what_is_called_an_archive_and_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    archive = tmp_path / 'lenet.tar.gz'
    for content, told in (
        (b'<!DOCTYPE html>\n<html>', "it begins with '<!DOCTYPE html>', as a web page does"),
        (b'not an archive', "it begins with 'not an archive'"),
        (b'', 'it is empty'),
    ):
        archive.write_bytes(content)
        (problem,) = checkpoint_files.problems(str(archive))
        assert problem == f'--checkpoint_path={archive} is no tar archive: {told}. Download it again.'
    archive.write_bytes(gzip.compress(b'<!DOCTYPE html>'))
    with (
        pytest.raises(DataError, match=r'its content is no tar archive\. Download it again\.$'),
        checkpoint_files.opened(str(archive)),
    ):
        pass


def test_a_full_disk_is_told_with_where_to_unpack_instead(tmp_path: Path) -> None:
    archive = pack(tmp_path / 'large.tar.gz', {'large.ckpt': bytes(100_000)})
    opening = 'from bench.training import checkpoint_files; checkpoint_files.opened(sys.argv[1]).__enter__()'
    done = on_a_full_disk(opening, str(archive))
    assert done.stderr == ''
    assert 'File too large' in done.stdout
    assert 'TMPDIR' in done.stdout


def test_finding_a_checkpoint_does_not_load_tensorflow() -> None:
    code = (
        'import sys; from bench.training import checkpoint_files; checkpoint_files.problems("nowhere")\n'
        'sys.exit("tensorflow" in sys.modules)'
    )
    assert python(code).returncode == 0


def test_only_what_could_be_a_checkpoint_is_offered_instead_of_one_that_is_not_there(tmp_path: Path) -> None:
    for name in ('vgg_16.py', 'vgg_16.txt', 'vgg_16.ckpt.meta', 'vgg_16_run/events', 'vgg_16_train/checkpoint'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (told,) = checkpoint_files.problems(str(tmp_path / 'vgg_16.p'))
    assert told.endswith('there is no such checkpoint. Did you mean vgg_16_train?')
    (tmp_path / 'vgg_16_train' / 'checkpoint').unlink()
    (told,) = checkpoint_files.problems(str(tmp_path / 'vgg_16.p'))
    assert told.endswith('there is no such checkpoint.')
    for name, beside in (('vgg_16.ckpt-100', 'vgg_16.ckpt-100.index'), ('vgg_16.tar.gz', 'vgg_16.tar.gz')):
        (tmp_path / beside).touch()
        (told,) = checkpoint_files.problems(str(tmp_path / name.replace('6', '7')))
        assert told.endswith(f'Did you mean {name}?')
