"""Traces steps: how long each operation took, and what it had to do. Imports TensorFlow.

TensorFlow itself notes the times and the shapes of the results (RunOptions.FULL_TRACE); the graph that ran, which is
not the one that was built, comes with them (output_partition_graphs).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from analysis import statistics
from bench.runners import operation_work
from bench.runners.operation_work import Operand, Work

# Traced, after one that lets TensorFlow prepare the graph once more; fewer where they take longer than that together.
_STEPS = 5
_SECONDS = 20.0
# What TensorFlow notes of the graph's beginning, which is no operation.
_SOURCE = '_SOURCE'
_PRECISIONS = {'float32': 'fp32', 'bfloat16': 'bf16'}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the graph that ran.

    Attributes:
      name: in the graph.
      kind: its type there, such as _MklNativeFusedConv2D.
      count: how often it ran in a step.
      seconds: in a step, the median of the traced ones.
      work: in a step; None where the shapes that it needs were not noted.
      precision: that it computes in.
    """

    name: str
    kind: str
    count: int
    seconds: float
    work: Work | None
    precision: str


@dataclasses.dataclass(frozen=True)
class Trace:
    """What was seen.

    Attributes:
      step_seconds: from the start of the first operation to the end of the last, of each step.
      between_seconds: in which no operation ran, while TensorFlow looked for the next one, of each step.
    """

    step_seconds: tuple[float, ...]
    operations: tuple[Operation, ...]
    between_seconds: tuple[float, ...]


def trace(session: tf.Session, fetches: Sequence[Any], stop_requested: Callable[[], bool]) -> Trace | None:
    """Runs some steps; None where it was stopped before the first was traced.

    Args:
      fetches: what a step computes.
    """
    if stop_requested():
        return None
    session.run(fetches)
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True)
    seen: list[tf.RunMetadata] = []
    start = time.monotonic()
    while len(seen) < _STEPS and not stop_requested() and not (seen and time.monotonic() - start > _SECONDS):
        seen.append(tf.RunMetadata())
        session.run(fetches, options=options, run_metadata=seen[-1])
    return read(seen) if seen else None


def read(steps: Sequence[tf.RunMetadata]) -> Trace:
    """Puts together what TensorFlow noted of each step."""
    nodes = {node.name: node for graph in steps[0].partition_graphs for node in graph.node}
    stats = [[node for device in step.step_stats.dev_stats for node in device.node_stats] for step in steps]
    seconds: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for index, ran in enumerate(stats):
        for stat in (stat for stat in ran if stat.node_name != _SOURCE):
            each = seconds.setdefault(stat.node_name, [0.0] * len(steps))
            each[index] += (stat.op_end_rel_nanos - stat.op_start_rel_nanos) / 1e9
            counts[stat.node_name] = counts.get(stat.node_name, 0) + 1
    results = _results(stats[0])
    operations = []
    for name, each in seconds.items():
        count = max(1, counts[name] // len(steps))
        operations.append(_operation(name, nodes.get(name), results, count, statistics.quantile(each, 0.5)))
    return Trace(tuple(map(_duration, stats)), tuple(operations), tuple(map(_between, stats)))


def _duration(ran: Iterable[Any]) -> float:
    starts, ends = zip(*((s.all_start_nanos, s.all_start_nanos + s.all_end_rel_nanos) for s in ran), strict=True)
    return float(max(ends) - min(starts)) / 1e9


def _between(ran: Sequence[Any]) -> float:
    """The step without the time in which any operation ran; operations at the same time count once."""
    spans = sorted(
        (stat.all_start_nanos + stat.op_start_rel_nanos, stat.all_start_nanos + stat.op_end_rel_nanos)
        for stat in ran
        if stat.node_name != _SOURCE
    )
    busy = until = 0
    for start, end in spans:
        busy += max(0, end - max(start, until))
        until = max(until, end)
    return max(0.0, _duration(ran) - busy / 1e9)


def _results(ran: Iterable[Any]) -> dict[str, dict[int, Operand]]:
    """The results of every operation, by its name and their number."""
    found: dict[str, dict[int, Operand]] = {}
    for stat in ran:
        for output in stat.output:
            description = output.tensor_description
            shape = tuple(dimension.size for dimension in description.shape.dim)
            found.setdefault(stat.node_name, {})[output.slot] = _operand(shape, description.dtype)
    return found


def _operand(shape: tuple[int, ...], dtype: int) -> Operand:
    kind = tf.as_dtype(dtype).base_dtype
    item_bytes = 0 if kind in (tf.resource, tf.variant, tf.string) else kind.size
    return Operand(shape, _PRECISIONS.get(kind.name, kind.name), item_bytes)


def _operation(
    name: str, node: Any, results: Mapping[str, Mapping[int, Operand]], count: int, seconds: float
) -> Operation:
    if node is None:
        return Operation(name, 'unknown', count, seconds, None, 'fp32')
    inputs = [_input(text, results) for text in node.input if not text.startswith('^')]
    outputs = [operand for _, operand in sorted(results.get(name, {}).items())]
    transposed = {key: node.attr[key].b for key in ('transpose_a', 'adj_x') if key in node.attr}
    known = [operand for operand in inputs if operand is not None]
    try:
        if len(known) < len(inputs):
            raise LookupError(name)
        done = operation_work.work(node.op, known, outputs, transposed)
    except LookupError:
        return Operation(name, node.op, count, seconds, None, 'fp32')
    done = Work(count * done.operations, count * done.bytes, done.product)
    precision = 'bf16' if any(operand.precision == 'bf16' for operand in (*known, *outputs)) else 'fp32'
    return Operation(name, node.op, count, seconds, done, precision)


def _input(text: str, results: Mapping[str, Mapping[int, Operand]]) -> Operand | None:
    """The tensor that a node's input, `name` or `name:number`, names."""
    source, _, number = text.partition(':')
    return results.get(source, {}).get(int(number or 0))
