"""A parameter server: TensorFlow's server of a process, and serving until the workers have said how they ended.

Imports TensorFlow. What workers do is in parameter_server.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from bench.distribution import JOB, DistributionOptions
from bench.errors import BenchError, NotMetError, UsageError, number
from bench.machine import quiet
from bench.runners import cluster as clusters
from bench.runners import peers
from bench.runners.cluster import SERVER, WORKER, Cluster
from bench.runners.stop import PostponedStop
from bench.screen import Screen

# What workers say before their end and at it; behind the last of these follows what is wrong with their flags.
ENDING, DONE, FAILED, _REFUSED = 'ending', 'done', 'failed', 'refused'
_SECONDS_BETWEEN_LOOKS = 0.25


class LostError(BenchError):
    """Another process of the job is gone."""


def serve(options: DistributionOptions, config: tf.ConfigProto, screen: Screen, patience: float = 0.0) -> None:
    """Is a parameter server until all workers have said that they are done.

    Args:
      options: resolved.
      config: of the session, with threads.
      screen: on which it tells for whom it waits.
      patience: seconds for which it goes on after a signal to end: workers that are stopped at the same time need it
        for their last step and for their record. 0: it ends there and then.

    Raises:
      BenchError: the port is taken, a process does not come, a worker failed or is gone, or it was stopped before them.
      UsageError: the workers cannot do what they were asked for.
    """
    cluster = cluster_of(options)
    server = start(cluster, config)
    with tf.Graph().as_default():
        said = goodbyes(cluster.task)
        waiting, goodbye, hear = said.size(), said.dequeue(), heard(cluster.task).enqueue(0)
        peers.wait(cluster.peers, options.wait_seconds, waiting_lines(screen))
        with tf.Session(server.target, config=visible(config, cluster)) as session:
            with quiet.standard_error():
                session.run(waiting)
            with (
                contextlib.ExitStack() as silence,
                peers.Watch(cluster.peers) as watch,
                PostponedStop(patience) as stop,
            ):
                left = set(range(len(cluster.workers)))
                while left:
                    screen.progress(f'serving {len(left)} workers')
                    for _ in range(session.run(waiting)):
                        rank, _, how = session.run(goodbye).decode().partition(' ')
                        if how == ENDING:
                            # It leaves what it waited for here, and TensorFlow remarks that it is cancelled. Not
                            # before: what a server says that dies within the steps must be seen.
                            silence.enter_context(quiet.libraries())
                            session.run(hear)
                            continue
                        watch.forget(f'{WORKER} {rank}')
                        if how.startswith(_REFUSED):
                            raise UsageError(json.loads(how.removeprefix(_REFUSED)))
                        if how == FAILED:
                            raise BenchError(f'{WORKER} {rank} failed; {cluster.name} ends too.')
                        left.discard(int(rank))
                    if left and watch.lost:
                        raise LostError(f'{watch.lost} {cluster.name} ends too.')
                    if left and stop.is_over():
                        raise BenchError(f'{cluster.name} was stopped while {number(len(left), "worker")} needed it.')
                    time.sleep(_SECONDS_BETWEEN_LOOKS)


def waiting_lines(screen: Screen) -> Callable[[str], None]:
    """How it is told for whom a process waits. The one that started all of a job knows who is there."""
    return screen.progress if JOB in os.environ else screen.waiting


def cluster_of(options: DistributionOptions) -> Cluster:
    """The cluster that resolved options describe, and this process's place in it."""
    found = clusters.of(options, os.environ)
    assert found is not None, 'resolved options tell each process of a job its place'
    return found


def start(cluster: Cluster, config: tf.ConfigProto) -> tf.train.Server:
    """TensorFlow's server of this process.

    Raises:
      NotMetError: its port is taken.
    """
    addresses = {SERVER: list(cluster.servers), WORKER: list(cluster.workers)}
    try:
        with quiet.standard_error():
            return tf.train.Server(addresses, job_name=cluster.job, task_index=cluster.task, config=config)
    except tf.errors.OpError as error:
        address = addresses[cluster.job][cluster.task]
        raise NotMetError(
            f'{cluster.name} cannot listen at {address}: {error.message}. Another program may have that port: '
            'choose another one in --ps_hosts or --worker_hosts, the same for all processes.'
        ) from None


def visible(config: tf.ConfigProto, cluster: Cluster) -> tf.ConfigProto:
    """The configuration of a session that needs the servers and this process: others may come and go without it."""
    own = tf.ConfigProto()
    own.CopyFrom(config)
    filters = [f'/job:{cluster.job}/task:{cluster.task}']
    own.device_filters.extend(filters if cluster.job == SERVER else [f'/job:{SERVER}', *filters])
    return own


def refusal(error: UsageError) -> str:
    """What a worker says at its end whose flags are wrong."""
    return f'{_REFUSED} {json.dumps(error.problems)}'


def goodbyes(task: int) -> Any:
    """The queue of a server in which workers say how they ended."""
    with tf.device(f'/job:{SERVER}/task:{task}/cpu:0'):
        return tf.FIFOQueue(1000, [tf.string], [()], shared_name=f'goodbyes_{task}')


def heard(task: int) -> Any:
    """The queue of a server in which it says of each worker that it knows that this one ends."""
    with tf.device(f'/job:{SERVER}/task:{task}/cpu:0'):
        return tf.FIFOQueue(1000, [tf.int32], [()], shared_name=f'heard_{task}')
