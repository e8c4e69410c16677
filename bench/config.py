"""What a run is: frozen dataclasses, one a command, made of the groups of bench/options.py.

This module and all that it imports know nothing of TensorFlow, so that a wrong command line is answered at once;
`problems()` of a config finds all conflicts together.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import distribution, errors
from bench.data import cache, datasets
from bench.data.preprocessing import Preprocessing, family_of
from bench.distribution import DistributionOptions
from bench.machine import cpu
from bench.machine.capabilities import Capabilities
from bench.machine.options import MachineOptions, machine_problems
from bench.models import registry
from bench.options import (
    CheckpointOptions,
    DataOptions,
    NetworkOptions,
    OutputOptions,
    ProfileOptions,
    SettingsOptions,
    StepOptions,
    ThreadOptions,
    TimingOptions,
    checkpoint_problems,
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
    'trainable_scopes',
    'num_clones',
)
# What inference reads too, and the input alone does not.
_BOTH = ('xla', 'checkpoint_path', 'moving_average_decay', 'profile')
# What reading shards alone reads.
_SHARDS = (
    'data_name',
    'data_subset',
    'labels_offset',
    'preprocessing_name',
    'eval_method',
    'resize_method',
    'distortions',
    'cache_data',
    'skip_bad_records',
    'datasets_num_private_threads',
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
    checkpoint: CheckpointOptions = dataclasses.field(default_factory=CheckpointOptions, metadata={'group': True})
    data: DataOptions = dataclasses.field(default_factory=DataOptions, metadata={'group': True})
    timing: TimingOptions = dataclasses.field(default_factory=TimingOptions, metadata={'group': True})
    threads: ThreadOptions = dataclasses.field(default_factory=ThreadOptions, metadata={'group': True})
    distribution: DistributionOptions = dataclasses.field(default_factory=DistributionOptions, metadata={'group': True})
    machine: MachineOptions = dataclasses.field(default_factory=MachineOptions, metadata={'group': True})
    found: SettingsOptions = dataclasses.field(default_factory=SettingsOptions, metadata={'group': True})
    profile: ProfileOptions = dataclasses.field(default_factory=ProfileOptions, metadata={'group': True})
    output: OutputOptions = dataclasses.field(default_factory=OutputOptions, metadata={'group': True})

    @property
    def images_per_step(self) -> int:
        """Of one process, whose clones or replicas have a batch each; 0 before the batch size is resolved."""
        return (self.network.batch_size or 0) * self.step.num_clones * self.distribution.replicas

    def problems(self, capabilities: Callable[..., Capabilities]) -> list[str]:
        """All that keeps this run from being done here, each as a sentence; empty where it can be.

        Args:
          capabilities: tells what this machine and TensorFlow can do with the variables `given`; asked only where it
            matters.
        """
        found = network_problems(dataclasses.replace(self.network, image_size=self._image_size()))
        found += precision_problems(self.network, lambda: capabilities(given=self.machine.variables()))
        found += machine_problems(self.machine)
        found += self._slow_convolutions()
        found += self._without_effect()
        found += checkpoint_problems(self.checkpoint)
        if not self.step.clone_on_cpu:
            found.append('--clone_on_cpu=false: the networks are computed on the CPU. Leave it out.')
        if self.profile.profile and self.step.xla:
            found.append(
                '--profile with --xla: XLA computes many operations as one, which cannot be told apart. Leave one out.'
            )
        if self.profile.profile and (self.threads.num_inter_threads or self.distribution.replicas) > 1:
            found.append(
                '--profile with several operations at a time: each has but a part of the machine, and which is not '
                'seen. Leave out --num_inter_threads, or replicas.'
            )
        found += self._data_problems()
        found += distribution.problems(self.distribution, self.step, self.data, os.environ, cpu.usable_cpus())
        kind = self.distribution.meant(os.environ).kind
        if self.profile.profile and kind in distribution.OF_SEVERAL_PROCESSES:
            found.append('--profile traces one process: leave it out, or --num_workers and --variable_update.')
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
                image_size=self._image_size() or network.image_size,
                num_classes=self.network.num_classes or (dataset.num_outputs if dataset else 1001),
            ),
            data=dataclasses.replace(
                self.data,
                eval_image_size=None,
                preprocessing_name=family_of(self.data.preprocessing_name or network.name) if dataset else None,
                datasets_num_private_threads=(self.data.datasets_num_private_threads or usable_cpus)
                if dataset
                else None,
            ),
            threads=dataclasses.replace(
                self.threads,
                num_intra_threads=self.threads.num_intra_threads or usable_cpus,
                # Replicas are computed at the same time.
                num_inter_threads=self.threads.num_inter_threads or self.distribution.replicas,
            ),
            distribution=self.distribution.resolved(os.environ),
        )

    def _slow_convolutions(self) -> list[str]:
        """Whether oneDNN has but reference code for a Keras network's convolutions. Those of Layers avoid it."""
        network, model = self.network, self.network.model
        trains = not self.step.forward_only and not self.data.input_only
        if not model.startswith('keras/') or (network.data_format, network.precision, trains) != ('NCHW', 'fp32', True):
            return []
        if (network.batch_size or next((each.batch_size for each in registry.matching(model)), 2)) > 1:
            return []
        return [
            '--data_format=NCHW: the networks of Keras are trained so with a batch of 1 by reference code of oneDNN, a '
            'hundred times as slow. Use --batch_size=2 or more, or --data_format=NHWC.'
        ]

    def _image_size(self) -> int | None:
        return (self.data.eval_image_size if self.step.forward_only else None) or self.network.image_size

    def _channels(self) -> int:
        return next((network.channels for network in registry.matching(self.network.model)), 3)

    def preprocessing(self) -> Preprocessing:
        """What is done to the pictures of shards.

        Raises:
          errors.UsageError: there is no such network or preprocessing.
        """
        data = self.data
        return Preprocessing(
            family=family_of(data.preprocessing_name or registry.get(self.network.model).name),
            eval_method=data.eval_method,
            resize_method=data.resize_method,
            distortions=data.distortions,
        )

    def _preprocessing_problems(self) -> list[str]:
        try:
            chosen = self.preprocessing()
        except errors.UsageError as error:
            told = network_problems(self.network)
            return [problem for problem in error.problems if problem not in told]
        found = []
        if not chosen.resizes(is_training=not self.step.forward_only) and chosen.resize_method != 'bilinear':
            found.append(
                f'--resize_method has no effect with the preprocessing of {chosen.family}, which takes pixels as they '
                'are; leave it out.'
            )
        if chosen.distortions and self._channels() != 3:
            found.append(f'--distortions changes hues, and {self.network.model} sees grey pictures. Leave it out.')
        return found

    def _data_problems(self) -> list[str]:
        data = self.data
        if data.data_dir is None:
            return ['--input_only times reading from --data_dir, which is not given.'] if data.input_only else []
        found = self._preprocessing_problems()
        wrong = datasets.problems(data.data_name, data.data_subset, Path(data.data_dir))
        if wrong:
            return found + wrong
        dataset = datasets.load(data.data_name, data.data_subset, Path(data.data_dir), data.labels_offset)
        # Records that are lost cannot be left out one by one: --skip_bad_records is for those that are there.
        found += datasets.damage(dataset)
        if data.cache_data is not None:
            found += cache.problems(dataset, data.cache_data, self._channels())
        classes, needed = self.network.num_classes, dataset.num_outputs
        if needed < 2:
            found.append(f'--labels_offset={data.labels_offset} leaves {needed} of {dataset.num_classes} classes.')
        elif classes is not None and classes < needed:
            found.append(
                f'--num_classes={classes}: the data has {needed} classes. Leave the flag out, or give at least as many.'
            )
        decays = self.step.learning_rate_decay_type != 'fixed'
        if decays and dataset.num_samples is None and self.step.num_samples_per_epoch is None:
            found.append(
                '--num_samples_per_epoch is not given, and the data does not tell: a decaying learning rate needs it.'
            )
        return found

    def _without_effect(self) -> list[str]:
        """Flags that were given but would change nothing."""
        step, data, checkpoint = self.step, self.data, self.checkpoint
        new = checkpoint.checkpoint_path is None
        optimizer = f'--optimizer={step.optimizer}'
        cases = (
            (data.input_only, 'with --input_only', (*_TRAINING, *_BOTH)),
            (step.forward_only, 'with --forward_only', _TRAINING),
            (step.forward_only and new, 'in inference without --checkpoint_path', ('moving_average_decay',)),
            (new, 'without --checkpoint_path', ('checkpoint_exclude_scopes', 'ignore_missing_vars')),
            (step.optimizer != 'momentum', f'with {optimizer}', ('momentum',)),
            (step.optimizer != 'rmsprop', f'with {optimizer}', ('rmsprop_decay', 'rmsprop_momentum')),
            (step.optimizer != 'adam', f'with {optimizer}', ('adam_beta1', 'adam_beta2')),
            (step.optimizer not in ('rmsprop', 'adam'), f'with {optimizer}', ('opt_epsilon',)),
            (step.learning_rate_decay_type == 'fixed', 'with a fixed learning rate', _DECAY),
            (step.learning_rate_decay_type == 'polynomial', 'in a polynomial decay', ('learning_rate_decay_factor',)),
            (step.learning_rate_decay_type == 'exponential', 'in an exponential decay', ('end_learning_rate',)),
            (data.eval_image_size is not None, 'with --eval_image_size', ('image_size',)),
            (not step.forward_only, 'without --forward_only', ('eval_method', 'eval_image_size')),
            (step.forward_only, 'with --forward_only', ('distortions',)),
            (data.data_dir is None, 'without --data_dir', _SHARDS),
        )
        given = set().union(*map(_not_defaults, (self.network, step, data, checkpoint, self.profile)))
        found = {name: when for applies, when, names in cases if applies for name in names if name in given}
        return [f'--{name} has no effect {when}; leave it out.' for name, when in found.items()]


@dataclasses.dataclass(frozen=True)
class ModelsConfig:
    """Which networks to list."""

    pattern: str = option('*', 'A shell pattern such as resnet*.', positional=True, aliases=('model', 'model_name'))
    json: bool = option(False, 'Print JSON instead of a table.')

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """A pattern that matches no network, with the nearest name."""
        return [] if registry.matching(self.pattern) else [f'models {self.pattern!r}: {registry.absent(self.pattern)}']
