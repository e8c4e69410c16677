"""The groups of options that commands are configured with: each field written once, with default, meaning and limits.

Every field is also a flag of the same name (bench/flags.py). Nothing here knows TensorFlow.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import errors
from bench.data import cache, preprocessing, specifications
from bench.machine import memory
from bench.machine.capabilities import Capabilities
from bench.models import registry
from bench.training import checkpoint_files


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
    many: bool = False,
    switch: bool = False,
    commas: bool = False,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
      default: its value where the flag is not given.
      text: its meaning, for --help.
      aliases: other names of the flag (slim's, tf_cnn_benchmarks').
      choices: the only values it may have.
      minimum, maximum, above: the least, the greatest and the excluded lower limit of a number.
      positional: it may be given as a word without a flag's name.
      many: and as several such words; its value is a tuple of them all, and of what the flag says.
      switch: of the choices on and off, which may be given as --name and --noname, or true and false, too.
      commas: its one value may hold commas; several in a sweep are separated by semicolons.
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
            'many': many,
            'switch': switch,
            'commas': commas,
        },
    )


def others(config_class: type, text: str) -> Any:
    """A dataclass field that takes every word which is no flag of its own class, as a tuple.

    Args:
      config_class: the words are flags of this class.
      text: what is done with them, for --help.
    """
    return dataclasses.field(default=(), metadata={'others': config_class, 'text': text})


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
        None,
        "Classes of the last layer; 1001, or the dataset's number of classes, where not given.",
        minimum=2,
        maximum=1_000_000,
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
        None,
        'Keep moving averages of the variables with this decay; inference restores them instead of the variables.',
        above=0,
        maximum=1,
    )
    trainable_scopes: str | None = option(
        None, 'Comma-separated beginnings of the names of the variables to train; all where not given.', commas=True
    )
    num_clones: int = option(
        1, "Copies of the network in a step, each with a batch of its own; their losses' mean is learned.", minimum=1
    )
    clone_on_cpu: bool = option(True, 'Where clones are computed; there is nowhere else.')


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """The weights to begin with"""

    checkpoint_path: str | None = option(
        None,
        "A checkpoint's file or prefix, a folder whose newest is taken, or a .tar.gz of one; seeded random weights "
        'where not given.',
    )
    checkpoint_exclude_scopes: str | None = option(
        None, 'Comma-separated beginnings of the names of the variables that are not restored.', commas=True
    )
    ignore_missing_vars: bool = option(False, 'Begin with new values where the checkpoint lacks a variable.')


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The data"""

    data_dir: str | None = option(
        None, 'Folder of TFRecord shards; synthetic images where not given.', aliases=('dataset_dir',)
    )
    data_name: str = option(
        'imagenet',
        f'What is in data_dir: {", ".join(specifications.names())}; `folder` is what `convert` made of class folders. '
        'Or a JSON file that describes it.',
        aliases=('dataset_name',),
    )
    data_subset: str = option('train', 'Which shards: train, validation or test.', aliases=('dataset_split_name',))
    labels_offset: int = option(
        0,
        'Subtracted from the labels: 1 for networks of 1000 classes, which have none for the background.',
        minimum=0,
    )
    preprocessing_name: str | None = option(
        None,
        f'How pictures become images: {", ".join(preprocessing.FAMILIES)}, or the name of a network: as for that one. '
        "The network's own where not given.",
    )
    eval_image_size: int | None = option(
        None, 'Height and width of the images with --forward_only, instead of --image_size.', minimum=1
    )
    eval_method: str | None = option(
        None,
        'Part of a picture that --forward_only sees: inception, the middle 87.5 %; vgg, the middle of the picture '
        "resized to a shorter side of 256. The preprocessing's own where not given.",
        choices=preprocessing.EVAL_METHODS,
    )
    resize_method: str = option(
        'bilinear',
        'How pictures are resized; round_robin takes the others in turn.',
        choices=preprocessing.RESIZE_METHODS,
    )
    distortions: bool | None = option(
        None,
        'Change brightness, saturation, hue and contrast in training, as tf_cnn_benchmarks does; --nodistortions '
        'changes no colours. As the preprocessing was published where not given.',
    )
    cache_data: str | None = option(
        None,
        'Keep what was read in memory: encoded, the records, or decoded, the pixels.',
        choices=cache.KINDS,
    )
    skip_bad_records: int = option(
        0, 'Bad records to leave out, each told; they are looked for before the run begins.', minimum=0
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
        None, 'Steps to measure; where not given, for 10 seconds and until the 95 % interval is within 1 %.', minimum=1
    )
    num_warmup_batches: int | None = option(
        None, 'Steps before the measurement; until steady where not given.', minimum=0
    )
    max_seconds: float = option(60.0, 'Longest measurement where num_batches is not given', above=0)
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
class ProfileOptions:
    """The profile"""

    profile: bool = option(
        False,
        'After the measurement, trace some steps: which operations lose most beside the roofline of this machine, as '
        'tables, and as a JSON file and a plot beside the record.',
    )


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """The result"""

    result_dir: str = option('results', 'Folder for the record of the run.')
    json: bool = option(False, 'Print the record on standard output, and all else on standard error.')


@dataclasses.dataclass(frozen=True)
class SettingsOptions:
    """Found settings"""

    settings: str | None = option(None, 'A file that `autotune` wrote: a run has its flags where you type no others.')


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
    return found.size_problems(size) + found.data_format_problems(network.data_format)


def precision_problems(network: NetworkOptions, capabilities: Callable[[], Capabilities]) -> list[str]:
    """Layout and precision that TensorFlow could not compute in here, or not faster."""
    found = []
    if network.data_format == 'NCHW' and not capabilities().onednn:
        found.append(
            "--data_format=NCHW needs oneDNN: TensorFlow's own kernels compute convolutions on CPUs in NHWC only. "
            f'oneDNN is off: {capabilities().onednn_reason} Or use --data_format=NHWC.'
        )
    if network.precision == 'bf16' and not capabilities().bf16:
        found.append(f'--precision=bf16 would bring nothing here: {capabilities().bf16_reason} Use --precision=fp32.')
    return found


def checkpoint_problems(checkpoint: CheckpointOptions) -> list[str]:
    """Whether there is no such checkpoint, told before TensorFlow is loaded."""
    return checkpoint_files.problems(checkpoint.checkpoint_path) if checkpoint.checkpoint_path is not None else []


def result_dir_problems(result_dir: str) -> list[str]:
    """Whether a record could be written, told before hours of measuring and not after."""
    path = Path(result_dir).absolute()
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        return [f'--result_dir={result_dir}: {existing} is a file, not a folder. Name a folder for the records.']
    try:
        # Permissions do not tell of file systems that are read-only, full, or take no files, such as /proc.
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        why = f'no file can be written in {existing}: {error.strerror}.'
        return [f'--result_dir={result_dir}: {why} Name a folder that you own, on a disk with room.']
    return []
