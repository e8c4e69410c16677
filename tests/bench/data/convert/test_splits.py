"""Order and division: every picture once, by the seed alone, in the wanted number, identical ones together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats

from bench.data.convert import splits


@dataclasses.dataclass
class InMemory:
    """Pictures for `twins`, which counts how many bytes it reads."""

    contents: list[bytes]
    read_bytes: int = 0

    @property
    def sizes(self) -> np.ndarray:
        return np.array([len(content) for content in self.contents], np.int64)

    def name(self, index: int) -> str:
        return str(index)

    place = name

    def read(self, index: int, start: int = 0) -> bytes:
        self.read_bytes += len(self.contents[index]) - start
        return self.contents[index][start:]


@pytest.mark.parametrize('seed', range(5))
def test_groups_stay_together_and_the_number_held_out_is_exact(seed: int) -> None:
    random = np.random.RandomState(seed)
    groups = random.randint(0, 300, 500)
    train, held_out = splits.divide(groups, 77, seed)
    assert len(held_out) == 77
    assert sorted([*train, *held_out]) == list(range(500))
    assert not set(groups[train]) & set(groups[held_out])


def test_each_picture_is_held_out_as_often_as_any_other() -> None:
    """Over 2,000 seeds, 12 of 40 pictures: chi-squared of the counts; a fair choice fails once in 10,000 times."""
    groups = np.arange(40)
    counts = np.zeros(40)
    for seed in range(2000):
        counts[splits.divide(groups, 12, seed)[1]] += 1
    # Without replacement the counts spread less than independent ones would: by 1 - 12 / 40.
    statistic = ((counts - 600) ** 2 / 600).sum() / (1 - 12 / 40)
    assert scipy.stats.chi2.sf(statistic, 39) > 1e-4


def test_groups_too_large_for_what_is_wanted_are_not_held_out() -> None:
    train, held_out = splits.divide(np.array([0, 0, 0, 1, 1]), 1, 0)
    assert len(held_out) == 0 and len(train) == 5


def test_the_order_is_the_same_on_every_machine_and_python() -> None:
    """Numbers of numpy's RandomState, which are guaranteed: another generator would silently divide anew."""
    assert splits.shuffled(10, 0).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


def test_twins_are_found_also_where_only_the_beginnings_differ() -> None:
    end = bytes(5000)
    contents = [b'a' + end, b'b' + end, b'a' + end, b'short', b'other', b'short', b'a' + end, b'']
    assert splits.twins(InMemory(contents)).tolist() == [0, 1, 0, 3, 4, 3, 0, 7]


def test_twins_among_many_are_found_wherever_they_are_and_the_search_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    contents = [b'%04d' % number for number in np.random.RandomState(0).randint(0, 2000, 3000)]
    first: dict[bytes, int] = {}
    wanted = [first.setdefault(content, index) for index, content in enumerate(contents)]
    assert splits.twins(InMemory(contents)).tolist() == wanted
    assert "comparing pictures' ends: 3,000 of 3,000 pictures" in capsys.readouterr().out


def test_pictures_of_different_lengths_are_not_read_and_of_others_the_end_alone() -> None:
    different = InMemory([bytes(1000 + index) for index in range(50)])
    splits.twins(different)
    assert different.read_bytes == 0
    random = np.random.RandomState(0)
    alike = InMemory([random.bytes(100_000) for _ in range(20)])
    splits.twins(alike)
    assert alike.read_bytes == 20 * 4096
