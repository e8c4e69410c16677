"""Where variables are among parameter servers, and how often a worker fetches them. Imports TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf


class BySize:
    """Puts each variable on the server that has the fewest bytes so far: a strategy of tf.train.replica_device_setter.

    What is greedy here depends on the order alone in which the variables are made, which is the same in all workers.
    """

    def __init__(self, servers: int) -> None:
        self._bytes = [0] * servers

    def __call__(self, operation: tf.Operation) -> int:
        shape = tf.TensorShape(operation.get_attr('shape'))
        server = self._bytes.index(min(self._bytes))
        self._bytes[server] += (shape.num_elements() or 0) * tf.as_dtype(operation.get_attr('dtype')).size
        return server


def read_once(graph: tf.Graph, worker: str) -> int:
    """Lets all that a worker computes with a variable of a server use one fetched value; gives how many fetches go.

    Each use of a variable has a read of its own in the graph (a convolution, its weight decay), and each would be
    fetched over the network. Reads that wait for something, and those that servers use themselves, stay as they are.

    Args:
      worker: the device of the worker.
    """
    saved = 0
    for handle in [operation for operation in graph.get_operations() if operation.type == 'VarHandleOp']:
        if tf.DeviceSpec.from_string(handle.device).job != 'ps':
            continue
        first = None
        for read in handle.outputs[0].consumers():
            users = _users(read, worker)
            if read.type != 'ReadVariableOp' or read.control_inputs or not users:
                continue
            if first is None:
                first = read.outputs[0]
                continue
            saved += 1
            for user, index in users:
                user._update_input(index, first)
    return saved


def _users(read: Any, worker: str) -> list[tuple[Any, int]]:
    """Operations of the worker that take what a read gives, and as which of their inputs."""
    wanted = tf.DeviceSpec.from_string(worker)
    return (
        [
            (user, index)
            for user in read.outputs[0].consumers()
            if (device := tf.DeviceSpec.from_string(user.device)).job == wanted.job and device.task == wanted.task
            for index, tensor in enumerate(user.inputs)
            if tensor is read.outputs[0]
        ]
        if read.outputs
        else []
    )
