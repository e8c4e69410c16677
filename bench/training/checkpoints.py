"""Variables from a checkpoint: what slim's train_image_classifier and eval_image_classifier restore, told of better.

TensorFlow reads both formats with the same operation. Shapes are compared before anything is read, so that a checkpoint
of another network, or of another number of classes, is refused with what to do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from bench.errors import DataError, UsageError
from bench.models.slim import slim
from bench.options import CheckpointOptions
from bench.training import scopes
from bench.training.checkpoint_files import Checkpoint

# Variables named in an error.
_NAMED = 3
_AVERAGE = 'ExponentialMovingAverage'


def restore(checkpoint: Checkpoint, options: CheckpointOptions, *, averages: bool) -> set[str]:
    """Makes the model variables of the current graph begin with a checkpoint's values.

    To be called between building the network and making the operation that initializes its variables; that operation
    reads the checkpoint.

    Args:
      averages: take the variables' moving averages, which the checkpoint must hold, instead of their last values.

    Returns:
      The names of the variables that will be restored.

    Raises:
      UsageError: the checkpoint does not fit the network, or the options leave nothing of it.
      DataError: it cannot be read.
    """
    shapes, types = _read(checkpoint)
    variables = slim.get_model_variables()
    if not variables:
        raise UsageError(['--checkpoint_path: this network has no variables; leave it out.'])
    excluded = scopes.within(variables, options.checkpoint_exclude_scopes, 'checkpoint_exclude_scopes')
    without = {variable.op.name for variable in excluded}
    wanted = {
        f'{variable.op.name}/{_AVERAGE}' if averages else variable.op.name: variable
        for variable in variables
        if variable.op.name not in without
    }
    found = {name: variable for name, variable in wanted.items() if name in shapes}
    if not found:
        raise UsageError([_nothing(checkpoint, wanted, shapes, averages=averages)])
    if len(found) < len(wanted) and not options.ignore_missing_vars:
        raise UsageError([_missing(checkpoint, [name for name in wanted if name not in shapes], averages=averages)])
    other = [name for name, variable in found.items() if variable.shape.as_list() != shapes[name]]
    if other:
        raise UsageError([_misshapen(checkpoint, {name: found[name] for name in other}, shapes)])
    retyped = [name for name, variable in found.items() if variable.dtype.base_dtype != types[name]]
    if retyped:
        raise UsageError([_retyped(checkpoint, {name: found[name] for name in retyped}, types)])
    tf.train.init_from_checkpoint(checkpoint.prefix, found)
    _read_here([variable.initial_value.op for variable in found.values()])
    return {variable.op.name for variable in found.values()}


def _read_here(operations: Sequence[tf.Operation]) -> None:
    """Lets the process that builds the graph read a checkpoint: TensorFlow does that where the variables are.

    Those may be on servers, which are other machines and have no such file.
    """
    with tf.device('/cpu:0'):
        here = tf.no_op(name='reading').device
    for operation in operations:
        for each in (operation, *(tensor.op for tensor in operation.inputs)):
            each._set_device(here)


@contextlib.contextmanager
def reading(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Within it, a restored variable's initialization that fails raises a DataError that names the checkpoint."""
    try:
        yield
    except tf.errors.OpError as error:
        if checkpoint is None or error.op is None or error.op.type != 'RestoreV2':
            raise
        raise _unreadable(checkpoint, error) from None


def _read(checkpoint: Checkpoint) -> tuple[dict[str, list[int]], dict[str, tf.DType]]:
    """Shape and type of every variable in it."""
    try:
        reader = tf.train.load_checkpoint(checkpoint.prefix)
        return reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise _unreadable(checkpoint, error) from None


_WHERE = ('Graph execution error', 'Detected at node', 'Node:', 'Original stack trace')


def _unreadable(checkpoint: Checkpoint, error: Exception) -> DataError:
    # TensorFlow tells first where in Python the operation was made: indented lines, and lines that end in a colon.
    lines = str(getattr(error, 'message', error)).splitlines()
    told = [line for line in lines if line.strip() and line[0] not in ' [' and not line.startswith(_WHERE)]
    reason = next(iter(told), 'no reason is told').replace(checkpoint.prefix, checkpoint.shown)
    return DataError(
        f'{checkpoint.path} cannot be read as a checkpoint: {reason.rstrip(".")}. '
        'It may be truncated, damaged or something else; get it again.'
    )


def _nothing(checkpoint: Checkpoint, wanted: Mapping[str, Any], shapes: Mapping[str, Any], *, averages: bool) -> str:
    if not wanted:
        return '--checkpoint_exclude_scopes leaves nothing to restore; leave --checkpoint_path out.'
    if averages and any(name.removesuffix(f'/{_AVERAGE}') in shapes for name in wanted):
        return (
            f'--checkpoint_path={checkpoint.path} holds variables, and no moving averages of them: it was saved by a '
            'training without these. Leave --moving_average_decay out, and the variables are restored.'
        )
    if not averages and any(f'{name}/{_AVERAGE}' in shapes for name in wanted):
        return (
            f'--checkpoint_path={checkpoint.path} holds moving averages of the variables, and not the variables: '
            '--forward_only --moving_average_decay=0.9999 restores them.'
        )
    theirs = _list(sorted({name.partition('/')[0] for name in shapes if '/' in name})) or 'no scope'
    return (
        f'--checkpoint_path={checkpoint.path} holds none of the variables that this run needs, such as '
        f'{next(iter(wanted))}; its own are in {theirs}. Give its own network with --model.'
    )


def _missing(checkpoint: Checkpoint, missing: Sequence[str], *, averages: bool) -> str:
    remedy = 'with --ignore_missing_vars they begin with new values.'
    if averages:
        remedy = 'without --moving_average_decay the variables are restored, and not their averages.'
    return (
        f'--checkpoint_path={checkpoint.path} lacks {len(missing)} of the variables that this run needs: '
        f'{_list(missing)}. If it is of another network, give that with --model; {remedy}'
    )


def _misshapen(checkpoint: Checkpoint, variables: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> str:
    """Where the last layers alone differ, and all alike, the number of classes does."""
    ours = {tuple(variable.shape.as_list()[-1:]) for variable in variables.values()}
    theirs = {tuple(shapes[name][-1:]) for name in variables}
    rest = all(variable.shape.as_list()[:-1] == list(shapes[name][:-1]) for name, variable in variables.items())
    if rest and len(ours) == len(theirs) == 1 and () not in ours | theirs:
        (classes,), (published,) = ours.pop(), theirs.pop()
        layers = sorted({variable.op.name.rpartition('/')[0] for variable in variables.values()})
        return (
            f'--checkpoint_path={checkpoint.path} has {published} classes, and this run {classes}: give '
            f'--num_classes={published}, or, to begin with new values there, '
            f'--checkpoint_exclude_scopes={",".join(layers)}.'
        )
    described = [f'{name} {shapes[name]} instead of {variable.shape.as_list()}' for name, variable in variables.items()]
    return (
        f'--checkpoint_path={checkpoint.path} has other shapes than this run: {_list(described)}. Give its own network '
        'with --model, or leave those variables out with --checkpoint_exclude_scopes.'
    )


def _retyped(checkpoint: Checkpoint, variables: Mapping[str, Any], types: Mapping[str, tf.DType]) -> str:
    described = [
        f'{name} in {types[name].name} instead of {variable.dtype.base_dtype.name}'
        for name, variable in variables.items()
    ]
    return (
        f'--checkpoint_path={checkpoint.path} has other types than this run: {_list(described)}. Convert the variables '
        'and save them anew, or leave them out with --checkpoint_exclude_scopes.'
    )


def _list(words: Sequence[str]) -> str:
    more = len(words) - _NAMED
    return ', '.join(words[:_NAMED]) + (f' and {more} more' if more > 0 else '')
