"""The command `scaling`: from measured runs of some workers, what many more would reach, and under what assumptions.

Reads records and the file that `network --json` printed; the model is that of analysis/scaling.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import scaling
from bench import record
from bench.errors import BenchError, number
from bench.exchange.options import ScalingConfig
from bench.screen import Screen

_KINDS = {'horovod': scaling.RING, 'parameter_server': scaling.SERVERS}
# What a record has, and other files that lie beside records have not: settings, profiles, tables of sweeps.
_FIELDS = ('config', 'ended', 'workers', 'throughput')
# A normal distribution's 97.5 % quantile: half a 95 % interval is so many standard errors.
_ERRORS = 1.96


@dataclasses.dataclass(frozen=True)
class _Runs:
    """Runs of the same work with different numbers of workers.

    Attributes:
      left_out: what was not taken, and why, as sentences.
    """

    title: str
    images_per_worker: int
    exchange: scaling.Exchange
    points: tuple[scaling.Point, ...]
    left_out: tuple[str, ...]


def run(config: ScalingConfig, _words: Sequence[str]) -> int:
    """Fits, prints the measured points beside the model and beside what the others foretell of each, the projection and
    its assumptions; plots where asked to.

    Raises:
      BenchError: the records are not of one kind of work, or none of them exchanged anything.
    """
    runs, network = _read(config)
    fit = scaling.fit(runs.points, runs.exchange, network)
    counts = sorted({int(word) for word in config.workers.split(',')})
    found = _found(runs, fit, counts)
    with Screen(to_stderr=config.json) as screen:
        for line in _lines(runs, found):
            screen.line(line)
        if config.plot is not None:
            from analysis import scaling_plot

            path = Path(config.plot)
            temporary = path.with_name(f'.{path.name}.part')
            scaling_plot.plot(fit, runs.points, counts, runs.images_per_worker, runs.title, temporary)
            temporary.replace(path)
            screen.line(f'{"plot":<12}{path}')
    if config.json:
        print(json.dumps(found, indent=1))
    return 0


def _read(config: ScalingConfig) -> tuple[_Runs, scaling.Network]:
    """What the files say.

    Raises:
      BenchError: of all that is wrong with them.
    """
    problems: list[str] = []
    runs, network = None, None
    try:
        network = _network(Path(config.network or ''))
    except BenchError as error:
        problems.append(str(error))
    try:
        runs = _runs([each for path in config.paths() for each in _records(path)])
    except BenchError as error:
        problems.append(str(error))
    if runs is None or network is None:
        raise BenchError(' '.join(problems))
    return runs, network


def _records(path: Path) -> list[record.Json]:
    """The record in a file, or all that are in a folder: where it has none itself, in the folders of it, as a sweep's.

    Raises:
      BenchError: the file is none, or a record is of a later schema.
    """
    if path.is_dir():
        # A pipe of that name would be waited for.
        files = [file for file in sorted(path.glob('*.json')) if file.is_file() and _is_record(file)]
        files = files or [file for file in sorted(path.rglob('*.json')) if file.is_file() and _is_record(file)]
        return [record.read(file) for file in files]
    if not _is_record(path):
        raise BenchError(f'{path} is no record of a run. Name records, or folders of them.')
    return [record.read(path)]


def _is_record(path: Path) -> bool:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and all(name in found for name in _FIELDS)


def _network(path: Path) -> scaling.Network:
    try:
        found = json.loads(path.read_text())
        network = scaling.Network(found['latency_seconds'], min(found['bandwidth_out'], found['bandwidth_in']))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = 'it is empty' if path.is_file() and not path.stat().st_size else repr(error)
        raise BenchError(f'{path} is not what `network --json` prints: {why}.') from None
    if not (network.latency > 0 and network.bandwidth > 0):
        raise BenchError(f'{path}: latency and bandwidth above 0 are expected, not {network}.')
    return network


def _runs(records: Sequence[record.Json]) -> _Runs:
    done = [
        each
        for each in records
        if each['ended']['status'] == 'completed' and each['throughput'] and not each['config']['step']['forward_only']
    ]
    left_out = tuple(dict.fromkeys(filter(None, map(_sharing, done))))
    done = [each for each in done if not _sharing(each)]
    works = {_work(each) for each in done}
    if len(works) > 1:
        listed = '; '.join(sorted(works))
        raise BenchError(f'These records are of different work, which one model cannot fit: {listed}. {_instead(done)}')
    if any(each['config']['distribution']['variable_update'] == 'replicated' for each in done):
        raise BenchError('A record is of replicas, which are in one process and exchange nothing. Leave it out.')
    shared = [each['distribution'] for each in done if each['distribution']]
    kinds = {(each['variable_update'], _servers(run)) for run in done if (each := run['distribution'])}
    if len(kinds) != 1 or not kinds <= {(kind, servers) for kind in _KINDS for _, servers in kinds}:
        seen = (
            ', '.join(f'{kind} with {servers} servers' for kind, servers in sorted(kinds))
            or 'none with several workers'
        )
        raise BenchError(
            f'One way of exchange is needed, --variable_update={" or ".join(_KINDS)}, always with as many servers. '
            f'Among {len(done)} training runs there are: {seen}.' + ''.join(f' Left out: {text}' for text in left_out)
        )
    ((kind, servers),) = kinds
    if not all(each['synchronous'] for each in shared):
        raise BenchError('The model is of steps that all workers do together, and a record is of asynchronous ones.')
    payloads = sorted({each['exchange']['payload_bytes'] for each in shared})
    if len(payloads) > 1:
        listed = ', '.join(f'{payload:,}' for payload in payloads)
        raise BenchError(
            f'These runs exchange different amounts in a step, {listed} bytes, as with another --compression. Name '
            'those of one.'
        )
    network = done[0]['config']['network']
    return _Runs(
        title=f'{works.pop()}, {kind}',
        images_per_worker=network['batch_size'] * done[0]['config']['step']['num_clones'],
        exchange=scaling.Exchange(_KINDS[kind], payloads[0], servers),
        points=tuple(sorted(map(_point, done), key=lambda point: (not point.alone, point.workers))),
        left_out=left_out,
    )


def _sharing(found: record.Json) -> str:
    """That a run's workers shared processors, as more would not on machines of their own; '' where it is not known."""
    workers, threads = found['workers'], found['config']['threads']['num_intra_threads']
    processors = {(worker.get('host'), cpu) for worker in workers for cpu in worker.get('cpus') or ()}
    if not processors or len(processors) >= threads * len(workers):
        return ''
    return (
        f'runs in which {len(workers)} workers of {number(threads, "thread")} shared '
        f'{number(len(processors), "processor")}: they computed more slowly than on processors of their own.'
    )


def _servers(found: record.Json) -> int:
    return found['config']['distribution']['num_ps'] or 0


def _instead(records: Sequence[record.Json]) -> str:
    """What to do about runs of different work."""
    threads = {each['config']['threads']['num_intra_threads'] for each in records}
    if len(threads) == 1 or len({_network_of(each) for each in records}) > 1:
        return 'Name those of one.'
    return (
        'One worker by itself takes all processors, and several share them: run all with '
        f'--num_intra_threads={min(threads)}, or name runs whose workers have as many threads.'
    )


def _work(found: record.Json) -> str:
    """What must be the same in all runs of a model."""
    return f'{_network_of(found)}, threads of a worker: {found["config"]["threads"]["num_intra_threads"]}'


def _network_of(found: record.Json) -> str:
    """A run's network and what a worker does with it."""
    network = found['config']['network']
    count = found['config']['step']['num_clones']
    clones = f'{count} clones of ' if count > 1 else ''
    size = network['image_size']
    return (
        f'{network["model"]}, {clones}batch {network["batch_size"]} of {size}x{size}, '
        f'{network["data_format"]}, {network["precision"]}'
    )


def _point(found: record.Json) -> scaling.Point:
    rate, shared = found['throughput'], found['distribution']
    seconds = found['images_per_step'] / rate['images_per_second']
    error = None
    if rate['low'] is not None:
        error = seconds * (rate['high'] - rate['low']) / 2 / _ERRORS / rate['images_per_second']
    return scaling.Point(len(found['workers']), seconds, error, alone=shared is None)


def _found(runs: _Runs, fit: scaling.Fit, counts: Sequence[int]) -> dict[str, Any]:
    measured = []
    foretold = scaling.foretold(runs.points, fit.exchange, fit.network)
    for point, from_others in zip(runs.points, foretold, strict=True):
        images = point.workers * runs.images_per_worker
        seconds = fit.compute if point.alone else scaling.step_seconds(fit, point.workers).estimate
        measured.append(
            {
                'workers': point.workers,
                'alone': point.alone,
                'images_per_second': images / point.seconds,
                'model': images / seconds if seconds > 0 else None,
                'from_others': images / from_others if from_others else None,
            }
        )
    projected = []
    for count in counts:
        rate, part = scaling.throughput(fit, count, runs.images_per_worker), scaling.efficiency(fit, count)
        projected.append(
            {
                'workers': count,
                'images_per_second': rate.estimate,
                'low': rate.low,
                'high': rate.high,
                'efficiency': part.estimate,
                'efficiency_low': part.low,
                'efficiency_high': part.high,
            }
        )
    return {
        'work': runs.title,
        'exchange': dataclasses.asdict(fit.exchange),
        'network': dataclasses.asdict(fit.network),
        'compute_seconds': fit.compute,
        'exchange_factor': fit.factor,
        'exchange_factor_fitted': fit.fitted,
        'measured': measured,
        'projected': projected,
        'left_out': list(runs.left_out),
        'assumptions': list(scaling.assumptions(fit.exchange)),
    }


def _lines(runs: _Runs, found: dict[str, Any]) -> list[str]:
    network, exchange = found['network'], found['exchange']
    how = 'fitted' if found['exchange_factor_fitted'] else 'assumed, as these runs do not tell'
    lines = [
        f'{"work":<12}{runs.title}',
        f'{"network":<12}{1e6 * network["latency"]:.1f} microseconds, {network["bandwidth"] / 1e6:,.0f} MB/s',
        f'{"exchange":<12}{exchange["payload_bytes"] / 1e6:,.1f} MB of gradients from each worker in a step',
        f'{"model":<12}{1e3 * found["compute_seconds"]:.1f} ms to compute + {found["exchange_factor"]:.2f} times what '
        f'the network needs ({how})',
        *(f'{"left out":<12}{text}' for text in runs.left_out),
        '',
        f'{"workers":>8}{"measured":>12}{"model":>12}{"":>10}{"from others":>14}{"":>10}   images/sec',
    ]
    for row in found['measured']:
        rate = row['images_per_second']
        model, others = _beside(row['model'], rate, 12), _beside(row['from_others'], rate, 14)
        text = f'{row["workers"]:>8}{rate:>12,.2f}{model}{others}'
        lines.append(f'{text}   exchanging nothing' if row['alone'] else text)
    lines.append('from others: what the model says of a run that it was not fitted to, but to all others')
    lines += ['', f'{"workers":>8}{"projected":>12}{"95 % interval":>24}{"efficiency":>12}   images/sec']
    for row in found['projected']:
        high = f'{row["high"]:,.1f}' if row['high'] is not None else 'any'
        interval = f'{row["low"]:,.1f} to {high}'
        lines.append(
            f'{row["workers"]:>8}{row["images_per_second"]:>12,.1f}{interval:>24}{100 * row["efficiency"]:>10.1f} %'
        )
    return [*lines, '', 'This assumes:', *(f'- {text};' for text in found['assumptions'])]


def _beside(found: float | None, measured: float, width: int) -> str:
    """What the model says, and how far it is from what was measured."""
    if found is None:
        return f'{"-":>{width}}{"":>10}'
    return f'{found:>{width},.2f}{f"{100 * (found / measured - 1):+.1f} %":>10}'
