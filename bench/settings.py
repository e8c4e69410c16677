"""Settings that `autotune` found, in a JSON file that --settings= takes:

    {"schema_version": 1, "program": {...}, "written": "2026-...",
     "flags": {"num_inter_threads": "2"},           as they are typed; {} where the defaults are the fastest
     "for": {"model": "vgg_16", "job": "training", ...},   without what the flags set
     "machine": {...}, "machine_fingerprint": "...",  which other machines refuse
     "measured": {...}}                             how they were found, and what they bring

The file's flags stand before the user's words, but for those that the user typed: what is typed wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench import flags, record
from bench.errors import UsageError
from bench.machine import capabilities, cpu, environment, tuning
from bench.options import SettingsOptions

SCHEMA_VERSION = 1

Json = dict[str, Any]
Config = TypeVar('Config')

# Set for the processes of a job (bench/distribution.py).
_JOB = 'TF_BENCH_JOB'
# The flags that `autotune` tries: a file cannot turn a run into another one.
_FLAGS = frozenset(
    {
        'mkl', 'precision', 'batch_size', 'num_inter_threads', 'num_intra_threads', 'allocator', 'xla', 'data_format',
    }
)  # fmt: skip
_TENSORFLOWS = ('tensorflow-cpu', 'tensorflow', 'intel-tensorflow')


def parse(
    config_class: type[Config], words: Sequence[str], program: str, elsewhere: flags.Elsewhere = lambda _: ''
) -> tuple[Config, list[str]]:
    """The config that the words ask for, with the flags of the --settings= file among them, and all that is wrong.

    Args:
      elsewhere: as flags.parse takes it.
    """
    config, problems = flags.parse(config_class, words, program, elsewhere=elsewhere)
    path = path_of(config)
    if not path:
        return config, problems
    try:
        found = read(path, of_this_machine=not _started_by_this_program())
    except UsageError as error:
        return config, [*problems, *error.problems]
    # Only those that are not typed: a switch cannot be given as on and as off.
    typed, _ = flags.several(config_class, words)
    added = [word for name, word in zip(found['flags'], words_of(found), strict=True) if name not in typed]
    tuned, wrong = flags.parse(config_class, [*added, *words], program, elsewhere=elsewhere)
    known = set(problems)
    return tuned, problems + [f'--settings={path}: {text}' for text in wrong if text not in known]


def path_of(config: Any) -> str | None:
    """The file that a config names; None for none, and for commands that take none."""
    found = getattr(config, 'found', None)
    return found.settings or None if found else None


def words_of(found: Json) -> list[str]:
    """The flags of a settings file, as they are typed."""
    return [f'--{name}={value}' for name, value in found['flags'].items()]


def read(path: str, *, of_this_machine: bool = True) -> Json:
    """A settings file.

    Args:
      of_this_machine: refuse one that was found elsewhere.

    Raises:
      UsageError: it is none, or it was found on another machine.
    """
    try:
        found = json.loads(Path(path).read_text())
        version, machine, mark = found['schema_version'], dict(found['machine']), found['machine_fingerprint']
        found = {**found, 'flags': dict(found['flags']), 'for': dict(found['for'])}
    except OSError as error:
        raise UsageError([f'--settings={path}: {error.strerror}.']) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError([f'--settings={path} is no file that `autotune` wrote.']) from None
    if version != SCHEMA_VERSION:
        raise UsageError(
            [f'--settings={path} has schema version {version}, not {SCHEMA_VERSION}: run `autotune` again.']
        )
    strange = sorted(found['flags'].keys() - _FLAGS)
    if strange:
        raise UsageError([f'--settings={path} has --{strange[0]}, which `autotune` does not write: type it yourself.'])
    if of_this_machine:
        here = machine_facts()
        differ = [
            f'{name} {machine.get(name)} there, {here[name]} here' for name in here if machine.get(name) != here[name]
        ]
        if mark != fingerprint(here):
            typed = ' '.join(words_of(found))
            where = ', '.join(differ) or 'its file was changed'
            raise UsageError(
                [
                    f'--settings={path} was found on another machine ({where}). Run '
                    f'`autotune` here{f", or type its flags yourself: {typed}" if typed else ""}.'
                ]
            )
    return found


def told(config: Any, words: Sequence[str]) -> Json | None:
    """For the record: the file, and what came of its flags; None where none was named.

    A flag is typed where the command line decides it, kept where the user's environment does, or else applied.

    Args:
      config: of the run.
      words: as they were typed.
    """
    path = path_of(config)
    if not path:
        return None
    # The machine was looked at when the words were parsed; by now flags may have bound this process to a part of it.
    found = read(path, of_this_machine=False)
    typed, _ = flags.several(type(config), words)
    statuses = {**dict.fromkeys(tuning.kept(), 'kept'), **dict.fromkeys(typed, 'typed')}
    return {
        'file': path,
        'for': found['for'],
        'flags': [
            {'flag': name, 'value': value, 'status': statuses.get(name, 'applied')}
            for name, value in found['flags'].items()
        ],
    }


def written_out(config: Config) -> Config:
    """The same run without the file: the settings stand in the config by themselves."""
    return dataclasses.replace(config, found=SettingsOptions())  # type: ignore[type-var]


def warnings(found: Json | None, config: Any) -> list[Json]:
    """That the settings were found for another run, with what to do."""
    if found is None:
        return []
    mine = purpose(config)
    differ = [f'{name} {value}, not {mine[name]}' for name, value in found['for'].items() if value != mine.get(name)]
    if not differ:
        return []
    return [
        {
            'code': 'settings_for_another_run',
            'text': f'The settings in {found["file"]} were found for another run ({", ".join(differ)}). '
            'Run `autotune` with the flags of this one.',
        }
    ]


def purpose(config: Any) -> Json:
    """What a (resolved) run is that settings are found for."""
    job = 'input' if config.data.input_only else 'inference' if config.step.forward_only else 'training'
    network = config.network
    return {
        'model': network.model,
        'job': job,
        'image_size': network.image_size,
        'precision': network.precision,
        'batch_size': network.batch_size,
        'data_format': network.data_format,
        'workers': config.distribution.workers,
        'onednn': capabilities.detect(given=config.machine.variables()).onednn,
    }


def machine_facts() -> Json:
    """What settings depend on, known without importing TensorFlow."""
    facts = cpu.facts()
    return {
        'processor': facts['name'],
        'instruction_sets': facts['instruction_sets'],
        'usable_cpus': facts['usable_cpus'],
        'tensorflow': _tensorflow(),
    }


def _started_by_this_program() -> bool:
    """Whether flags were applied to this process already: an affinity makes the machine look smaller."""
    return environment.read_mark()['pid'] == os.getpid() or _JOB in os.environ


def fingerprint(machine: Mapping[str, Any]) -> str:
    """The same letters for machines on which the same settings are the fastest."""
    return record.fingerprint(machine)


def _tensorflow() -> str | None:
    """The installed version, without importing it."""
    for name in _TENSORFLOWS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f'{name} {importlib.metadata.version(name)}'
    return None
