"""The cells of a sweep: every combination of the values given to flags of `benchmark`, or the ladder's rungs."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence

from analysis import labels
from bench import flags, settings
from bench.config import BenchmarkConfig
from bench.errors import UsageError, nearest
from bench.machine import tuning
from bench.machine.capabilities import Capabilities
from bench.models import registry
from bench.sweep import ladder as ladders

Values = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One way to run.

    Attributes:
      values: of the flags that vary, as they were written; a rung of the ladder may leave one of them alone.
      words: the command line of a run.
      program: what stands before them instead of this program; empty for this one.
      left_out: why it cannot be run here, or None.
    """

    values: Values
    words: tuple[str, ...]
    left_out: str | None
    program: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from the others, for people."""
        return labels.name_of(self.values) or 'default'


@dataclasses.dataclass(frozen=True)
class Matrix:
    """All cells.

    Attributes:
      fixed: flags that have one value, as they were written.
      axes: names of the flags that vary.
      cells: in the order of the table.
      baselines: for each cell the number of the one that it is compared with.
      left_out: rungs that the ladder lacks here, each as a sentence.
    """

    fixed: Values
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    baselines: tuple[int, ...]
    left_out: tuple[str, ...]


def of(
    words: Sequence[str],
    baseline: str | None,
    capabilities: Callable[[], Capabilities],
    *,
    ladder: bool,
    divided: bool = False,
    also: type | None = None,
) -> Matrix:
    """The matrix that words such as --precision=fp32,bf16 span.

    Args:
      baseline: name=value,... of the cells that the others are compared with; the first one where None.
      ladder: vary what the ladder varies, too.
      divided: --batch_size is of all workers together.
      also: as flags.parse takes it.

    Raises:
      UsageError: the words are wrong, or there is no cell, or no baseline, that can be run here.
    """
    given, problems = flags.several(BenchmarkConfig, words, also)
    if 'result_dir' in given:
        problems.append('--result_dir: the records of a sweep go to the folder --sweep_dir=. Leave it out.')
    varied = [*(name for name, values in given.items() if len(values) > 1), *(ladders.AXES if ladder else ())]
    kept = tuning.kept() if varied else {}
    problems += [f'--{name} could not vary: {kept[name]} Unset it.' for name in varied if name in kept]
    rungs: Sequence[Values] = [{}]
    left_out: Sequence[str] = ()
    if ladder:
        problems += [f'--{name}: --ladder varies it. Leave it out.' for name in ladders.AXES if name in given]
        if baseline is not None:
            problems.append('--baseline: that of --ladder is TensorFlow without oneDNN. Leave it out.')
        rungs, left_out = ladders.rungs()
    if divided:
        problems += _division_problems(given)
        divided = not problems
    fixed = {name: values[0] for name, values in given.items() if len(values) == 1}
    axes = {name: values for name, values in given.items() if len(values) > 1}
    cells = []
    for values in itertools.product(*axes.values()):
        for rung in rungs:
            cell, wrong = _cell(fixed, {**dict(zip(axes, values, strict=True)), **rung}, capabilities, divided=divided)
            cells.append(cell)
            problems += wrong
    if not problems and all(cell.left_out for cell in cells):
        problems += [str(cell.left_out) for cell in cells]
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))
    named = rungs[0] if ladder else _named(baseline, axes)
    baselines = _baselines(cells, list(axes), named)
    fixed |= {'strong_scaling': 'true'} if divided else {}
    return Matrix(fixed, (*axes, *(ladders.AXES if ladder else ())), tuple(cells), baselines, tuple(left_out))


def _division_problems(given: Mapping[str, Sequence[str]]) -> list[str]:
    """Why no batch can be divided among workers."""
    missing = [name for name in ('num_workers', 'batch_size') if name not in given]
    if missing:
        return [
            f'--strong_scaling divides --batch_size among --num_workers, and --{" and --".join(missing)} is missing.'
        ]
    pairs = itertools.product(given['batch_size'], given['num_workers'])
    return [
        f'--strong_scaling: --batch_size={batch} cannot be divided among {workers} workers.'
        for batch, workers in pairs
        if batch.isdecimal() and workers.isdecimal() and (int(workers) < 1 or int(batch) % int(workers))
    ]


def _cell(
    fixed: Values, values: Values, capabilities: Callable[[], Capabilities], *, divided: bool
) -> tuple[Cell, list[str]]:
    """A cell, and what is wrong with its words wherever it is run."""
    typed = {**fixed, **values}
    if divided and typed['batch_size'].isdecimal() and typed['num_workers'].isdecimal():
        typed['batch_size'] = str(int(typed['batch_size']) // int(typed['num_workers']))
    words = tuple(f'--{name}={value}' for name, value in typed.items())
    config, wrong = settings.parse(BenchmarkConfig, words, 'sweep')
    try:
        registry.get(config.network.model)
    except UsageError as error:
        wrong += error.problems
    left_out = [] if wrong else config.problems(capabilities)
    return Cell(values, words, ' '.join(left_out) or None), wrong


def _named(baseline: str | None, axes: Mapping[str, Sequence[str]]) -> Values | None:
    """What --baseline= names."""
    if baseline is None:
        return None
    words = [f'--{part.strip()}' for part in baseline.split(';' if ';' in baseline else ',')]
    given, problems = flags.several(BenchmarkConfig, words)
    named = {name: values[0] for name, values in given.items()}
    for name, value in named.items():
        if value not in axes.get(name, ()):
            known = [f'{axis}={each}' for axis, values in axes.items() for each in values]
            hint = nearest(f'{name}={value}', known) or f' There are: {", ".join(known) or "none"}.'
            problems.append(f'--baseline={baseline}: {name}={value} is no value of the matrix.{hint}')
    if problems:
        raise UsageError(problems)
    return named


def _baselines(cells: Sequence[Cell], shared: Sequence[str], named: Values | None) -> tuple[int, ...]:
    """For each cell the number of the one that has the same values of the flags `shared`, but those that are named."""
    runnable = [number for number, cell in enumerate(cells) if not cell.left_out]
    if named is None:
        return (runnable[0],) * len(cells)
    numbers = {frozenset(cell.values.items()): number for number, cell in enumerate(cells)}
    found = []
    for cell in cells:
        wanted = {**{name: cell.values[name] for name in shared}, **named}
        found.append(numbers[frozenset(wanted.items())])
    problems = [
        f'The baseline {cells[number].name} cannot be run here: {cells[number].left_out} Name another with --baseline=.'
        for number in dict.fromkeys(found)
        if number not in runnable
    ]
    if problems:
        raise UsageError(problems)
    return tuple(found)


def programs_of(text: str) -> dict[str, tuple[str, ...]]:
    """The commands that --programs= names: NAME=COMMAND;..., of which an empty one is this program.

    Raises:
      UsageError: a part has no name, two have the same, or a command is not quoted as a shell wants it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for part in text.split(';'):
        name, equals, command = (piece.strip() for piece in part.partition('='))
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise UsageError([f'--programs: {part.strip()!r} is not quoted as a shell wants it: {error}.']) from None
        if not name or not equals or name in found:
            raise UsageError([f'--programs={text}: NAME=COMMAND;NAME=COMMAND with different names is expected.'])
        found[name] = words
    return found


def with_programs(made: Matrix, programs: Mapping[str, tuple[str, ...]]) -> Matrix:
    """Every cell in each of the programs, compared with its like in the first of them.

    What another program cannot do, only it can say.
    """
    cells = [
        dataclasses.replace(
            cell, values={'program': name, **cell.values}, program=words, left_out=None if words else cell.left_out
        )
        for name, words in programs.items()
        for cell in made.cells
    ]
    baselines = tuple(range(len(made.cells))) * len(programs)
    return dataclasses.replace(made, axes=('program', *made.axes), cells=tuple(cells), baselines=baselines)
