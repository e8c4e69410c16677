"""The profile of a step: each operation's time beside the time that this machine's roofline allows it.

An operation cannot be faster than its arithmetic at the machine's peak, nor than its bytes at the memory's bandwidth:
the roofline model (Williams, Waterman and Patterson, CACM 52, 2009). What it takes above that is lost. Operands that
are in the caches already can make an operation faster than the roofline, whose bytes all come from memory.

The operations and the time between them, in which TensorFlow looks for the next one, add up to the step where one
operation runs at a time (--num_inter_threads=1): each is the median of the traced steps, so that what disturbed one
operation in one of them is in neither.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from analysis import plots, roofline, statistics
from bench import files, record
from bench.machine.rates import Rates
from bench.record import Json
from bench.runners import operation_work, summary
from bench.runners.trace import Operation, Trace
from bench.screen import Screen

PROFILE_VERSION = 2
# What gradients, clones and updates put before the name of the layer that they belong to.
_PREFIX = re.compile(r'^(?:gradients/)?(?:clone_\d+/)?(?:\w+/update_)?')
_BATCH_NORM = '/BatchNorm'


def write(trace: Trace, rates: Mapping[str, Rates], run: Json, name: str, screen: Screen) -> None:
    """Shows the profile, writes it and its plot beside where the record will be, and notes its name in the record.

    Args:
      run: the record, before it is written.
      name: of the record.

    Raises:
      BenchError: it cannot be written.
    """
    folder = run['config']['output']['result_dir']
    found = assemble(trace, rates, {'title': summary.title(run), 'machine': plots.machine(run)})
    for line in ['', *roofline.lines(found), '']:
        screen.line(line)
    path = record.write(found, folder, f'{name}.profile', 'profile')
    run['profile'] = path.name
    screen.line(f'{"profile":<12}{path}')
    screen.progress('drawing the plot')
    plot = path.with_suffix('.png')
    files.make(plot, lambda drawn: roofline.plot(found, drawn))
    screen.line(f'{"plot":<12}{plot}')


def assemble(trace: Trace, rates: Mapping[str, Rates], run: Json) -> Json:
    """The profile as it is written.

    Args:
      rates: of the machine, by precision; every precision that an operation computes in.
      run: what was run and where, for the reader.
    """
    bandwidth = max(each.bytes_per_second for each in rates.values())
    peaks = {precision: each.peak for precision, each in rates.items()}
    scopes = layers(trace.operations)
    operations = [_line(operation, peaks, bandwidth, scopes) for operation in trace.operations]
    return {
        'profile_version': PROFILE_VERSION,
        'run': run,
        'peak_gflops': {precision: peak / 1e9 for precision, peak in peaks.items()},
        'memory_gb_per_second': bandwidth / 1e9,
        'traced_step_seconds': list(trace.step_seconds),
        'between_seconds': statistics.quantile(trace.between_seconds, 0.5),
        'operations': sorted(operations, key=lambda line: line['lost_seconds'] or 0.0, reverse=True),
    }


def _line(operation: Operation, peaks: Mapping[str, float], bandwidth: float, scopes: Collection[str]) -> Json:
    work = operation.work
    limit = max(work.operations / peaks[operation.precision], work.bytes / bandwidth) if work else None
    return {
        'name': operation.name,
        'type': operation.kind,
        'computes': operation_work.base(operation.kind),
        'layer': layer(operation.name, scopes),
        'count': operation.count,
        'precision': operation.precision,
        'seconds': operation.seconds,
        'operations': work.operations if work else None,
        'bytes': work.bytes if work else None,
        'product': work.product if work else False,
        'roofline_seconds': limit,
        'lost_seconds': None if limit is None else max(0.0, operation.seconds - limit),
    }


def layers(operations: Collection[Operation]) -> frozenset[str]:
    """The scopes of the convolutions and matrix products of the forward pass."""
    names = {each.name for each in operations if each.work and each.work.product and 'Backprop' not in each.kind}
    return frozenset(_scope(name) for name in names if not name.startswith('gradients'))


def layer(name: str, scopes: Collection[str]) -> str:
    """The layer that an operation belongs to by its name; the first two parts of the name where it belongs to none.

    Args:
      scopes: of the layers.
    """
    parts = _PREFIX.sub('', name).split('/')
    above = ('/'.join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((scope for scope in above if scope in scopes), '/'.join(parts[:2]).removesuffix('_grad'))


def _scope(name: str) -> str:
    scope = _PREFIX.sub('', name).rpartition('/')[0]
    # A batch norm that was folded into the convolution gave it its name.
    return scope.removesuffix(_BATCH_NORM)
