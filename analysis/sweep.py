"""What a sweep's records say: one row a cell, its speed and how many times as fast as its baseline it is.

Pure functions of records, which come from fresh processes in interleaved rounds: a cell's speed is the geometric mean
of its runs, and a ratio comes from the pairs within the rounds, so that what slows the machine for a while cancels.
Never imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis import labels, statistics

Json = dict[str, Any]

SCHEMA_VERSION = 1

# What --ladder varies.
_LADDER = ('mkl', 'onednn_max_isa', 'precision', 'data_format')
# Flags that slow the large products down, too, so that a cell's own peak is not the machine's.
_LIMITING = ('mkl', 'onednn_max_isa', 'num_intra_threads', 'cpu_affinity', 'numa_node')
_TOO_WIDE = 'too few runs, too different'


@dataclasses.dataclass(frozen=True)
class Cell:
    """One way to run, and what came of its runs.

    Attributes:
      values: of the flags that vary.
      command: of a run.
      left_out: why it was not run, or None.
      baseline: the number of the cell that it is compared with.
      records: of the completed runs, by round.
      failures: why other runs failed, by round.
    """

    values: Mapping[str, str]
    command: str
    left_out: str | None
    baseline: int
    records: Mapping[int, Json]
    failures: Mapping[int, str]


def table(cells: Sequence[Cell], axes: Sequence[str], facts: Mapping[str, Any]) -> Json:
    """The table, as it is written to table.json.

    Args:
      axes: the flags that vary, in the order of the columns.
      facts: to be in it, too: what all cells share.

    Returns:
      `cells` holds a row each: `images_per_second` and `times_baseline` (estimate, low, high, confidence; low and high
      are None where there are too few runs), `fraction_of_peak` (of what large products reach with its settings),
      `fraction_of_best_peak` (of the highest such peak of all cells in the same precision), `per_core` (speed per core
      beside the fewest workers, where the number of workers varies) and the speed in each round; None is what could not
      be had.
    """
    rows = [_row(number, cell, cells) for number, cell in enumerate(cells)]
    best = _best_peaks(cells)
    for row, cell in zip(rows, cells, strict=True):
        row['fraction_of_best_peak'] = _of_best_peak(cell, best)
    if 'num_workers' in axes:
        for row, cell in zip(rows, cells, strict=True):
            row['per_core'] = _per_core(cell, cells)
    return {
        'schema_version': SCHEMA_VERSION,
        **facts,
        'axes': list(axes),
        'cells': rows,
        'warnings': _warnings(cells),
        'machine': machine(cells),
    }


def _row(number: int, cell: Cell, cells: Sequence[Cell]) -> Json:
    speeds = _speeds(cell)
    fractions = [record['work']['fraction'] for record in cell.records.values() if record['work']]
    return {
        'values': dict(cell.values),
        'command': cell.command,
        **_job(cell),
        'left_out': cell.left_out,
        'baseline': cell.baseline,
        'images_per_second': _speed(cell),
        'is_baseline': number == cell.baseline,
        'times_baseline': None if number == cell.baseline else _ratio(speeds, _speeds(cells[cell.baseline])),
        'fraction_of_peak': statistics.geometric_mean(fractions) if fractions else None,
        'rounds': {str(round_ + 1): speed for round_, speed in sorted(speeds.items())},
        'failures': {str(round_ + 1): reason for round_, reason in sorted(cell.failures.items())},
    }


def _peaks(cell: Cell) -> dict[str, float]:
    """What large products reached beside its runs, by precision: GFLOP/s."""
    found: dict[str, list[float]] = {}
    for record in cell.records.values():
        if record['work']:
            peak = record['work']['gflops'] / record['work']['fraction']
            found.setdefault(record['config']['network']['precision'], []).append(peak)
    return {precision: statistics.geometric_mean(peaks) for precision, peaks in found.items()}


def _best_peaks(cells: Sequence[Cell]) -> dict[str, float]:
    """The highest of all cells."""
    every = [pair for cell in cells for pair in _peaks(cell).items()]
    return {precision: max(peak for other, peak in every if other == precision) for precision, _ in every}


def _of_best_peak(cell: Cell, best: Mapping[str, float]) -> float | None:
    works = [(record['work'], record['config']['network']['precision']) for record in cell.records.values()]
    fractions = [work['gflops'] / best[precision] for work, precision in works if work]
    return statistics.geometric_mean(fractions) if fractions else None


def _job(cell: Cell) -> Json:
    config = next((record['config'] for record in cell.records.values()), None)
    if config is None:
        return {'model': None, 'job': None}
    job = 'input' if config['data']['input_only'] else 'inference' if config['step']['forward_only'] else 'training'
    return {'model': config['network']['model'], 'job': job}


def _speeds(cell: Cell) -> dict[int, float]:
    """Images/sec by round."""
    return {round_: record['throughput']['images_per_second'] for round_, record in cell.records.items()}


def _speed(cell: Cell) -> Json | None:
    if len(cell.records) == 1:
        # What the run says of itself; how another one would differ, it cannot know.
        (record,) = cell.records.values()
        rate = record['throughput']
        return {'estimate': rate['images_per_second'], **{name: rate[name] for name in ('low', 'high', 'confidence')}}
    speeds = list(_speeds(cell).values())
    return dataclasses.asdict(statistics.geometric_mean_interval(speeds)) if speeds else None


def _ratio(speeds: Mapping[int, float], baseline: Mapping[int, float]) -> Json | None:
    shared = sorted(speeds.keys() & baseline.keys())
    if not shared:
        return None
    pairs = [speeds[round_] for round_ in shared], [baseline[round_] for round_ in shared]
    return dataclasses.asdict(statistics.paired_ratio_interval(*pairs))


def _per_core(cell: Cell, cells: Sequence[Cell]) -> float | None:
    """Speed per core, as a part of that of the cell with the fewest workers that has all other values."""
    others = {name: value for name, value in cell.values.items() if name != 'num_workers'}
    alike = [each for each in cells if {**each.values, **others} == dict(each.values) and each.records]
    if not cell.records or not alike:
        return None
    fewest = min(alike, key=workers)

    def rate(each: Cell) -> float:
        return statistics.geometric_mean(list(_speeds(each).values())) / _cores(each)

    return rate(cell) / rate(fewest)


def workers(cell: Cell) -> int:
    """How many processes its runs had."""
    return max((len(record['workers']) for record in cell.records.values()), default=0)


def _cores(cell: Cell) -> int:
    """On how many cores its runs computed: as many as threads, and no more than its workers were pinned to."""
    record = next(iter(cell.records.values()))
    threads: int = record['config']['threads']['num_intra_threads'] * len(record['workers'])
    pinned = {(worker.get('host'), cpu) for worker in record['workers'] for cpu in worker.get('cpus') or ()}
    return min(threads, len(pinned)) if pinned else threads


def _warnings(cells: Sequence[Cell]) -> list[Json]:
    """The warnings of all records, each once, with the cells that it is about."""
    found: dict[str, Json] = {}
    for cell in cells:
        for record in cell.records.values():
            for warning in record['warnings']:
                entry = found.setdefault(warning['code'], {**warning, 'runs': 0, 'cells': []})
                entry['runs'] += 1
                name = labels.name_of(cell.values)
                entry['cells'] += [name] if name not in entry['cells'] else []
        if len({_where(record) for record in cell.records.values()}) > 1:
            entry = {'code': 'other_machine', 'runs': len(cell.records), 'cells': [labels.name_of(cell.values)]}
            text = 'Its runs are of different machines, builds or environments. Sweep again, into another folder.'
            found[f'other_machine {labels.name_of(cell.values)}'] = {**entry, 'text': text}
    return [*found.values(), *_changes(cells)]


def _changes(cells: Sequence[Cell]) -> list[Json]:
    """That what no flag changes is not the same in all runs, as where a sweep went on after an upgrade."""
    # A program of its own may bring another TensorFlow.
    groups: dict[str | None, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.values.get('program'), []).append(cell)
    found = []
    for mine in groups.values():
        states: dict[tuple[str, ...], list[Cell]] = {}
        for cell in mine:
            for record in cell.records.values():
                states.setdefault(_installed(record), []).append(cell)
        if len(states) > 1:
            seen = [list(dict.fromkeys(values)) for values in zip(*states, strict=True)]
            differ = [' or '.join(values) for values in seen if len(values) > 1]
            fewest = min(states.values(), key=len)
            names = dict.fromkeys(labels.name_of(cell.values) for cell in fewest)
            text = f'Runs differ in more than their flags: {"; ".join(differ)}. Sweep again, into another folder.'
            found.append({'code': 'machine_changed', 'text': text, 'runs': len(fewest), 'cells': list(names)})
    return found


def _installed(record: Json) -> tuple[str, ...]:
    """Processor, kernel and TensorFlow of a run."""
    machine_, build = record['machine'], record['build']
    tensorflow = f'TensorFlow {build["tensorflow"]} ({build["git_version"]})'
    return str(machine_['cpu']['name']), f'kernel {machine_["kernel"]}', tensorflow


def _where(record: Json) -> tuple[Any, ...]:
    environment = tuple(sorted(record['environment'].items()))
    return record['machine_fingerprint'], record['build_fingerprint'], environment


def machine(cells: Sequence[Cell]) -> str | None:
    """Where the runs were, for headings."""
    record = next((record for cell in cells for record in cell.records.values()), None)
    if record is None:
        return None
    cpu = record['machine']['cpu']
    return f'{cpu["usable_cpus"]} processors of {cpu["name"]}, TensorFlow {record["build"]["tensorflow"]}'


def text(found: Json) -> list[str]:
    """The table's lines: one a cell, and a second one below it where some of its runs failed."""
    axes, rows = found['axes'], found['cells']
    head = [*axes, 'images/sec', '95 % interval', 'x baseline', '95 % interval', '% of peak']
    head += ['% of best'] if _limited(axes) else []
    head += ['per core'] if 'num_workers' in axes else []
    lines = [_columns(row, axes) for row in rows]
    widths = [max(len(line[column]) for line in [head, *lines] if column < len(line)) for column in range(len(head))]
    out = [_aligned(head, widths, len(axes))]
    for row, line in zip(rows, lines, strict=True):
        note = _note(row)
        if row['rounds']:
            out += [_aligned(line, widths, len(axes)), *([f'    {note}'] if note else [])]
        else:
            out.append('  '.join(filter(None, [_aligned(line[: len(axes)], widths, len(axes)), note])))
    return out


def _limited(axes: Sequence[str]) -> bool:
    """Whether some cells' own peaks are lower than the machine's."""
    return bool(set(axes) & set(_LIMITING))


def _columns(row: Json, axes: Sequence[str]) -> list[str]:
    values = [row['values'].get(axis) or '-' for axis in axes]
    speed, ratio = row['images_per_second'], row['times_baseline']
    if speed is None:
        return values
    return [
        *values,
        number(speed['estimate']),
        _interval(speed, number),
        'baseline' if row['is_baseline'] else f'{ratio["estimate"]:.3f}' if ratio else '-',
        _interval(ratio, '{:.3f}'.format) if ratio else '',
        _percent(row['fraction_of_peak']),
        *([_percent(row['fraction_of_best_peak'])] if _limited(axes) else []),
        *([f'{row["per_core"]:.3f}'] if row.get('per_core') is not None else []),
    ]


def _percent(fraction: float | None) -> str:
    return '-' if fraction is None else f'{100 * fraction:.0f}'


def _aligned(parts: Sequence[str], widths: Sequence[int], left: int) -> str:
    """Columns two spaces apart, the first `left` of them aligned to the left."""
    pairs = enumerate(zip(parts, widths, strict=False))
    return '  '.join(part.ljust(width) if at < left else part.rjust(width) for at, (part, width) in pairs).rstrip()


def _interval(found: Json, form: Callable[[float], str]) -> str:
    if found['low'] is None:
        return '-'
    if not statistics.tells(found['low'], found['high']):
        return _TOO_WIDE
    return f'{form(found["low"])} to {form(found["high"])}'


def number(value: float) -> str:
    """Images/sec with four figures, or three behind the point."""
    digits = 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0
    return f'{value:,.{digits}f}'


def _note(row: Json) -> str:
    if row['left_out']:
        return f'left out: {row["left_out"]}'
    failed, done = row['failures'], row['rounds']
    if not failed:
        return '' if done else 'not run yet'
    reason = next(iter(failed.values()))
    return f'{len(failed)} of {len(failed) + len(done)} runs failed: {reason}' if done else f'failed: {reason}'


def legend(found: Json) -> list[str]:
    """What the table's numbers are, and the warnings of its runs: the lines below it."""
    rounds = max((len(row['rounds']) for row in found['cells']), default=0)
    how = (
        f'geometric mean of {rounds} runs in fresh processes, and its interval'
        if rounds > 1
        else 'one run, and the interval that it tells of itself; --repetitions=3 tells how runs differ'
    )
    lines = [
        '',
        f'images/sec  {how}',
        'x baseline  how many times as fast as the baseline, from the pairs within the rounds',
        "% of peak   of what the fastest large product reaches with the cell's own settings",
    ]
    if _limited(found['axes']):
        lines.append('% of best   of the highest such peak of all cells in the same precision')
    if 'num_workers' in found['axes']:
        lines.append('per core    speed per core, as a part of that with the fewest workers')
    if found['fixed']:
        lines.append(f'all cells   {" ".join(f"--{name}={value}" for name, value in found["fixed"].items())}')
    if found['machine']:
        lines.append(f'machine     {found["machine"]}')
    for warning in found['warnings']:
        cells = '; '.join(warning['cells'][:3]) + (' ...' if len(warning['cells']) > 3 else '')
        runs = '1 run' if warning['runs'] == 1 else f'{warning["runs"]} runs'
        lines.append(f'warning: in {runs}{f" ({cells})" if cells else ""}: {warning["text"]}')
    return lines


def ladder_answers(found: Json) -> list[str]:
    """What oneDNN brings with AVX2, with the best instruction set, and in bfloat16: a sentence for each baseline."""
    sentences = []
    for number_, baseline in enumerate(found['cells']):
        all_rungs = [row for row in found['cells'] if row['baseline'] == number_ and row['times_baseline']]
        rungs = [row for row in all_rungs if row['values']['mkl'] == 'on']
        fp32 = [row for row in rungs if row['values']['precision'] == 'fp32']
        if not fp32:
            continue
        parts = [
            _best(fp32),
            _best([row for row in fp32 if row['values'].get('onednn_max_isa') == 'AVX2']),
            _best([row for row in rungs if row['values']['precision'] == 'bf16']),
        ]
        first, *rest = [part for at, part in enumerate(parts) if part and part not in parts[:at]]
        verb = {'training': 'trains', 'inference': 'infers with'}.get(baseline['job'], 'feeds')
        others = {name: value for name, value in baseline['values'].items() if name not in (*_LADDER, 'model')}
        where = f' ({labels.name_of(others)})' if others else ''
        isa, ratio = first
        what = ' '.join(filter(None, ['oneDNN', isa, verb]))
        text_ = f'{what} {baseline["model"]}{where} {ratio} as fast as TensorFlow without it'
        sentences.append(', '.join([text_, *(f'{isa} {ratio}' for isa, ratio in rest)]) + '.')
        lower = [row for row in all_rungs if row['values']['mkl'] == 'off']
        sentences += _against_the_lowest([*fp32, baseline], lower[0]) if lower else []
    return sentences


def _against_the_lowest(rungs: Sequence[Json], lowest: Json) -> list[str]:
    """What all of it brings beside TensorFlow's own kernels with the least instruction set."""
    fastest = max(rungs, key=lambda row: row['images_per_second']['estimate'])
    speeds = [{int(round_): speed for round_, speed in row['rounds'].items()} for row in (fastest, lowest)]
    ratio = _ratio(*speeds)
    if ratio is None:
        return []
    own = f"TensorFlow's own kernels kept to {lowest['values']['onednn_max_isa']}"
    return [f'The fastest in float32 is {_times(ratio)} as fast as {own}.']


def _best(rungs: Sequence[Json]) -> tuple[str, str] | None:
    """The fastest of some rungs: how it computes, and how many times as fast as the baseline it is."""
    if not rungs:
        return None
    row = max(rungs, key=lambda row: row['times_baseline']['estimate'])
    values, ratio = row['values'], row['times_baseline']
    isa = values.get('onednn_max_isa', '').replace('AVX512_CORE_AMX', 'AMX').replace('_CORE', '').replace('_', '-')
    details = [
        f'with {isa}' if isa else '',
        'in bfloat16' if values['precision'] == 'bf16' else '',
        'in NCHW' if values['data_format'] == 'NCHW' else '',
    ]
    return ' '.join(filter(None, details)), _times(ratio)


def _times(ratio: Json) -> str:
    interval = ''
    if statistics.tells(ratio['low'], ratio['high']):
        interval = f' [{ratio["low"]:.2f}, {ratio["high"]:.2f}]'
    elif ratio['low'] is not None:
        interval = f' [{_TOO_WIDE}]'
    return f'{ratio["estimate"]:.2f} times{interval}'
