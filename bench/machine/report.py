"""The facts of a machine as tables for people, in 100 columns."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.machine import numa
from bench.machine.advice import Advice

Json = dict[str, Any]
_WIDTH = 100
_LEAST_WIDTH = 60
_STYLES = {'yes': 'green', 'done': 'green', 'no': 'red', 'try': 'yellow', 'unknown': 'dim'}


def render(facts: Json, advice: Iterable[Advice], *, colours: bool) -> str:
    """The tables as text."""
    width = max(_LEAST_WIDTH, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
    # Not printed by rich, which ends the program by itself where nobody reads any more.
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=colours)
    for title, rows in (
        ('Processor', _processor(facts)),
        ('What this process may use', _limits(facts)),
        ('Memory', _memory(facts['memory'])),
        ('TensorFlow', _tensorflow(facts)),
    ):
        table = Table(
            title=title, title_justify='left', title_style='bold', show_header=False, box=None, padding=(0, 2)
        )
        table.add_column(width=16)
        table.add_column(overflow='fold')
        for name, value in rows:
            table.add_row(name, Text(value))
        console.print(table)
        console.print()
    console.print(_instruction_sets(facts['instruction_sets']))
    console.print()
    console.print(_advice(advice))
    assert isinstance(console.file, io.StringIO), 'as it was made above'
    return '\n'.join(line.rstrip() for line in console.file.getvalue().splitlines())


def _unknown(value: Any, text: str = '{}') -> str:
    return 'unknown' if value is None else text.format(value)


def _processor(facts: Json) -> list[tuple[str, str]]:
    found = facts['processor']
    numbers = [f'{name} {found[name]}' for name in ('family', 'model', 'stepping') if found[name] is not None]
    virtual = {'none': 'no', 'yes': 'yes, of an unknown hypervisor', None: 'unknown'}
    nodes = [f'node {node}: {cpus or "no processors"}' for node, cpus in found['nodes'].items()]
    ranges = ''
    if found['most_megahertz'] is not None:
        ranges = f', {found["least_megahertz"]:.0f} to {found["most_megahertz"]:.0f} possible'
    kinds = '; '.join(f'{kind["name"]}: CPU {kind["cpus"]}' for kind in found['core_kinds'])
    return [
        ('name', f'{found["name"]} ({", ".join([found["vendor"], *numbers])})'),
        ('architecture', f'{found["architecture"]}, kernel {found["kernel"]}'),
        ('cores', f'{_unknown(found["cores"])} cores, {_unknown(found["threads"])} threads'),
        *([('kinds of cores', kinds)] if kinds else []),
        ('NUMA', '; '.join(nodes) or 'unknown'),
        ('caches', '; '.join(_cache(cache) for cache in found['caches']) or 'unknown'),
        ('frequency', _unknown(found['megahertz'], '{:.0f} MHz now') + ranges),
        ('heat', _heat(found['thermal_throttles'])),
        ('governor', _unknown(found['governor'])),
        ('virtual', virtual.get(found['hypervisor'], f'yes: {found["hypervisor"]}')),
        ('container', _container(facts['container'])),
    ]


def _heat(throttles: int | None) -> str:
    if throttles is None:
        return 'unknown: no counter here, so that no run is warned of it'
    return f'slowed the processors down {throttles} times since the machine started'


def _cache(cache: Json) -> str:
    kind = {'Data': ' data', 'Instruction': ' instructions'}.get(cache['kind'], '')
    return f'L{cache["level"]}{kind} {_size(cache["bytes"])} (CPU {cache["shared_by"]})'


def _container(found: Json | None) -> str:
    if found is None:
        return 'none'
    text = f'{found["runtime"]}, image {_unknown(found["image"])}, digest {_unknown(found["digest"])}'
    return f'{text}, id {found["id"][:12]}' if found['id'] else text


def _limits(facts: Json) -> list[tuple[str, str]]:
    found = facts['limits']
    quota = 'no limit on processors' if found['cpu_quota'] is None else f'time of {found["cpu_quota"]:g} CPU'
    memory = found['memory_limit_bytes']
    limit = 'no limit on memory' if memory is None else f'{_size(memory)} of memory'
    usable = f'{found["usable_cpus"]} at a time, on {found["usable_cores"]} of the cores'
    if found['cpu_quota'] is not None:
        # Not usable_cpus, which is a number of threads: it is rounded up.
        share = min(found['cpu_quota'], len(numa.parse(found['affinity'])))
        usable = f'as much time as {share:g} would give, on any of the affinity'
    return [
        ('processors', usable),
        ('affinity', found['affinity']),
        ('control group', f'{found["cgroup_version"] or "none"}: {quota}, {limit}'),
    ]


def _memory(found: Json) -> list[tuple[str, str]]:
    pages = f'{_unknown(found["transparent_huge_pages"])} (transparent)'
    if found['reserved_huge_pages'] is not None and found['huge_page_bytes'] is not None:
        pages += f'; {found["reserved_huge_pages"]} reserved of {_size(found["huge_page_bytes"])}'
    total, free, usable = (_size(found[f'{name}_bytes']) for name in ('total', 'available', 'usable'))
    return [
        ('size', f'{total}, {free} of it free; usable here {usable}'),
        ('swap', _size(found['swap_bytes']) if found['swap_bytes'] else 'none'),
        ('huge pages', pages),
        ('allocator', _unknown(found['allocator'])),
    ]


def _tensorflow(facts: Json) -> list[tuple[str, str]]:
    found, onednn = facts['tensorflow'], facts['onednn']
    state = {True: 'on', False: f'off: {onednn["reason"]}', None: f'unknown: {onednn["reason"]}'}[onednn['on']]
    openmp = found['openmp']
    version = onednn['version']
    rows = [
        ('build', f'{_unknown(found["version"])} ({_unknown(found["git_version"])}), {_unknown(found["package"])}'),
        ('compiler', _unknown(found['compiler'])),
        ('python', f'{found["python"]}, {_unknown(found["libc"])}'),
        (
            'OpenMP',
            'unknown' if openmp is None else ', '.join(openmp) or 'not linked with: KMP_* and OMP_* have no effect',
        ),
        ('MKL/oneDNN', f'{version}, {state}' if version else state),
    ]
    if onednn['isa']:
        rows.append(('oneDNN may use', f'{onednn["isa"]}; threads: {_unknown(onednn["runtime"])}'))
    rows += [(f'  {dtype} ran in', ', '.join(names)) for dtype, names in onednn['convolutions'].items()]
    return rows


def _instruction_sets(rows: Iterable[Json]) -> Table:
    table = Table(
        title='Instruction sets', title_justify='left', title_style='bold', box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    table.add_column('')
    table.add_column('processor\nhas it')
    table.add_column('TensorFlow\nbuilt for it')
    table.add_column('oneDNN\nuses it')
    table.add_column('seen', overflow='fold')
    for row in rows:
        states = [Text(row[column], _STYLES[row[column]]) for column in ('processor', 'built', 'onednn')]
        table.add_row(row['title'], *states, Text(row['evidence']))
    return table


def _advice(advice: Iterable[Advice]) -> Table:
    table = Table(title='Advice', title_justify='left', title_style='bold', box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column('setting', max_width=45, overflow='fold')
    table.add_column('applies')
    table.add_column('why', overflow='fold')
    for each in advice:
        table.add_row(Text(each.setting), Text(each.applies, _STYLES[each.applies]), Text(each.reason))
    return table


def _size(number: int) -> str:
    for unit, power in (('GiB', 30), ('MiB', 20), ('KiB', 10)):
        if number >= 1 << power:
            return f'{number / (1 << power):.4g} {unit}'
    return f'{number} bytes'
