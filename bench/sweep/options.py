"""What `sweep` can be asked for, and what is wrong with it. Knows nothing of TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bench import errors
from bench.config import BenchmarkConfig
from bench.machine.capabilities import Capabilities
from bench.options import option, others
from bench.sweep import folder, matrix


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A matrix of runs."""

    repetitions: int = option(
        3, 'Rounds: in each, every cell is run once, in an order of its own. An interval needs 2.', minimum=1
    )
    baseline: str | None = option(
        None,
        'What the other cells are compared with: name=value,... of some of the flags that vary; in the others a cell '
        'is compared with its like. The first cell where not given.',
    )
    ladder: bool = option(
        False,
        'Vary oneDNN (off and on), its instruction set up to the best of the processor, precision and layout; the '
        'baseline is TensorFlow without oneDNN.',
    )
    strong_scaling: bool = option(
        False,
        'With --num_workers=1,2,4: --batch_size is of all workers together and divided among them, so that a step is '
        'the same work in all cells. Otherwise each worker has a batch of that size (weak scaling).',
    )
    programs: str | None = option(
        None,
        'Run every cell with each of these commands in the place of this program: NAME=COMMAND;NAME=COMMAND, where an '
        'empty COMMAND is this one. Each has to write its record to the folder that it is given as --result_dir=, and '
        'is compared with the first.',
    )
    sweep_dir: str | None = option(
        None,
        'Folder of the sweep: records, table, plot. One in results/, named by the matrix, where not given. The same '
        'command again goes on with what it lacks.',
    )
    order_seed: int = option(1, 'Of the order within each round.', minimum=0)
    retry_failed: bool = option(False, 'Try again what failed when the sweep ran before.')
    json: bool = option(False, 'Print the table as JSON on standard output, and all else on standard error.')
    benchmark: tuple[str, ...] = others(
        BenchmarkConfig,
        'And every flag of `benchmark`, with one value or several: --precision=fp32,bf16. Where a value itself holds '
        "commas, semicolons separate them: --trainable_scopes='a,b;c'.",
    )

    def matrix(self, capabilities: Callable[[], Capabilities]) -> matrix.Matrix:
        """The cells.

        Raises:
          errors.UsageError: the words are wrong, or no cell can be run here.
        """
        made = matrix.of(
            self.benchmark,
            self.baseline,
            capabilities,
            ladder=self.ladder,
            divided=self.strong_scaling,
            also=type(self),
        )
        if self.programs is None:
            return made
        if self.ladder or self.baseline is not None:
            flag = '--ladder' if self.ladder else '--baseline'
            raise errors.UsageError([f'{flag}: with --programs each cell is compared with its like. Leave it out.'])
        return matrix.with_programs(made, matrix.programs_of(self.programs))

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """All that is wrong with the words, or with every cell, or with the folder."""
        try:
            return folder.problems(self.matrix(capabilities), self.sweep_dir)
        except errors.UsageError as error:
            return list(error.problems)
