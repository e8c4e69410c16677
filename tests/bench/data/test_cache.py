"""What a cache would hold, and that one which does not fit is refused with sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from PIL import Image

from bench.data import cache
from bench.data.datasets import Dataset

IMAGES = Path(__file__).parents[2] / 'data' / 'images'


@pytest.fixture
def with_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes so many bytes of memory be free."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(psutil, 'virtual_memory', lambda: SimpleNamespace(available=free, total=1 << 50))

    return set_free


@pytest.fixture
def photos(dataset: Dataset, records: SimpleNamespace) -> Dataset:
    """Three shards of the same photo, of 500 x 396 pixels."""
    for shard in dataset.shards:
        shard.write_bytes(3 * records.frame(records.make(0, 'great_dane.jpg')))
    return dataset


def test_a_cache_that_takes_three_quarters_of_what_is_free_is_taken_and_a_larger_one_refused(
    photos: Dataset, with_free: Callable[[int], None]
) -> None:
    needed = sum(shard.stat().st_size for shard in photos.shards)
    with_free(needed * 4 // 3 + 4)
    assert cache.problems(photos, 'encoded', 3) == []
    with_free(needed * 4 // 3 - 4)
    (told,) = cache.problems(photos, 'encoded', 3)
    assert f'{needed / 1024:.1f} KiB' in told and f'{(needed * 4 // 3 - 4) / 1024:.1f} KiB' in told


@pytest.mark.parametrize('channels', [1, 3])
def test_decoded_pictures_take_the_bytes_of_their_pixels(
    photos: Dataset, with_free: Callable[[int], None], channels: int
) -> None:
    assert Image.open(IMAGES / 'great_dane.jpg').size == (500, 396)
    needed = 9 * 500 * 396 * channels
    with_free(needed * 4 // 3 + 8)
    assert cache.problems(photos, 'decoded', channels) == []
    with_free(needed * 4 // 3 - 8)
    (told,) = cache.problems(photos, 'decoded', channels)
    assert 'about' in told and f'{needed / 2**20:.1f} MiB' in told
    # The records themselves, of 35 KB each, do fit.
    assert '--cache_data=encoded' in told


def test_pictures_of_which_a_part_is_sampled_are_counted_whole(
    photos: Dataset, with_free: Callable[[int], None], records: SimpleNamespace
) -> None:
    # 50 shards, of which every fourth is looked at.
    shards = []
    for number in range(50):
        path = photos.shards[0].with_name(f'shard {number}')
        path.write_bytes(2 * records.frame(records.make(0, 'great_dane.jpg')))
        shards.append(path)
    many = dataclasses.replace(photos, shards=tuple(shards))
    needed = 100 * 500 * 396 * 3
    with_free(needed * 4 // 3 + 400)
    assert cache.problems(many, 'decoded', 3) == []
    with_free(needed * 4 // 3 - 400)
    assert len(cache.problems(many, 'decoded', 3)) == 1


def test_shards_that_hold_no_pictures_are_left_to_the_reader(
    dataset: Dataset, with_free: Callable[[int], None]
) -> None:
    for shard in dataset.shards:
        shard.write_bytes(b'no records' * 20)
    with_free(1 << 40)
    assert cache.problems(dataset, 'decoded', 3) == []
