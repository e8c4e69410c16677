"""Checkpoints of small networks with random values: saved, packed, and restored by the program's own modules."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from bench.models import registry
from bench.models.build import build
from bench.models.slim import slim
from bench.options import CheckpointOptions
from bench.training import checkpoint_files, checkpoints

CLASSES = 10
# A variable's name to its value.
Values = dict[str, np.ndarray]


def network(model: str = 'lenet', classes: int = CLASSES) -> Any:
    """Builds a small network for inference in the current graph and gives its logits."""
    found = registry.get(model)
    images = tf.placeholder(tf.float32, [2, found.image_size, found.image_size, found.channels], 'images')
    return build(found, images, num_classes=classes).logits


def save(folder: Path, name: str = 'lenet.ckpt', *, version: int = 2, averages: bool = False, **options: Any) -> Values:
    """Saves the network with random values in all variables, and gives those."""
    random = np.random.RandomState(len(name))
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        network(**options)
        variables = slim.get_model_variables()
        if averages:
            tf.train.ExponentialMovingAverage(0.9).apply(variables)
        tf.train.get_or_create_global_step()
        every = tf.global_variables()
        session.run(tf.global_variables_initializer())
        for variable in every[:-1]:
            variable.load(0.1 + 0.1 * random.uniform(size=variable.shape).astype(np.float32), session)
        written = tf.train.SaverDef.V1 if version == 1 else tf.train.SaverDef.V2
        tf.train.Saver(every, write_version=written).save(session, str(folder / name))
        return {variable.op.name: session.run(variable) for variable in every[:-1]}


def restored(path: Path | str, *, averages: bool = False, model: str = 'lenet', **options: Any) -> Values:
    """The model variables of a new network after restoring what `path` names."""
    flags = {name: options.pop(name) for name in list(options) if name != 'classes'}
    with tf.Graph().as_default(), checkpoint_files.opened(str(path)) as checkpoint:
        network(model, **options)
        checkpoints.restore(checkpoint, CheckpointOptions(str(path), **flags), averages=averages)
        with tf.Session() as session, checkpoints.reading(checkpoint):
            session.run(tf.global_variables_initializer())
            return {variable.op.name: session.run(variable) for variable in slim.get_model_variables()}


def assert_equal(got: Values, wanted: Values) -> None:
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value, name)


def pack(archive: Path, members: dict[str, Path | bytes]) -> Path:
    """A tar file, compressed where its name says so, of files or contents."""
    with tarfile.open(archive, 'w:gz' if archive.name.endswith('gz') else 'w') as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive
