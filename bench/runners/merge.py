"""One record from those of several workers, each written as if it had been alone. Pure functions of JSON."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Sequence
from typing import Any

from bench import record
from bench.record import Json
from bench.runners import agreement


def merged(parts: Sequence[Json], *, workers: int, synchronous: bool) -> Json:
    """The record of a job.

    Synchronous workers do each step together, so that the first one's steps are those of all. Otherwise the job's
    speed is that of all workers from their common start until the first of them stops; where what one of them measured
    is lost, it is not known.

    Args:
      parts: of the workers, by rank: {'record': ..., 'exchange': what a step exchanges or None}; some may be missing.
      workers: how many there were.
    """
    records = [part['record'] for part in parts]
    differ = agreement.problems([agreement.terms(each['config']) for each in records])
    assert not differ, f'workers with different flags are refused before their first step: {differ}'
    whole = copy.deepcopy(records[0])
    whole['workers'] = [worker for each in records for worker in each['workers']]
    speeds = own_speeds(whole['workers'], whole['images_per_step'], synchronous=synchronous)
    whole['images_per_step'] = workers * whole['images_per_step']
    whole['started'] = min(each['started'] for each in records)
    whole['ended'] = _ended([each['ended'] for each in records])
    whole['throughput'] = _throughput(records, workers, whole['images_per_step'], synchronous=synchronous)
    apart = _apart(records)
    whole['work'] = _work([each['work'] for each in apart], whole['throughput'])
    whole['machine_rates'] = _machine_rates([each['machine_rates'] for each in apart])
    whole['warnings'] = _warnings(records)
    distribution = whole['config']['distribution']
    whole['distribution'] = {
        'variable_update': distribution['variable_update'],
        'synchronous': synchronous,
        'hosts': sorted({worker['host'] for worker in whole['workers']}),
        'exchange': _exchange(parts, whole['workers'], synchronous=synchronous),
        'spread': spread(speeds),
        'scaling': None,
    }
    return whole


def scaling(job: Json, alone: Json) -> Json:
    """How well a job scales: its throughput over that of one worker on the same processors, with its interval.

    The interval of a ratio from those of both, by recovering their variances on the logarithms (Donner and Zou, Stat
    Methods Med Res 21, 2012). It is about both measurements: what the machine did between them is outside it.

    Args:
      job, alone: `throughput` of both records.
    """
    efficiency = job['images_per_second'] / alone['images_per_second']
    low = high = None
    if job['low'] is not None and alone['low'] is not None:
        below, above = (
            [abs(math.log(rate[end] / rate['images_per_second'])) for rate, end in ((job, first), (alone, second))]
            for first, second in (('low', 'high'), ('high', 'low'))
        )
        low, high = efficiency * math.exp(-math.hypot(*below)), efficiency * math.exp(math.hypot(*above))
    return {
        'baseline_images_per_second': alone['images_per_second'],
        'efficiency': efficiency,
        'low': low,
        'high': high,
    }


def _ended(ends: Sequence[Json]) -> Json:
    """The worst of the workers' ends, the first one's among equals, at the time of the last."""
    order = ('completed', 'interrupted', 'failed')
    worst = max(ends, key=lambda end: order.index(end['status']))
    return {**worst, 'time': max(end['time'] for end in ends)}


def _throughput(records: Sequence[Json], workers: int, images: int, *, synchronous: bool) -> Json | None:
    if synchronous:
        return record.throughput(records[0]['workers'][0]['step_seconds'], images)
    own = [(each['images_per_step'], worker) for each in records for worker in each['workers'] if worker['throughput']]
    if len(own) < workers:
        return None
    rates = [worker['throughput'] for _, worker in own]
    stop = min(sum(worker['step_seconds']) for _, worker in own)
    total = sum(count * _steps_until(stop, worker['step_seconds']) for count, worker in own) / stop
    low = high = None
    if all(rate['low'] is not None for rate in rates):
        # Of the sum of the workers' own speeds, whose series are independent, each side from theirs: its lower end is
        # above 0 as theirs are (Zou, Huang and Zhang, Stat Methods Med Res 18, 2009).
        own_sum = sum(rate['images_per_second'] for rate in rates)
        below, above = (
            math.hypot(*(rate[end] - rate['images_per_second'] for rate in rates)) for end in ('low', 'high')
        )
        low, high = total * (1 - below / own_sum), total * (1 + above / own_sum)
    return {
        'images_per_second': total,
        'low': low,
        'high': high,
        'confidence': rates[0]['confidence'],
    }


def own_speeds(workers: Sequence[Json], images: int, *, synchronous: bool) -> list[float]:
    """Images/sec of each worker by itself, of those that measured it.

    Synchronous workers wait for the slowest in each step, which makes their steps equally long: what each one's own
    speed is, its median step without exchange tells.

    Args:
      images: of one worker's step.
    """
    if synchronous:
        alone = [worker['alone_seconds'] for worker in workers if worker['alone_seconds']]
        return [images / statistics.median(seconds) for seconds in alone]
    return [worker['throughput']['images_per_second'] for worker in workers if worker['throughput']]


def spread(speeds: Sequence[float]) -> Json | None:
    """How the workers' own speeds differ; None where there are not two."""
    if len(speeds) < 2:
        return None
    return {'low': min(speeds), 'median': statistics.median(speeds), 'high': max(speeds)}


def _steps_until(stop: float, step_seconds: Sequence[float]) -> float:
    """How many steps are done after so many seconds, the one that is being done by its part."""
    end = 0.0
    for done, seconds in enumerate(step_seconds):
        if end + seconds >= stop:
            return done + (stop - end) / seconds
        end += seconds
    return len(step_seconds)


def _apart(records: Sequence[Json]) -> list[Json]:
    """One record for each share of the processors: what several workers reach on one, each at its best, is no sum."""
    found: dict[tuple[Any, ...], Json] = {}
    for each in records:
        worker = each['workers'][0]
        place = (worker['host'], *(worker['cpus'] or (None, worker['rank'])))
        best = found.get(place)
        if (
            best is None
            or not best['work']
            or (each['work'] and each['work']['peak_gflops'] > best['work']['peak_gflops'])
        ):
            found[place] = each
    return list(found.values())


def _work(works: Sequence[Json | None], rate: Json | None) -> Json | None:
    """The arithmetic of all beside what the fastest products, in each worker at the same time, reach together."""
    if rate is None or not all(works):
        return None
    first = works[0] or {}
    return record.work(
        first['multiply_adds_per_image'],
        first['operations_per_multiply_add'] == 6,
        rate['images_per_second'],
        1e9 * sum((work or {})['peak_gflops'] for work in works),
    )


def _machine_rates(rates: Sequence[Json | None]) -> Json | None:
    """What all workers reached at the same time, each on its own threads."""
    first = rates[0]
    if first is None or None in rates:
        return None
    each = [rate for rate in rates if rate is not None]
    return {
        **first,
        'threads': sum(rate['threads'] for rate in each),
        'peak_gflops': sum(rate['peak_gflops'] for rate in each),
        'memory_gb_per_second': sum(rate['memory_gb_per_second'] for rate in each),
        'products': [
            {**product, 'gflops': sum(rate['products'][index]['gflops'] for rate in each)}
            for index, product in enumerate(first['products'])
        ],
    }


def _warnings(records: Sequence[Json]) -> list[Json]:
    """The first worker's, and what others alone have to say."""
    found: list[Json] = list(records[0]['warnings'])
    for each in records[1:]:
        known = {warning['code'] for warning in found}
        rank = each['workers'][0]['rank']
        found += [
            {**warning, 'text': f'Worker {rank}: {warning["text"]}'}
            for warning in each['warnings']
            if warning['code'] not in known
        ]
    return found


def _exchange(parts: Sequence[Json], workers: Sequence[Json], *, synchronous: bool) -> Json | None:
    """Bytes of a step, and the time that a step waits for them.

    That is what it is longer than the slowest worker's without; where workers do their steps by themselves, the mean of
    what each one's are longer than its own without.
    """
    told: Any = parts[0].get('exchange')
    if told is None:
        return None
    found: Json = {'method': 'difference', 'seconds': None, 'seconds_without': None}
    if all(worker['step_seconds'] and worker['alone_seconds'] for worker in workers):
        steps, without = (
            [statistics.median(worker[name]) for worker in workers] for name in ('step_seconds', 'alone_seconds')
        )
        alone = max(without) if synchronous else statistics.fmean(without)
        found |= {'seconds': (steps[0] if synchronous else statistics.fmean(steps)) - alone, 'seconds_without': alone}
    return {**told, **found}
