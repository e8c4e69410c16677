"""Workers that do not wait for each other learn real digits as well as one worker does with as many updates."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from program import run, the_record

# The first 640 pictures of MNIST (LeCun and Cortes, CC BY-SA 3.0), as `convert --dataset_name=mnist` writes them.
DIGITS = Path(__file__).parents[2] / 'data' / 'mnist'
# Thirty passes over them.
UPDATES = 600


def learned(folder: Path, batches: int, *words: str) -> dict[str, Any]:
    """The record of a run that learns the digits."""
    lenet = ('--model=lenet', '--batch_size=32', '--optimizer=adam', '--learning_rate=0.002', '--weight_decay=0')
    data = ('--data_name=mnist', f'--data_dir={DIGITS}', f'--result_dir={folder}')
    done = run(*lenet, *data, '--num_warmup_batches=0', f'--num_batches={batches}', *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return the_record(folder)


def loss(record: dict[str, Any], part: float) -> float:
    """The mean of all workers' losses in the last part of their steps; in the first where it is below 0."""
    series = [worker['losses'] for worker in record['workers']]
    count = round(abs(part) * len(series[0]))
    return statistics.fmean(value for each in series for value in (each[-count:] if part > 0 else each[:count]))


@pytest.mark.slow
@pytest.mark.parametrize('servers', [1, 2])
def test_asynchronous_servers_reach_the_loss_of_one_worker_on_mnist(tmp_path: Path, servers: int) -> None:
    alone = learned(tmp_path / 'alone', UPDATES)
    servers_words = ('--variable_update=parameter_server', '--nosync_replicas', f'--num_ps={servers}')
    both = learned(tmp_path / 'both', UPDATES // 2, *servers_words, '--num_workers=2')
    first, second = (len(worker['losses']) for worker in both['workers'])
    # The second ends when the first has done its steps.
    assert first == UPDATES // 2
    assert second == pytest.approx(first, rel=0.3)
    assert not both['distribution']['synchronous']
    # The first guesses are bad: about 18. Of 1200 updates the tenths of a run's losses were 7.08, 2.36, 1.40, 1.03,
    # 0.82 ... 0.37 of one worker, and 7.07, 2.42, 1.43, 1.06, 0.81 ... 0.38 of two.
    assert min(loss(alone, -0.01), loss(both, -0.01)) > 3
    assert loss(alone, 0.1) < 1.2
    assert loss(both, 0.1) == pytest.approx(loss(alone, 0.1), rel=0.2)
