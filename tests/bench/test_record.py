"""Records: whole or not at all, never one over another, and what is computed for them."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from program import on_a_full_disk, python

from bench import files, record
from bench.errors import BenchError

SMALL = {'schema_version': 1, 'x': 1.5}


def test_a_second_record_of_the_same_name_takes_another_name(tmp_path: Path) -> None:
    first, second = (record.write({**SMALL, 'x': x}, str(tmp_path / 'new'), 'run') for x in (1, 2))
    assert [first.name, second.name] == ['run.json', 'run-2.json']
    assert [record.read(path)['x'] for path in (first, second)] == [1, 2]
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['run-2.json', 'run.json']


def test_a_plot_that_could_not_be_drawn_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    plot = tmp_path / 'plot.png'
    files.make(plot, lambda path: path.write_text('whole'))

    def half(path: Path) -> None:
        assert path.suffix == '.png'
        path.write_text('ha')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(BenchError, match=r'plot\.png could not be written: No space left'):
        files.make(plot, half)
    assert [path.name for path in tmp_path.iterdir()] == ['plot.png']
    assert plot.read_text() == 'whole'


def test_a_file_system_without_hard_links_takes_records_and_keeps_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, 'Operation not permitted')

    monkeypatch.setattr(Path, 'hardlink_to', refuse)
    paths = [record.write({**SMALL, 'x': x}, str(tmp_path), 'run') for x in (1, 2)]
    assert [record.read(path)['x'] for path in paths] == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {'run.json', 'run-2.json'}


def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path) -> None:
    statement = "from bench import record; record.write({'long': 'x' * 100_000}, sys.argv[1], 'run', 'profile')"
    done = on_a_full_disk(statement, str(tmp_path))
    assert done.stderr == ''
    assert done.stdout.startswith(f'The profile could not be written to {tmp_path}: ')
    assert 'File too large' in done.stdout
    assert '--result_dir=' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_it_writes_leaves_no_record(tmp_path: Path) -> None:
    code = (
        'import os, sys; from bench import record\n'
        'os.fsync = lambda file: os.kill(os.getpid(), 9)\n'
        "record.write({'x': 1}, sys.argv[1], 'run')\n"
    )
    assert python(code, str(tmp_path)).returncode == -9
    assert list(tmp_path.glob('*.json')) == []


def test_a_number_that_json_does_not_know_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='JSON'):
        record.write({'rate': float('nan')}, str(tmp_path), 'run')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('text', ['', '{"schema_version"', '[]', '{}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'broken.json'
    path.write_text(text)
    with pytest.raises(BenchError, match=r'broken\.json'):
        record.read(path)


def test_a_later_schema_is_not_misread(tmp_path: Path) -> None:
    path = tmp_path / 'later.json'
    path.write_text(json.dumps({'schema_version': record.SCHEMA_VERSION + 1}))
    with pytest.raises(BenchError, match='schema version'):
        record.read(path)


def test_fraction_of_the_peak_by_hand() -> None:
    # 3 G multiply-adds, 6 operations each, 10 images/sec: 180 GFLOP/s; the machine does 200.
    work = record.work(3_000_000_000, True, 10.0, 200e9)
    assert work['gflops'] == pytest.approx(180)
    assert work['fraction'] == pytest.approx(0.9)
    assert record.work(3_000_000_000, False, 10.0, 200e9)['gflops'] == pytest.approx(60)


def test_fingerprints_tell_machines_apart_and_ignore_order() -> None:
    assert record.fingerprint({'a': 1, 'b': 2}) == record.fingerprint({'b': 2, 'a': 1})
    assert record.fingerprint({'a': 1, 'b': 2}) != record.fingerprint({'a': 1, 'b': 3})


def test_one_step_gives_a_rate_without_an_interval() -> None:
    rate = record.throughput([2.0], 16)
    assert rate is not None
    assert (rate['images_per_second'], rate['low'], rate['high']) == (8.0, None, None)
    assert record.throughput([], 16) is None
