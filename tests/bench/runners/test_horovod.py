"""Two workers under a real horovodrun against one worker with the images of both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

pytest.importorskip('horovod')

ROOT = Path(__file__).parents[3]
DRIVER = str(ROOT / 'tests' / 'workers.py')
CASES = ('sgd', 'clipped', 'fp16', 'own_statistics', 'mean_statistics', 'mean_statistics_2')
# For 1001 classes.
LENET_PARAMETERS = 4_290_409


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """What each process saved, by case and worker."""
    folder = tmp_path_factory.mktemp('workers')
    horovodrun = str(Path(sys.executable).with_name('horovodrun'))
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')])}
    for words in (
        [horovodrun, '--gloo', '-np', '2', sys.executable, DRIVER, str(folder), *CASES],
        [sys.executable, DRIVER, str(folder), 'sgd', 'clipped'],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: dict(np.load(path)) for path in folder.iterdir()}


def changed(found: dict[str, np.ndarray], moment: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f'{moment}/'): value for name, value in found.items() if name.startswith(f'{moment}/')}


def assert_close(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], relative: float) -> None:
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        error = float(np.linalg.norm((got[name] - value).ravel()))
        assert error <= relative * float(np.linalg.norm(value.ravel())), f'{name}: {error:.1e}'


@pytest.mark.parametrize('case', ['sgd', 'clipped'])
def test_two_workers_learn_what_one_learns_from_the_images_of_both(
    saved: dict[str, dict[str, np.ndarray]], case: str
) -> None:
    both, alone = changed(saved[f'{case}-0'], 'after'), changed(saved[f'{case}-alone'], 'after')
    assert_close(both, alone, 1e-5)
    moved = changed(saved[f'{case}-0'], 'before')
    assert all(np.abs(both[name] - value).max() > 1e-5 for name, value in moved.items()), 'something was learned'


@pytest.mark.parametrize('case', CASES)
def test_workers_begin_and_stay_with_the_same_weights(saved: dict[str, dict[str, np.ndarray]], case: str) -> None:
    for moment in ('before', 'after'):
        first, second = (changed(saved[f'{case}-{rank}'], moment) for rank in range(2))
        for name, value in first.items():
            if 'moving' not in name:
                np.testing.assert_array_equal(second[name], value, err_msg=name)


def test_workers_see_different_images(saved: dict[str, dict[str, np.ndarray]]) -> None:
    assert saved['sgd-0']['losses'][0] != saved['sgd-1']['losses'][0]


def test_16_bit_gradients_halve_the_bytes_and_hardly_change_what_is_learned(
    saved: dict[str, dict[str, np.ndarray]],
) -> None:
    assert saved['sgd-0']['payload'] == 4 * LENET_PARAMETERS
    assert saved['fp16-0']['payload'] == 2 * LENET_PARAMETERS
    before, after = (changed(saved['fp16-0'], moment) for moment in ('before', 'after'))
    assert any((before[name] != after[name]).any() for name in after)


def test_averaged_statistics_are_the_mean_of_the_workers_own(saved: dict[str, dict[str, np.ndarray]]) -> None:
    own = [changed(saved[f'own_statistics-{rank}'], 'after') for rank in range(2)]
    mean = [changed(saved[f'mean_statistics-{rank}'], 'after') for rank in range(2)]
    moving = [name for name in own[0] if 'moving' in name]
    assert len(moving) > 10
    for name in moving:
        assert (own[0][name] != own[1][name]).any(), 'the workers saw different images'
        np.testing.assert_array_equal(mean[0][name], mean[1][name])
        np.testing.assert_allclose(mean[0][name], (own[0][name] + own[1][name]) / 2, rtol=1e-5, atol=1e-7)


def test_averaged_statistics_stay_equal_in_further_steps(saved: dict[str, dict[str, np.ndarray]]) -> None:
    first, second = (changed(saved[f'mean_statistics_2-{rank}'], 'after') for rank in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


GLOO = '[/build/horovod/third_party/gloo/gloo/transport/tcp'
GONE = 'Another worker is gone'


@pytest.mark.parametrize(
    ('said', 'told'),
    [
        (
            f'{GLOO}/unbound_buffer.cc:81] Timed out waiting 30000ms for recv operation to complete',
            f'{GONE}: it did not answer for 30 seconds. It is stopped, hangs, or is cut off the network.',
        ),
        (
            f'{GLOO}/pair.cc:598] Connection closed by peer [127.0.0.1]:31234',
            f'{GONE}: the connection to 127.0.0.1 was lost.',
        ),
        (
            'Horovod has been shut down. This was caused by an exception on one of the ranks',
            f'{GONE}: killed, stopped, hanging, or cut off the network.',
        ),
        ('the disk is on fire', ''),
    ],
    ids=['stopped', 'killed', 'shut_down', 'its_own'],
)
def test_a_worker_that_is_gone_is_told_as_gone(said: str, told: str) -> None:
    from bench.runners.horovod import Horovod

    where = (
        "Graph execution error:\n\nDetected at node 'answers' defined at (most recent call last):\n"
        '  File "run_benchmark.py", line 13, in <module>\nNode: \'answers\'\n'
    )
    for text in (said, f'{where}{said}\n\t [[{{{{node answers}}}}]]'):
        error = tf.errors.UnknownError(None, None, text)
        assert Horovod.lost(object.__new__(Horovod), error) == told
    assert Horovod.lost(object.__new__(Horovod), ValueError(said)) == ''
