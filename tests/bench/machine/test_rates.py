"""What the machine does at the most: sizes by hand, and that real products and arrays are what is timed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from bench.machine import rates
from bench.runners import session

MIB = 2**20


def test_arrays_are_beyond_all_caches_and_within_memory() -> None:
    assert rates.array_bytes(32 * MIB, 64 * 2**30) == 128 * MIB
    assert rates.array_bytes(0, 64 * 2**30) == 64 * MIB
    assert rates.array_bytes(384 * MIB, 2**40) == 1024 * MIB
    assert rates.array_bytes(32 * MIB, 2**30) == 64 * MIB


def test_a_cache_that_processors_share_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 9})
    for cpu, shared in ((0, '0-1'), (1, '0-1'), (2, '2-3'), (5, '4-5')):
        folder = tmp_path / f'cpu{cpu}' / 'cache' / 'index3'
        folder.mkdir(parents=True)
        (folder / 'shared_cpu_list').write_text(f'{shared}\n')
        (folder / 'size').write_text('32768K\n')
    assert rates.last_level_cache_bytes(tmp_path) == 64 * MIB


def test_the_peak_is_the_fastest_product() -> None:
    found = rates.Rates('bf16', 2, {'small': 300e9, 'large': 417e9, 'convolution': 390e9}, 21e9).as_json()
    assert (found['peak_gflops'], found['peak_of']) == (pytest.approx(417), 'large')
    assert [each['gflops'] for each in found['products']] == pytest.approx([300, 417, 390])
    assert found['memory_gb_per_second'] == pytest.approx(21)


def test_the_operations_that_are_counted_are_those_that_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # A second each: the rates are then the counts themselves.
    monkeypatch.setattr(rates, '_MATRICES', (8, 16))
    monkeypatch.setattr(rates, '_IMAGES', (2, 4, 5, 6))
    monkeypatch.setattr(rates, '_LEAST_ARRAY', 4096)
    monkeypatch.setattr(rates, 'last_level_cache_bytes', lambda: 0)
    ran = []

    def best(runs: list, seconds: float) -> list[float]:
        for run in runs:
            run()
        ran.append(len(runs))
        return [1.0] * len(runs)

    monkeypatch.setattr(rates, '_best', best)
    config = session.config(intra_threads=2, inter_threads=1, precision='fp32', xla=False)
    seen = rates.measure(config, 'fp32')
    assert seen.products == {
        'matrix product of 8x8': 2 * 8**3,
        'matrix product of 16x16': 2 * 16**3,
        '3x3 convolution of 2x4x5x6': 2 * (2 * 4 * 5 * 6) * (3 * 3 * 6),
    }
    assert seen.bytes_per_second == 3 * 4096
    assert ran == [3, 1]
    assert seen.threads == 2
    assert tf.get_default_graph().get_operations() == []


def test_each_product_is_run_four_times_more_but_a_slow_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ran = [0.0], [0, 0, 0]
    # The smallest is slow at first, and is measured all the same; the last would take most of the time.
    durations = ([0.4, 0.2, 0.1, 0.2, 0.2], [0.3, 0.29, 0.28, 0.27, 0.26], [0.31])

    def product(index: int) -> Callable[[], None]:
        def run() -> None:
            now[0] += durations[index][ran[index]]
            ran[index] += 1

        return run

    monkeypatch.setattr('time.perf_counter', lambda: now[0])
    best = rates._best([product(index) for index in range(3)], 0.5)
    assert ran == [5, 5, 1]
    assert best == pytest.approx([0.1, 0.26, 0.31])
