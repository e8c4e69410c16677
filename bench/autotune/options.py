"""What `autotune` can be asked for, and what is wrong with it. Knows nothing of TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from bench import flags
from bench.config import BenchmarkConfig
from bench.machine.capabilities import Capabilities
from bench.options import option, others, result_dir_problems


@dataclasses.dataclass(frozen=True)
class AutotuneConfig:
    """What may be changed to make a run faster."""

    autotune_seconds: float = option(600.0, 'Time for all of it, the comparison at the end included.', above=0)
    allow_bf16: bool = option(False, 'bfloat16 may be chosen: it is faster, and rounds.')
    allow_batch_size: bool = option(
        False, 'Another batch size may be chosen; images/sec at another batch size is the answer to another question.'
    )
    settings_file: str | None = option(
        None, 'Where to write what was found; settings_MODEL_JOB.json in --result_dir where not given.'
    )
    order_seed: int = option(1, 'Of the order in which the settings are tried.', minimum=0)
    benchmark: tuple[str, ...] = others(
        BenchmarkConfig, 'And every flag of `benchmark`: what is given there stays as it is.'
    )

    def benchmark_config(self) -> tuple[BenchmarkConfig, list[str]]:
        """The run that is to be made faster, and what is wrong with its words."""
        return flags.parse(BenchmarkConfig, self.benchmark, 'autotune', type(self))

    def typed(self) -> frozenset[str]:
        """Flags of `benchmark` that were given, and so stay as they are."""
        return frozenset(flags.several(BenchmarkConfig, self.benchmark)[0])

    def problems(self, capabilities: Callable[..., Capabilities]) -> list[str]:
        """All that keeps the run from being done here, and what would have no effect."""
        config, found = self.benchmark_config()
        found += config.problems(capabilities)
        typed = self.typed()
        if 'settings' in typed:
            found.append('--settings: they are what is looked for. Leave it out.')
        if config.output.json:
            found.append('--json: what was found is in the settings file, as JSON. Leave it out.')
        if self.allow_bf16 and 'precision' in typed:
            found.append(f'--allow_bf16 has no effect with --precision={config.network.precision}; leave one out.')
        if self.allow_batch_size and 'batch_size' in typed:
            found.append(
                f'--allow_batch_size has no effect with --batch_size={config.network.batch_size}; leave one out.'
            )
        if self.allow_bf16 and not (able := capabilities(given=config.machine.variables())).bf16:
            found.append(f'--allow_bf16 has no effect here: {able.bf16_reason} Leave --allow_bf16 out.')
        if self.settings_file is not None:
            path = self.settings_file
            if not path or Path(path).is_dir():
                found.append(f'--settings_file={path}: a name for a file is expected.')
            else:
                folder = str(Path(path).parent)
                found += [text.replace('--result_dir', '--settings_file') for text in result_dir_problems(folder)]
        return found
