"""Drop path against the schedule of Zoph et al. 2017 (arXiv:1707.07012) as slim's nasnet_utils.py has it, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bench.models import registry
from bench.models.build import build
from bench.models.layers import Layers


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
# Kept of 1 - step / 1000 * depth * (1 - 0.6).
@pytest.mark.parametrize(
    ('step', 'depth', 'keep'), [(0, 1.0, 1.0), (500, 0.5, 0.9), (1000, 0.25, 0.9), (3000, 1.0, 0.6)]
)
def test_an_image_is_kept_where_its_random_number_and_the_schedule_reach_one(
    step: int, depth: float, keep: float, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [0.0, 0.05, 0.11, 0.39, 0.41, 0.9, 0.998, 0.9999]
    drawn = np.array(numbers, np.float32).reshape(-1, 1, 1, 1)

    def uniform(shape: Any, minval: float = 0, maxval: float = 1, dtype: Any = tf.float32, **_: Any) -> Any:
        return tf.cast(tf.constant(drawn), dtype)

    monkeypatch.setattr(tf.random, 'uniform', uniform)
    with tf.Graph().as_default(), tf.Session() as session:
        global_step = tf.train.get_or_create_global_step()
        x = tf.constant(np.full((len(numbers), 2, 2, 3), 8.0), dtype)
        y = Layers(is_training=True).drop_path(x, keep_prob=0.6, depth=depth, total_steps=1000)
        assert y.dtype == dtype
        session.run(global_step.initializer)
        session.run(global_step.assign(step))
        got = session.run(tf.cast(y, tf.float32))
    wanted = [8 / keep if keep + number >= 1 else 0.0 for number in numbers]
    # A bfloat16 has 8 binary places.
    np.testing.assert_allclose(got[:, 0, 0, 0], wanted, rtol=1e-6 if dtype == tf.float32 else 2**-7)
    assert (got == got[:, :1, :1, :1]).all()


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_the_mask_is_not_rounded_to_the_activations_type(dtype: Any) -> None:
    # 0.997 + u reaches 1 for 997 of 1000 numbers; in bfloat16 0.997 is 0.996, and from 0.998 on all is 1.
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        global_step = tf.train.get_or_create_global_step()
        x = tf.ones([200_000, 1, 1, 1], dtype)
        y = Layers(is_training=True).drop_path(x, keep_prob=0.997, depth=1.0, total_steps=1)
        session.run(global_step.initializer)
        session.run(global_step.assign(1))
        dropped = float((session.run(tf.cast(y, tf.float32)) == 0).mean())
    # The standard deviation is sqrt(0.003 * 0.997 / 200000) = 0.00012.
    assert dropped == pytest.approx(0.003, abs=0.0006)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('model', 'steps', 'cells', 'operations'),
    [
        # 18 cells and 2 reductions; two of a cell's ten operations do nothing, and are not dropped.
        ('nasnet_cifar', 937_500, 20, 8),
        # 12 cells and the stem's 2; PNASNet's reductions are cells like the others.
        ('pnasnet_large', 250_000, 14, 9),
    ],
)
def test_the_probability_to_drop_grows_from_cell_to_cell(
    model: str, steps: int, cells: int, operations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float, int]] = []

    def drop_path(self: Layers, x: Any, keep_prob: float, depth: float, total_steps: int) -> Any:
        seen.append((depth, keep_prob, total_steps))
        return x

    monkeypatch.setattr(Layers, 'drop_path', drop_path)
    network = registry.get(model)
    size = network.least_image_size
    with tf.Graph().as_default():
        build(network, tf.zeros([1, size, size, 3]), is_training=True, num_classes=10)
    depths = sorted({depth for depth, _, _ in seen})
    assert depths == pytest.approx([(cell + 1) / cells for cell in range(cells)])
    assert {(keep_prob, total) for _, keep_prob, total in seen} == {(0.6, steps)}
    assert sum(depth == depths[0] for depth, _, _ in seen) == operations
