"""What a run is: frozen dataclasses, one a command, made of the groups of bench/options.py.

This module and all that it imports know nothing of TensorFlow, so that a wrong command line is answered at once;
`problems()` of a config finds all conflicts together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import errors
from bench.data import datasets
from bench.machine.capabilities import Capabilities
from bench.models import registry
from bench.options import (
    DataOptions,
    NetworkOptions,
    OutputOptions,
    StepOptions,
    ThreadOptions,
    TimingOptions,
    network_problems,
    option,
    precision_problems,
    result_dir_problems,
)

# What a training step alone reads.
_TRAINING = (
    'optimizer',
    'learning_rate',
    'learning_rate_decay_type',
    'weight_decay',
    'label_smoothing',
    'gradient_clip',
    'moving_average_decay',
)
# What a decaying learning rate alone reads.
_DECAY = ('end_learning_rate', 'learning_rate_decay_factor', 'num_epochs_per_decay', 'num_samples_per_epoch')


def _not_defaults(options: Any) -> set[str]:
    """Names of the options that were given a value of their own."""
    return {field.name for field in dataclasses.fields(options) if getattr(options, field.name) != field.default}


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """One timed run of one network."""

    network: NetworkOptions = dataclasses.field(default_factory=NetworkOptions, metadata={'group': True})
    step: StepOptions = dataclasses.field(default_factory=StepOptions, metadata={'group': True})
    data: DataOptions = dataclasses.field(default_factory=DataOptions, metadata={'group': True})
    timing: TimingOptions = dataclasses.field(default_factory=TimingOptions, metadata={'group': True})
    threads: ThreadOptions = dataclasses.field(default_factory=ThreadOptions, metadata={'group': True})
    output: OutputOptions = dataclasses.field(default_factory=OutputOptions, metadata={'group': True})

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """All that keeps this run from being done here, each as a sentence; empty where it can be.

        Args:
          capabilities: tells what this machine and TensorFlow can do; asked only where it matters.
        """
        found = network_problems(self.network)
        found += precision_problems(self.network, capabilities)
        found += self._without_effect()
        found += self._data_problems()
        found += result_dir_problems(self.output.result_dir)
        return found

    def resolved(
        self, network: registry.Network, dataset: datasets.Dataset | None, usable_cpus: int
    ) -> BenchmarkConfig:
        """The same run with every default that depends on the network, the data or the machine filled in."""
        return dataclasses.replace(
            self,
            network=dataclasses.replace(
                self.network,
                model=network.name,
                batch_size=self.network.batch_size or network.batch_size,
                image_size=self.network.image_size or network.image_size,
                num_classes=self.network.num_classes or (dataset.num_classes if dataset else 1001),
            ),
            data=dataclasses.replace(
                self.data,
                datasets_num_private_threads=(self.data.datasets_num_private_threads or usable_cpus)
                if dataset
                else None,
            ),
            threads=dataclasses.replace(
                self.threads,
                num_intra_threads=self.threads.num_intra_threads or usable_cpus,
                num_inter_threads=self.threads.num_inter_threads or 1,
            ),
        )

    def _data_problems(self) -> list[str]:
        data = self.data
        if data.data_dir is None:
            return ['--input_only times reading from --data_dir, which is not given.'] if data.input_only else []
        found = datasets.problems(data.data_name, data.data_subset, Path(data.data_dir))
        if found:
            return found
        dataset = datasets.load(data.data_name, data.data_subset, Path(data.data_dir))
        classes = self.network.num_classes
        if classes is not None and classes < dataset.num_classes:
            found.append(
                f'--num_classes={classes}: the data has {dataset.num_classes} classes. Leave the flag out, or give at '
                'least as many.'
            )
        decays = self.step.learning_rate_decay_type != 'fixed'
        if decays and dataset.num_samples is None and self.step.num_samples_per_epoch is None:
            found.append(
                '--num_samples_per_epoch is not given, and the data does not tell: a decaying learning rate needs it.'
            )
        return found

    def _without_effect(self) -> list[str]:
        """Flags that were given but would change nothing."""
        step, data = self.step, self.data
        optimizer = f'--optimizer={step.optimizer}'
        cases = (
            (data.input_only, 'with --input_only', (*_TRAINING, 'forward_only', 'xla')),
            (step.forward_only, 'with --forward_only', _TRAINING),
            (step.optimizer != 'momentum', f'with {optimizer}', ('momentum',)),
            (step.optimizer != 'rmsprop', f'with {optimizer}', ('rmsprop_decay', 'rmsprop_momentum')),
            (step.optimizer != 'adam', f'with {optimizer}', ('adam_beta1', 'adam_beta2')),
            (step.optimizer not in ('rmsprop', 'adam'), f'with {optimizer}', ('opt_epsilon',)),
            (step.learning_rate_decay_type == 'fixed', 'with a fixed learning rate', _DECAY),
            (step.learning_rate_decay_type == 'polynomial', 'in a polynomial decay', ('learning_rate_decay_factor',)),
            (step.learning_rate_decay_type == 'exponential', 'in an exponential decay', ('end_learning_rate',)),
            (data.data_dir is None, 'without --data_dir', ('data_subset', 'datasets_num_private_threads')),
        )
        given = _not_defaults(step) | _not_defaults(data)
        found = {name: when for applies, when, names in cases if applies for name in names if name in given}
        return [f'--{name} has no effect {when}; leave it out.' for name, when in found.items()]


@dataclasses.dataclass(frozen=True)
class ModelsConfig:
    """Which networks to list."""

    pattern: str = option('*', 'A shell pattern such as resnet*.', positional=True, aliases=('model', 'model_name'))
    json: bool = option(False, 'Print JSON instead of a table.')

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """A pattern that matches no network, with the nearest name."""
        if registry.matching(self.pattern):
            return []
        return [f'No network matches {self.pattern!r}.{errors.nearest(self.pattern, registry.names_and_aliases())}']
