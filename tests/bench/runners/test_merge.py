"""One record of several, with every figure computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench import record
from bench.runners import merge

STEPS = [2.0, 2.1, 1.9, 2.0, 2.0]


def part(rank: int, steps: list[float], alone: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    """What a worker leaves: 4 images a step, 1 G multiply-adds an image."""
    rate = record.throughput(steps, 4)
    worker = {
        'rank': rank,
        'host': f'host{rank}',
        'cpus': [],
        'step_seconds': steps,
        'alone_seconds': alone or [],
        'throughput': rate,
        'peak_memory_bytes': 1000 + rank,
    }
    written = {
        'started': f'2026-11-21T10:00:0{5 - rank}',
        'ended': {'time': f'2026-11-21T10:01:0{rank}', 'status': 'completed', 'reason': 'precise'},
        'config': {'distribution': {'variable_update': 'horovod'}},
        'images_per_step': 4,
        'workers': [worker],
        'throughput': rate,
        'work': record.work(1_000_000_000, True, 2.0, 100e9),
        'machine_rates': {
            'threads': 2,
            'peak_gflops': 100.0,
            'memory_gb_per_second': 20.0,
            'products': [{'gflops': 90.0}],
        },
        'warnings': [],
        **changes,
    }
    return {'record': written, 'exchange': {'payload_bytes': 400, 'sent_bytes': 400}, 'lost': False}


def test_synchronous_workers_have_the_first_ones_steps_and_all_ones_images() -> None:
    whole = merge.merged([part(0, STEPS), part(1, [9.0] * 5)], workers=2, synchronous=True)
    assert whole['images_per_step'] == 8
    assert whole['throughput']['images_per_second'] == pytest.approx(8 / 2.0)
    assert [worker['rank'] for worker in whole['workers']] == [0, 1]
    assert whole['started'] == '2026-11-21T10:00:04'
    assert whole['ended']['time'] == '2026-11-21T10:01:01'
    assert whole['distribution']['hosts'] == ['host0', 'host1']


def test_speeds_of_independent_workers_add_and_so_do_the_squares_of_their_widths() -> None:
    quick = [1.0, 1.1, 0.9, 1.0, 1.0, 1.1, 0.9, 1.0, 1.0, 1.0]
    whole = merge.merged([part(0, STEPS), part(1, quick)], workers=2, synchronous=False)
    own = [worker['throughput'] for worker in whole['workers']]
    assert whole['throughput']['images_per_second'] == pytest.approx(4 / 2.0 + 4 / 1.0)
    found, total = whole['throughput'], whole['throughput']['images_per_second']
    for end in ('low', 'high'):
        widths = [rate[end] - rate['images_per_second'] for rate in own]
        assert abs(found[end] - total) == pytest.approx(math.hypot(*widths))
    assert found['low'] < total < found['high']


def test_the_interval_of_speeds_that_add_does_not_reach_below_nothing() -> None:
    # As wide as that of a few steps of which one was slow.
    wide = {'images_per_second': 25.0, 'low': 9.0, 'high': 150.0, 'confidence': 0.95}
    parts = [part(rank, [0.16] * 5) for rank in (0, 1)]
    for each in parts:
        each['record']['workers'][0]['throughput'] = wide
    found = merge.merged(parts, workers=2, synchronous=False)['throughput']
    assert found['images_per_second'] == pytest.approx(50)
    assert found['low'] == pytest.approx(50 - 16 * math.sqrt(2))
    assert found['high'] == pytest.approx(50 + 125 * math.sqrt(2))


def test_what_a_worker_does_alone_when_another_has_stopped_counts_as_the_speed_of_both() -> None:
    # Both do a step in 2 seconds, for 10 seconds; then one goes on without the other, twice as fast.
    parts = [part(0, [2.0] * 5), part(1, [2.0] * 5 + [1.0] * 10)]
    assert merge.merged(parts, workers=2, synchronous=False)['throughput']['images_per_second'] == pytest.approx(4.0)
    # A step in progress counts by its part: 2 whole ones and 1.9 of 2.0 seconds in the 6 of the other.
    parts = [part(0, [2.1, 2.0, 2.0, 2.0]), part(1, [1.0] * 6)]
    images = merge.merged(parts, workers=2, synchronous=False)['throughput']['images_per_second']
    assert images == pytest.approx(4 * (2.95 + 6) / 6)


def test_a_worker_that_left_nothing_did_its_part_of_each_step() -> None:
    whole = merge.merged([part(1, STEPS)], workers=2, synchronous=True)
    assert whole['throughput']['images_per_second'] == pytest.approx(8 / 2.0)


def test_the_fraction_of_the_machine_is_of_all_workers_matrix_products() -> None:
    whole = merge.merged([part(0, STEPS), part(1, STEPS)], workers=2, synchronous=True)
    # 4 images/sec x 6 G operations beside 2 x 100 GFLOP/s.
    assert whole['work']['gflops'] == pytest.approx(24)
    assert whole['work']['fraction'] == pytest.approx(24 / 200)
    rates = whole['machine_rates']
    assert [rates[name] for name in ('threads', 'peak_gflops', 'memory_gb_per_second')] == [4, 200.0, 40.0]
    assert rates['products'] == [{'gflops': 180.0}]


def test_a_step_waits_for_its_exchange_beyond_the_slowest_workers_step_without_it() -> None:
    parts = [part(0, STEPS, alone=[1.5, 1.6, 1.4]), part(1, STEPS, alone=[1.8, 1.7, 1.9])]
    exchange = merge.merged(parts, workers=2, synchronous=True)['distribution']['exchange']
    assert exchange['seconds_without'] == pytest.approx(1.8)
    assert exchange['seconds'] == pytest.approx(0.2)
    assert exchange['payload_bytes'] == 400


def test_of_workers_that_step_by_themselves_each_waits_beyond_its_own_step_without_exchange() -> None:
    parts = [part(0, STEPS, alone=[1.5, 1.6, 1.4]), part(1, [3.0, 3.1, 2.9], alone=[2.0, 2.2, 1.8])]
    exchange = merge.merged(parts, workers=2, synchronous=False)['distribution']['exchange']
    assert exchange['seconds_without'] == pytest.approx((1.5 + 2.0) / 2)
    assert exchange['seconds'] == pytest.approx((0.5 + 1.0) / 2)


def test_the_exchanges_time_is_unknown_where_a_worker_did_not_measure_it() -> None:
    parts = [part(0, STEPS, alone=[1.5]), part(1, STEPS)]
    assert merge.merged(parts, workers=2, synchronous=True)['distribution']['exchange']['seconds'] is None


def test_one_failed_worker_fails_the_record() -> None:
    failed = {'time': '2026-11-21T10:00:30', 'status': 'failed', 'reason': 'no memory'}
    whole = merge.merged([part(0, STEPS), part(1, [], ended=failed, work=None)], workers=2, synchronous=True)
    assert (whole['ended']['status'], whole['ended']['reason']) == ('failed', 'no memory')
    assert whole['work'] is None
    assert whole['throughput']['images_per_second'] == pytest.approx(4.0)


def test_what_all_workers_warn_of_is_told_once_and_what_one_warns_of_is_told_of_it() -> None:
    same = {'code': 'onednn_off', 'text': 'oneDNN is off.'}
    own = {'code': 'not_steady', 'text': 'The step time changed.'}
    parts = [part(0, STEPS, warnings=[same]), part(1, STEPS, warnings=[same, own])]
    texts = [warning['text'] for warning in merge.merged(parts, workers=2, synchronous=True)['warnings']]
    assert texts == ['oneDNN is off.', 'Worker 1: The step time changed.']


def test_workers_on_the_same_processor_do_not_reach_the_sum_of_their_best_products() -> None:
    parts = [part(0, STEPS), part(1, STEPS), part(2, STEPS)]
    for each, cpus in zip(parts, ([0], [0], [1]), strict=True):
        each['record']['workers'][0] |= {'host': 'one', 'cpus': cpus}
    whole = merge.merged(parts, workers=3, synchronous=True)
    assert whole['work']['peak_gflops'] == pytest.approx(200)
    assert whole['machine_rates']['peak_gflops'] == pytest.approx(200)


def test_efficiency_is_a_ratio_whose_interval_knows_both_runs() -> None:
    job = {'images_per_second': 9.0, 'low': 8.91, 'high': 9.09}
    alone = {'images_per_second': 10.0, 'low': 9.8, 'high': 10.2}
    found = merge.scaling(job, alone)
    without = merge.scaling(job, {**alone, 'low': None, 'high': None})
    assert found['efficiency'] == pytest.approx(0.9)
    # 1 % and 2 % in quadrature are 2.236 %.
    assert (found['low'], found['high']) == pytest.approx((0.9 * (1 - 0.02236), 0.9 * (1 + 0.02236)), rel=1e-3)
    assert without['low'] is None


def test_efficiency_is_never_below_nothing_however_wide_the_intervals_are() -> None:
    wide = {'images_per_second': 1.4, 'low': 0.74, 'high': 11.97}
    found = merge.scaling(wide, wide)
    assert 0 < found['low'] < 1 < found['high']


def test_efficiencys_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    random = np.random.RandomState(5)
    held = 0
    for _ in range(1000):
        rates = [record.throughput(list(mean * random.lognormal(0, 0.1, 20)), 4) for mean in (1.25, 1.0)]
        found = merge.scaling(*rates)  # type: ignore[arg-type]
        held += found['low'] <= 0.8 <= found['high']
    assert 0.93 < held / 1000 < 0.998
