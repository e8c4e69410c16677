"""What a run leaves for people and programs: the summary, the record's file and its name, the command to repeat it."""

from __future__ import annotations

import datetime
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bench import distribution, flags, record, settings
from bench.config import BenchmarkConfig
from bench.data import datasets
from bench.errors import BenchError
from bench.machine import environment
from bench.models import registry
from bench.runners import summary
from bench.screen import Screen


def chosen(config: BenchmarkConfig) -> tuple[registry.Network, datasets.Dataset | None]:
    """The network and the data of a run, which config found to be there."""
    data = config.data
    dataset = None
    if data.data_dir is not None:
        dataset = datasets.load(data.data_name, data.data_subset, Path(data.data_dir), data.labels_offset)
    return registry.get(config.network.model), dataset


def conclude(
    written: record.Json,
    config: BenchmarkConfig,
    started: datetime.datetime,
    screen: Screen,
    failures: Sequence[str] = (),
) -> int:
    """Prints what a record says, writes it, and gives the exit status.

    Args:
      failures: to write what belongs to the record. Where it cannot be written itself, for the same reason, they are
        not told.

    Raises:
      BenchError: the run failed, or the record cannot be written.
    """
    summary.show(written, screen)
    ended = written['ended']
    failed = [ended['reason']] if ended['status'] == 'failed' else []
    try:
        path = record.write(written, config.output.result_dir, name(config, started))
        screen.line(f'{"record":<12}{path}')
    except BenchError as error:
        failures = [str(error)]
    if config.output.json:
        print(record.dumps(written), end='')
    if failed or failures:
        raise BenchError(' '.join([*failed, *failures]))
    return 1 if ended['status'] == 'interrupted' or screen.lost_lines else 0


def repeat(config: BenchmarkConfig) -> str:
    """The command line that repeats a (resolved) run, with the variables that the user had set."""
    shared, given = config.distribution, environment.variables()
    variables = ['env', *(f'{name}={value}' for name, value in given.items())] if given else []
    is_launched = shared.kind == distribution.HOROVOD and distribution.launched(os.environ) is not None
    launcher = ['horovodrun', '-np', str(shared.workers)] if is_launched else []
    return shlex.join([*variables, *launcher, 'run_benchmark.py', *flags.words(settings.written_out(config))])


def name(config: BenchmarkConfig, started: datetime.datetime) -> str:
    network, kind = config.network, 'train'
    if config.data.input_only:
        kind = 'input'
    elif config.step.forward_only:
        kind = 'infer'
    model = re.sub(r'[^\w.]+|\.py:', '_', network.model)[-80:].strip('._')  # keras/VGG16, ../own.py:net
    shared = config.distribution
    workers = [f'{shared.kind}{shared.workers}'] if shared.kind != distribution.LOCAL else []
    parts = (model, kind, network.data_format, network.precision, f'b{network.batch_size}', *workers)
    return '_'.join((*(part.lower() for part in parts), started.strftime('%Y%m%dT%H%M%SZ')))
