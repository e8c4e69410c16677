"""The command `sweep`: runs the cells of a matrix in fresh processes, round by round, and prints one table.

In each round every cell is run once, in an order of its own, so that a machine that grows slower favours none, and
ratios come from the pairs within the rounds (analysis/sweep.py). A sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import datetime
import json
import random
import shlex
import time
from collections.abc import Callable, Sequence

from analysis import sweep as tables
from bench import files, record
from bench.machine import capabilities, environment
from bench.runners.stop import StopRequest
from bench.screen import Screen
from bench.sweep import process
from bench.sweep.folder import Done, Folder
from bench.sweep.matrix import Matrix
from bench.sweep.options import SweepConfig

Run = tuple[int, int]


def run(config: SweepConfig, words: Sequence[str]) -> int:
    """Does the runs that are not done yet, then prints the table and draws the plot.

    Args:
      words: of the command line, which go on with the sweep when it is interrupted.

    Returns:
      The exit status: 0, or 1 where it was interrupted or a run failed.

    Raises:
      BenchError: another sweep runs in the folder, or it cannot be written.
    """
    matrix = config.matrix(capabilities.detect)
    folder = Folder(matrix, config.sweep_dir)
    with Screen(to_stderr=config.json) as screen, StopRequest() as stop, folder.locked(_waiting(screen, stop)):
        if config.retry_failed:
            folder.forget_failures()
        _tell(matrix, config, folder, screen)
        work = _Work(matrix, folder, screen, stop)
        work.do([(cell, round_) for round_ in range(config.repetitions) for cell in _order(matrix, config, round_)])
        table = _table(matrix, config, work.done)
        screen.progress('drawing')
        _show(table, folder, screen)
        if work.left:
            again = shlex.join(['run_benchmark.py', *words])
            screen.line(f'interrupted, {_number(work.left, "run")} left to do. To go on: {again}')
    if config.json:
        print(json.dumps(table, indent=1))
    return 1 if work.left or any(done.failure for done in work.done.values()) else 0


def _waiting(screen: Screen, stop: StopRequest) -> Callable[[str], None]:
    """Shows what is waited for, until the user wants no more of that."""

    def progress(text: str) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        screen.progress(text)

    return progress


def _order(matrix: Matrix, config: SweepConfig, round_: int) -> list[int]:
    """The cells that can be run, in the order of a round."""
    cells = [number for number, cell in enumerate(matrix.cells) if not cell.left_out]
    random.Random(f'{config.order_seed} {round_}').shuffle(cells)
    return cells


def _tell(matrix: Matrix, config: SweepConfig, folder: Folder, screen: Screen) -> None:
    runnable = [cell for cell in matrix.cells if not cell.left_out]
    cells, rounds = _number(len(runnable), 'cell'), _number(config.repetitions, 'round')
    screen.line(f'{"sweep":<12}{cells}, {rounds} of fresh processes, in {folder.path}')
    for cell in matrix.cells:
        if cell.left_out:
            screen.line(f'{"left out":<12}{cell.name}: {cell.left_out}')
    for reason in matrix.left_out:
        screen.line(f'{"left out":<12}{reason}')


def _number(count: int, what: str) -> str:
    return f'{count} {what}' if count == 1 else f'{count} {what}s'


class _Work:
    """The runs of a sweep.

    Attributes:
      done: what came of each run.
      left: how many were not done, because the sweep was interrupted.
    """

    def __init__(self, matrix: Matrix, folder: Folder, screen: Screen, stop: StopRequest) -> None:
        self.done: dict[Run, Done] = {}
        self.left = 0
        self._matrix, self._folder, self._screen, self._stop = matrix, folder, screen, stop
        self._seconds: dict[int, list[float]] = {}

    def do(self, runs: Sequence[Run]) -> None:
        """Does those that are not done yet, in this order, until the user stops it."""
        for each in runs:
            found = self._folder.done(*each)
            if found:
                self._keep(each, found, _seconds_of(found.record))
        todo = [each for each in runs if each not in self.done]
        if self.done and todo:
            self._screen.line(f'{len(self.done)} of {len(runs)} runs are done already')
        for at, each in enumerate(todo):
            if self._given_up(each[0]):
                continue
            self.left = sum(not self._given_up(cell) for cell, _ in todo[at:])
            if self._stop.requested:
                return
            start = time.monotonic()
            found = self._run(each, f'run {len(runs) - len(todo) + at + 1} of {len(runs)}', todo[at:])
            if found is None:
                return
            self._keep(each, found, time.monotonic() - start)
            self._tell(
                each, found, f'[{len(runs) - len(todo) + at + 1:>{len(str(len(runs)))}}/{len(runs)}]', todo[at + 1 :]
            )
        self.left = 0

    def _given_up(self, cell: int) -> bool:
        """A cell that failed before it ever succeeded will not succeed."""
        mine = [done for (number, _), done in self.done.items() if number == cell]
        return bool(mine) and all(done.failure for done in mine)

    def _keep(self, each: Run, found: Done, seconds: float | None) -> None:
        self.done[each] = found
        if seconds is not None:
            self._seconds.setdefault(each[0], []).append(seconds)

    def _run(self, each: Run, label: str, todo: Sequence[Run]) -> Done | None:
        cell, round_ = each
        start = time.monotonic()

        def progress() -> None:
            gone = time.monotonic() - start
            left = self._time_left(todo, gone)
            self._screen.progress(f'{label}, round {round_ + 1}: {self._matrix.cells[cell].name}, {gone:.0f} s{left}')

        mine = self._matrix.cells[cell]
        return process.run(
            [*(mine.program or process.program()), *mine.words],
            self._folder.run_folder(cell, round_),
            environment.user(),
            process.Limits(lambda: self._stop.requested),
            self._folder.lock,
            progress,
        )

    def _tell(self, each: Run, found: Done, label: str, todo: Sequence[Run]) -> None:
        text = f'failed: {found.failure}'
        if found.record:
            text = f'{tables.number(found.record["throughput"]["images_per_second"])} images/sec'
        seconds = self._seconds[each[0]][-1]
        left = self._time_left(todo, 0)
        name = self._matrix.cells[each[0]].name
        self._screen.line(f'{label} round {each[1] + 1}  {name}  {text}  ({seconds:.0f} s{left})')

    def _time_left(self, todo: Sequence[Run], gone: float) -> str:
        """How long the runs will take, of which the first is `gone` seconds old."""
        todo = [each for each in todo if not self._given_up(each[0])]
        return seconds_left([cell for cell, _ in todo], self._seconds, gone)


def seconds_left(cells: Sequence[int], seen: dict[int, list[float]], gone: float) -> str:
    """', about 12 min left': the cells' own mean durations, or the mean of all where a cell was not run yet."""
    if not seen or not cells:
        return ''
    means = {cell: sum(seconds) / len(seconds) for cell, seconds in seen.items()}
    overall = sum(means.values()) / len(means)
    seconds = sum(means.get(cell, overall) for cell in cells) - gone
    return (
        f', about {max(1, round(seconds / 60))} min left' if seconds >= 90 else f', about {max(0, seconds):.0f} s left'
    )


def _seconds_of(found: record.Json | None) -> float | None:
    """How long a run took, from its record."""
    if found is None:
        return None
    begin, end = (datetime.datetime.fromisoformat(text) for text in (found['started'], found['ended']['time']))
    return (end - begin).total_seconds()


def _table(matrix: Matrix, config: SweepConfig, done: dict[Run, Done]) -> record.Json:
    cells = [
        tables.Cell(
            values=cell.values,
            command=shlex.join([*(cell.program or ['run_benchmark.py']), *cell.words]),
            left_out=cell.left_out,
            baseline=baseline,
            records={round_: each.record for (mine, round_), each in done.items() if mine == number and each.record},
            failures={round_: each.failure for (mine, round_), each in done.items() if mine == number and each.failure},
        )
        for number, (cell, baseline) in enumerate(zip(matrix.cells, matrix.baselines, strict=True))
    ]
    facts = {'fixed': dict(matrix.fixed), 'repetitions': config.repetitions, 'left_out': list(matrix.left_out)}
    table = tables.table(cells, matrix.axes, facts)
    return {**table, 'answers': tables.ladder_answers(table) if config.ladder else []}


def _show(table: record.Json, folder: Folder, screen: Screen) -> None:
    """Prints the table and writes it, with its plot, to the folder."""
    lines = [*tables.text(table), *tables.legend(table), *table['answers']]
    screen.line('')
    for line in lines:
        screen.line(line)
    files.write(folder.path / 'table.json', json.dumps(table, indent=1, allow_nan=False) + '\n')
    files.write(folder.path / 'table.txt', '\n'.join(lines) + '\n')
    # Takes a second to load.
    from analysis import sweep_plot

    if any(row['rounds'] for row in table['cells']):
        files.make(folder.path / 'plot.png', lambda path: sweep_plot.draw(table, path))
        screen.line(f'{"plot":<12}{folder.path / "plot.png"}, and the table beside it as JSON')
