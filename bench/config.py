"""What a run is: frozen dataclasses, one a command, made of groups that several commands share.

Every field is also a flag of the same name (bench/flags.py). A field is written here once, with its default, its
meaning and its limits. This module and all that it imports know nothing of TensorFlow, so that a wrong command line
is answered at once; `problems()` of a config finds all conflicts together.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import errors
from bench.data import datasets
from bench.machine import memory
from bench.machine.capabilities import Capabilities
from bench.models import registry


def option(
    default: Any,
    text: str,
    *,
    aliases: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    positional: bool = False,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
      default: its value where the flag is not given.
      text: its meaning, for --help.
      aliases: other names of the flag (slim's, tf_cnn_benchmarks').
      choices: the only values it may have.
      minimum, maximum, above: the least, the greatest and the excluded lower limit of a number.
      positional: it may be given as a word without a flag's name.
    """
    return dataclasses.field(
        default=default,
        metadata={
            'text': text,
            'aliases': aliases,
            'choices': choices,
            'minimum': minimum,
            'maximum': maximum,
            'above': above,
            'positional': positional,
        },
    )


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """The network"""

    model: str = option('vgg_16', 'The network; `models` lists them.', aliases=('model_name',))
    batch_size: int | None = option(None, "Images in a step; the network's own default where not given.", minimum=1)
    image_size: int | None = option(
        None,
        "Height and width of the images; the network's own where not given.",
        minimum=1,
        aliases=('train_image_size',),
    )
    num_classes: int | None = option(
        None, "Classes of the last layer; 1001, or the dataset's number of classes, where not given.", minimum=2
    )
    data_format: str = option('NHWC', 'Layout of images and activations.', choices=('NHWC', 'NCHW'))
    precision: str = option(
        'fp32',
        "Arithmetic: bf16 keeps float32 variables and computes in bfloat16 where oneDNN's mixed precision allows it.",
        choices=('fp32', 'bf16'),
    )


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """The step"""

    forward_only: bool = option(False, 'Time inference: frozen graph, batch norm folded, no gradients.')
    xla: bool = option(False, 'Compile the step with XLA.')
    optimizer: str = option('sgd', 'How weights are updated.', choices=('sgd', 'momentum', 'rmsprop', 'adam'))
    learning_rate: float = option(0.01, 'The (initial) learning rate.', above=0, aliases=('init_learning_rate',))
    learning_rate_decay_type: str = option(
        'fixed', 'How the learning rate falls.', choices=('fixed', 'exponential', 'polynomial')
    )
    end_learning_rate: float = option(0.0001, 'Where a polynomial decay ends.', minimum=0)
    learning_rate_decay_factor: float = option(0.94, 'Factor of an exponential decay.', above=0, maximum=1)
    num_epochs_per_decay: float = option(2.0, 'Epochs after which the learning rate decays.', above=0)
    num_samples_per_epoch: int | None = option(
        None,
        "Images in an epoch, for the decay; the dataset's size, or ImageNet's for synthetic data, where not given.",
        minimum=1,
    )
    momentum: float = option(0.9, 'Of the momentum optimizer.', minimum=0)
    rmsprop_decay: float = option(0.9, 'Of the rmsprop optimizer.', minimum=0, maximum=1)
    rmsprop_momentum: float = option(0.9, 'Of the rmsprop optimizer.', minimum=0)
    adam_beta1: float = option(0.9, 'Of the adam optimizer.', minimum=0, maximum=1)
    adam_beta2: float = option(0.999, 'Of the adam optimizer.', minimum=0, maximum=1)
    opt_epsilon: float = option(
        1.0, 'Epsilon of the rmsprop and adam optimizers.', above=0, aliases=('rmsprop_epsilon', 'adam_epsilon')
    )
    weight_decay: float = option(0.00004, 'L2 regularization of the weights.', minimum=0)
    label_smoothing: float = option(0.0, 'How much of a label is spread over all classes.', minimum=0, maximum=1)
    gradient_clip: float | None = option(None, 'Clip each gradient element to [-x, x].', above=0)
    moving_average_decay: float | None = option(
        None, 'Keep moving averages of the variables with this decay.', above=0, maximum=1
    )


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The data"""

    data_dir: str | None = option(
        None, 'Folder of TFRecord shards; synthetic images where not given.', aliases=('dataset_dir',)
    )
    data_name: str = option(
        'imagenet',
        'What is in data_dir; `folder` is what `convert` wrote.',
        aliases=('dataset_name',),
        choices=datasets.names(),
    )
    data_subset: str = option(
        'train', 'Which shards.', aliases=('dataset_split_name',), choices=('train', 'validation')
    )
    input_only: bool = option(False, 'Time the input pipeline alone.')
    datasets_num_private_threads: int | None = option(
        None,
        "Threads of the input pipeline's own; as many as usable processors where not given.",
        minimum=1,
        maximum=1024,
    )
    tf_random_seed: int = option(1234, 'Seed of weights, synthetic images, shuffling and distortions.', minimum=0)


@dataclasses.dataclass(frozen=True)
class TimingOptions:
    """The measurement"""

    num_batches: int | None = option(
        None, 'Steps to measure; until the 95 % interval is within 1 % where not given.', minimum=1
    )
    num_warmup_batches: int | None = option(
        None, 'Steps before the measurement; until steady where not given.', minimum=0
    )
    max_seconds: float = option(60.0, 'Longest measurement where num_batches is not given.', above=0)
    display_every: int = option(10, 'Steps between printed lines.', minimum=1)


@dataclasses.dataclass(frozen=True)
class ThreadOptions:
    """The threads"""

    num_intra_threads: int | None = option(
        None, 'Threads within an operation; as many as usable processors where not given.', minimum=1, maximum=1024
    )
    num_inter_threads: int | None = option(
        None, 'Operations at the same time; 1 where not given.', minimum=1, maximum=1024
    )


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """The result"""

    result_dir: str = option('results', 'Folder for the record of the run.')
    json: bool = option(False, 'Print the record on standard output, and all else on standard error.')


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
        found += _precision_problems(self.network, capabilities)
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
class ConvertConfig:
    """What to convert to TFRecord shards, and where to."""

    data_name: str = option(
        'folder',
        'What the source is: `folder` holds a folder of pictures for each class.',
        aliases=('dataset_name',),
        choices=('folder',),
    )
    source: str | None = option(None, 'Folder that holds a folder of pictures for each class.')
    data_dir: str | None = option(None, 'Folder for the shards; made where it is missing.', aliases=('dataset_dir',))
    validation_fraction: float = option(
        0.1, 'How much of the pictures, chosen by chance, makes the validation subset.', minimum=0, maximum=0.9
    )
    num_shards: int = option(8, 'Files of each subset, at most.', minimum=1, maximum=99_999)
    seed: int = option(0, 'Of order and choice for validation; the same seed gives the same files.', minimum=0)

    def problems(self, capabilities: Callable[[], Capabilities]) -> list[str]:
        """A source or a folder for the shards that is not given or cannot be used."""
        return self._source_problems() + self._data_dir_problems()

    def _source_problems(self) -> list[str]:
        if self.source is None:
            return ['--source is not given: name the folder that holds a folder of pictures for each class.']
        source = Path(self.source)
        if not source.is_dir():
            return [f'--source={self.source}: there is no such folder. Name the folder that holds the class folders.']
        classes = [path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith('.')]
        if len(classes) < 2:
            what = f'only the folder {classes[0]}' if classes else 'no folders'
            return [f'--source={self.source} holds {what}: each of 2 or more classes needs one, with its pictures.']
        return []

    def _data_dir_problems(self) -> list[str]:
        if self.data_dir is None:
            return ['--data_dir is not given: name the folder for the shards.']
        out = Path(self.data_dir)
        if self.source is not None and out.resolve().is_relative_to(Path(self.source).resolve()):
            return [f'--data_dir={self.data_dir} is in --source, where folders are classes. Name one elsewhere.']
        if out.exists() and not out.is_dir():
            return [f'--data_dir={self.data_dir} is a file. Name a folder for the shards.']
        if out.is_dir() and datasets.converted(out):
            return [f'--data_dir={self.data_dir} holds {datasets.converted(out)[0]} already. Name an empty folder.']
        return []


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


def network_problems(network: NetworkOptions) -> list[str]:
    """What is wrong with the choice of network."""
    try:
        found = registry.get(network.model)
    except errors.UsageError as error:
        return list(error.problems)
    size = network.image_size or found.image_size
    batch = network.batch_size or found.batch_size
    needed, usable = 4 * batch * size * size * found.channels, memory.usable_bytes()
    if needed > usable:
        return [
            f'A batch of {batch} images of {size}x{size} takes {needed / 2**30:,.0f} GiB by itself; there are '
            f'{usable / 2**30:.0f} here. Use a smaller --batch_size or --image_size.'
        ]
    return found.size_problems(size)


def _precision_problems(network: NetworkOptions, capabilities: Callable[[], Capabilities]) -> list[str]:
    found = []
    if network.data_format == 'NCHW' and not capabilities().onednn:
        found.append(
            "--data_format=NCHW needs oneDNN, which is off here: TensorFlow's own kernels compute convolutions on CPUs "
            f'in NHWC only. ({capabilities().onednn_reason}) Use --data_format=NHWC, or set TF_ENABLE_ONEDNN_OPTS=1.'
        )
    if network.precision == 'bf16' and not capabilities().bf16:
        found.append(f'--precision=bf16 would bring nothing here: {capabilities().bf16_reason} Use --precision=fp32.')
    return found


def result_dir_problems(result_dir: str) -> list[str]:
    """Whether a record could be written, told before hours of measuring and not after."""
    if not result_dir:
        return ['--result_dir= names no folder. Name one for the records, or leave the flag out.']
    path = Path(result_dir).absolute()
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return [f'--result_dir={result_dir}: {existing} is a file, not a folder. Name a folder for the records.']
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f'--result_dir={result_dir}: no permission to write in {existing}. Name a folder that you own.']
    return []
