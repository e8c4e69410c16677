"""Where a TFRecord file was cut, seen from its end, against every cut of real files."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from bench.data import frames

# Zeros, and a record within a record, look like the beginning of one.
RECORDS = [b'first' * 9, bytes(70), b'third' + bytes(33), b'', b'the last' * 5]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / 'whole'
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def boundaries() -> list[int]:
    ends = [0]
    for record in RECORDS:
        ends.append(ends[-1] + len(record) + 16)
    return ends


@pytest.mark.parametrize('reach', [8, 64, 1 << 18])
def test_every_cut_within_a_record_is_found_and_no_other(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    monkeypatch.setattr(frames, '_REACH', reach)
    data = whole.read_bytes()
    assert len(data) == boundaries()[-1]
    for size in range(1, len(data) + 1):
        path = tmp_path / 'cut'
        path.write_bytes(data[:size])
        problem = frames.tail_problem(path)
        if size in boundaries():
            assert problem is None, size
        else:
            begin = max(end for end in boundaries() if end < size)
            assert problem is not None and str(path) in problem and f'the record at byte {begin}' in problem, size


def test_the_end_of_a_large_file_is_judged_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / 'large'
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in (100_000, 3_000_000, 400_000):
            writer.write(b'\x01' * size)
    assert frames.tail_problem(path) is None
    data = path.read_bytes()
    for lost in (1, 390_000, 399_995 + 16, 1_000_000):
        path.write_bytes(data[:-lost])
        assert 'truncated' in (frames.tail_problem(path) or ''), lost
    path.write_bytes(data[: -400_000 - 16])
    assert frames.tail_problem(path) is None


def test_a_file_that_ends_in_zeros_is_not_searched_byte_for_byte(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one has whose space was given, and whose content never came."""
    looked_at: list[bytes] = []

    def counted(header: bytes) -> int | None:
        looked_at.append(header)
        return length_of(header)

    length_of = frames.record_length
    monkeypatch.setattr(frames, 'record_length', counted)
    monkeypatch.setattr(frames, '_REACH', 1024)
    whole.write_bytes(b'\x01' * 5 + whole.read_bytes() + bytes(500_000))
    assert frames.tail_problem(whole) is None
    assert len(looked_at) < 200


@pytest.mark.parametrize('content', [b'label,file\n0,daisy.jpg\n' * 30, b'\x1f\x8b' + bytes(range(200)), b'short'])
def test_a_file_of_another_kind_is_left_to_the_reader_who_tells_what_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'other'
    path.write_bytes(content)
    problem = frames.tail_problem(path)
    assert problem is None or len(content) < 12


def test_records_of_a_damaged_file_are_not_counted(whole: Path) -> None:
    assert frames.count(whole) == len(RECORDS)
    data = bytearray(whole.read_bytes())
    whole.write_bytes(data[: boundaries()[2]])
    assert frames.count(whole) == 2
    data[boundaries()[2] + 1] ^= 1
    whole.write_bytes(data)
    assert frames.count(whole) is None


def test_the_first_records_are_those_that_were_written(whole: Path) -> None:
    assert list(frames.first_records(whole, 3)) == RECORDS[:3]
    assert list(frames.first_records(whole, 9)) == RECORDS
