"""`run_benchmark.py convert`: a dataset to TFRecord shards in the layout of TF-Slim, so that each reads the other's."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from bench import __version__, errors
from bench.data import datasets, downloads
from bench.data.convert import report as reports
from bench.data.convert import sources, workplace
from bench.data.convert.options import ConvertConfig
from bench.machine import cpu
from bench.screen import say


def run(config: ConvertConfig, words: Sequence[str]) -> int:  # noqa: ARG001  (every command is given its words)
    """Converts, or goes on with a conversion that was stopped, and tells what was written.

    Raises:
      errors.DataError: the source is broken or cannot be downloaded, too many pictures are broken, or the shards cannot
        be written. Shards that are finished are kept for the next try.
    """
    # `problems` of the config refused to go on without them.
    assert config.dataset_name is not None and config.dataset_dir is not None
    out = Path(config.dataset_dir)
    if config.done():
        workplace.sweep(out)
        say(f'{out} holds {config.dataset_name} already: nothing to do.')
        return 0
    damaged = workplace.damaged(out)
    if damaged:
        say(f'Missing or damaged in {out}: {datasets.few(damaged)}. Converting again what was there.')
    with workplace.Workplace(out) as place:
        try:
            _convert(config, config.dataset_name, out, place)
        except OSError as error:
            raise errors.DataError(f'{error.filename or out}: {error.strerror}.') from error
    return 0


def _convert(config: ConvertConfig, name: str, out: Path, place: workplace.Workplace) -> None:
    # Each picture that TensorFlow cannot decode is told by name: its own remark, which names none, would come on top.
    if os.environ.get('TF_CPP_MIN_LOG_LEVEL') == '2':
        os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
    # Imports TensorFlow, which takes seconds that a finished conversion does not need.
    from bench.data.convert import shards

    kept = downloads.folder(config.download_dir) if config.download_dir else place.downloads
    files = sources.find(name, config.source, config.mirror, kept)
    try:
        prepared = importlib.import_module(f'bench.data.convert.{name}').prepare(config, files, place.unpacked)
    except errors.DamagedError as error:
        addresses = downloads.forget(files.values())
        if not addresses:
            raise
        raise errors.DataError(
            f'{error} It came from {", ".join(addresses)}; repeated, the command gets it again.'
        ) from error
    if place.begin(prepared.shards(), prepared.fingerprint()):
        say('What was converted here before is of another source or of other flags: starting anew.')
    shards.write(prepared.subsets.values(), place, threads=cpu.usable_cpus(), tolerated=config.skip_bad_records)
    left_out = {shard: texts for shard in prepared.shards() if (texts := place.left_out(shard))}
    counts = {
        subset: len(made.order) - sum(len(left_out.get(shard, ())) for shard in made.shards)
        for subset, made in prepared.subsets.items()
    }
    report = {
        'program': f'tf-bench {__version__}',
        **config.wanted(),
        'source': config.source,
        # Where it is here, without what was downloaded besides: with this a repeated command compares what is here.
        'source_digest': sources.digest(config.local() or files),
        'pictures': counts,
        'left_out': left_out,
        'shards': {subset: made.shards for subset, made in prepared.subsets.items()},
    }
    place.finish(prepared.shards(), prepared.labels, report)
    done = ' and '.join(f'{count} for {subset}' for subset, count in counts.items())
    pictures = errors.number(sum(counts.values()), 'picture')
    say(f'Wrote {pictures} of {len(prepared.labels)} classes to {out}: {done}.')
    broken = sum(map(len, left_out.values()))
    if broken:
        say(f'Left out {errors.number(broken, "broken picture")}; {out / reports.NAME} names each.')
