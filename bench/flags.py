"""The words of the command line: absl flags made from config's fields, and a config made from the words.

A command has exactly the flags of its config; every problem with the words is found before any is reported.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from absl import flags as absl_flags

from bench.errors import nearest

Config = TypeVar('Config')

# Flags of the programs that people come from, which have no meaning here, and what to do instead.
_ELSEWHERE = {
    'autotune': 'It stands alone, with nothing behind it: run_benchmark.py --autotune --model=...',
    'device': 'Leave it out: the networks are computed on the CPU.',
    'local_parameter_device': 'Leave it out: the networks are computed on the CPU.',
    'num_gpus': 'Leave it out: the networks are computed on the CPU.',
    'kmp_settings': 'KMP_SETTINGS=1 in the environment prints them.',
    'use_fp16': '--precision=bf16 is the 16-bit arithmetic of CPUs.',
    'horovod_device': 'Leave it out: gradients are exchanged by the CPU.',
    'elastic': 'A speed is that of a number of workers: when one is lost, the run ends and its record says which.',
    'batch_group_size': 'Leave it out: the pipeline prefetches by itself.',
}


# Values of tf_cnn_benchmarks' flags, and words of TF_CONFIG, that are none here, and what is meant by them.
_COPIES = 'Copies in several processes whose gradients are averaged: that is horovod here.'
_CHIEF = 'It is the first worker: --job_name=worker --task_index=0.'
_VALUES_ELSEWHERE = {
    'variable_update=distributed_replicated': _COPIES,
    'variable_update=distributed_all_reduce': _COPIES,
    'variable_update=collective_all_reduce': _COPIES,
    'job_name=chief': _CHIEF,
    'job_name=master': _CHIEF,
}


# What absl takes without being asked to.
_HIDDEN = {
    'undefok': 'this program ignores no flag.',
    'flagfile': 'this program reads no flags from a file; the shell does: $(cat FILE)',
}
# What tf_cnn_benchmarks is told where there is no GPU: its command lines work here as they are.
_EVERYWHERE = ('device=cpu', 'local_parameter_device=cpu')
_PATHS = ('data_dir', 'checkpoint_path', 'result_dir', 'settings', 'dataset_dir')
_SWITCHED = {'true': 'on', 't': 'on', '1': 'on', 'false': 'off', 'f': 'off', '0': 'off'}
_LONGEST_NAME = 255  # bytes, in the file systems of Linux


@dataclasses.dataclass(frozen=True)
class _Invalid:
    """Stands for a value that could not be understood, until all of them are reported."""

    problem: str


class _Parser(absl_flags.ArgumentParser):
    """Understands one option's value, or gives an _Invalid: absl would stop at the first that is wrong."""

    def __init__(self, field: dataclasses.Field[Any], kind: type) -> None:
        super().__init__()
        self._field = field
        self._kind = kind

    def parse(self, argument: Any) -> Any:
        if argument is None or isinstance(argument, _Invalid) or argument == self._field.default:
            return argument
        text = str(argument)
        flag = f'--{self._field.name}={text}'
        if self._kind is bool:
            if text.lower() not in ('true', 'false', '1', '0', 't', 'f'):
                return _Invalid(f'{flag}: true or false is expected.')
            return text.lower() in ('true', '1', 't')
        if self._kind is str:
            if self._field.name in _PATHS and (wrong := _path_problem(text)):
                return _Invalid(f'{flag}: {wrong}')
            if self._field.metadata['switch']:
                text = _SWITCHED.get(text.lower(), text)
            choices = self._field.metadata['choices']
            if choices and text not in choices:
                meant = _VALUES_ELSEWHERE.get(flag.removeprefix('--'))
                hint = f' {meant}' if meant else nearest(text, choices)
                return _Invalid(f'{flag}: one of {", ".join(choices)} is expected.{hint}')
            return text
        try:
            number = self._kind(text)
        except ValueError:
            what = 'a whole number' if self._kind is int else 'a number'
            return _Invalid(f'{flag}: {what} is expected.')
        return self._within_limits(flag, number)

    def _within_limits(self, flag: str, number: float) -> Any:
        limits = self._field.metadata
        if limits['minimum'] is not None and not number >= limits['minimum']:
            return _Invalid(f'{flag}: {limits["minimum"]} or more is expected.')
        if limits['above'] is not None and not number > limits['above']:
            return _Invalid(f'{flag}: more than {limits["above"]} is expected.')
        maximum = limits['maximum']
        if maximum is None and self._kind is int:
            maximum = 2**31 - 1
        if (maximum is not None and not number <= maximum) or number in (float('inf'), float('-inf')):
            return _Invalid(f'{flag}: at most {"a finite number" if maximum is None else maximum} is expected.')
        return number


def _path_problem(text: str) -> str | None:
    if not text:
        return 'it names no file or folder (a variable of the shell that is not set?).'
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in text.split('/')):
        return f'a name in it is longer than the {_LONGEST_NAME} bytes that file systems take.'
    return None


class _Flag(absl_flags.Flag):
    """A flag whose later value wins, as absl's do, but for switches: on and off cannot both be meant."""

    def parse(self, argument: Any) -> None:
        earlier = self.value if self.present and self.boolean else None
        super().parse(argument)
        if isinstance(earlier, _Invalid):
            self.value = earlier
        elif earlier is not None and not isinstance(self.value, _Invalid) and _meant(earlier) != _meant(self.value):
            self.value = _Invalid(
                f'--{self.name} is given as {_meant(earlier)} and as {_meant(self.value)}. Leave one of them out.'
            )


def _meant(value: Any) -> str:
    """on or off, however it was written, or another of a switch's words."""
    text = str(value).lower()
    return _SWITCHED.get(text, text)


class _Text(absl_flags.ArgumentParser):
    """Takes every value as it is written."""

    def __init__(self, _field: dataclasses.Field[Any], _kind: type) -> None:
        super().__init__()

    def parse(self, argument: Any) -> Any:
        return argument


Elsewhere = Callable[[str], str]
_MakeParser = Callable[[dataclasses.Field[Any], type], absl_flags.ArgumentParser]


def parse(
    config_class: type[Config],
    words: Sequence[str],
    program: str,
    also: type | None = None,
    elsewhere: Elsewhere = lambda _: '',
) -> tuple[Config, list[str]]:
    """The config that the words ask for, and every unknown flag, stray word and bad value among them.

    What could not be understood has its default in the config, so that the rest of it can be looked at as well.

    Args:
      also: another config class of the command, one of whose flags may have been meant by an unknown one.
      elsewhere: what to do about the name of an unknown flag that other commands have, as a sentence, or nothing.
    """
    options = list(_options(config_class))
    values, rest, problems = _read(options, [program, *words], _Parser)
    positional = next((field for field, _ in options if field.metadata['positional']), None)
    given = {field.name: values[field.name].value for field, _ in options}
    mine = list(itertools.takewhile(lambda word: not word.startswith('-'), rest))
    if positional and positional.metadata['many']:
        flag = (given[positional.name],) if values[positional.name].present else ()
        given[positional.name], rest = (*flag, *mine), rest[len(mine) :]
    elif positional and mine:
        given[positional.name], rest = mine[0], rest[1:]
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if field.metadata.get('others'):
            given[field.name], rest = tuple(rest), []
    problems += _strays(options, rest, also, elsewhere)
    problems += [value.problem for value in given.values() if isinstance(value, _Invalid)]
    for field, _ in options:
        if isinstance(given[field.name], _Invalid):
            given[field.name] = field.default
    return _make(config_class, given), problems


def several(
    config_class: type, words: Sequence[str], also: type | None = None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The flags that the words give, by name, each with its values as they were written; and every unknown word.

    Values are separated by commas, or by semicolons where there are any or where one value may hold commas. They are
    not looked at.

    Args:
      also: as `parse` takes it.
    """
    options = list(_options(config_class))
    values, rest, problems = _read(options, ['', *words], _Text)
    given = {}
    for field, _ in options:
        value: Any = values[field.name].value
        if isinstance(value, _Invalid):
            problems.append(value.problem)
        elif values[field.name].present:
            text = str(value)
            parts = text.split(';' if field.metadata['commas'] or ';' in text else ',')
            given[field.name] = tuple(dict.fromkeys(part.strip() for part in parts))
    return given, problems + _strays(options, rest, also)


def _read(
    options: Sequence[tuple[dataclasses.Field[Any], type]], words: Sequence[str], parser: _MakeParser
) -> tuple[absl_flags.FlagValues, list[str], list[str]]:
    """What absl makes of the words (the first: the program), what is left of them, and what it will not take."""
    values = absl_flags.FlagValues()
    values.set_gnu_getopt(True)
    for field, kind in options:
        values[field.name] = _Flag(
            parser(field, kind),
            None,
            field.name,
            field.default,
            field.metadata['text'],
            boolean=kind is bool or field.metadata['switch'],
        )
        for alias in field.metadata['aliases']:
            absl_flags.DEFINE_alias(alias, field.name, values)
    hidden = [(word, _HIDDEN[name]) for word in words[1:] if (name := word.lstrip('-').partition('=')[0]) in _HIDDEN]
    problems = [f'{word}: {why}' for word, why in hidden if word.startswith('-')]
    dropped = {word for word, _ in hidden} | {f'{dashes}{text}' for dashes in ('-', '--') for text in _EVERYWHERE}
    words = [word for word in words if not word.startswith('-') or word not in dropped]
    try:
        rest = values(words, known_only=True)[1:]
    except (absl_flags.Error, ValueError) as error:
        # The last flag has no value, or a flag was written as absl never takes it: told first, then the others.
        problems.append(f'{str(error).rstrip(".")}.')
        rest = values([words[0], *_without_cause(words[1:], str(error))], known_only=True)[1:]
    return values, rest, problems


def _strays(
    options: Sequence[tuple[dataclasses.Field[Any], type]],
    rest: Sequence[str],
    also: type | None,
    elsewhere: Elsewhere = lambda _: '',
) -> list[str]:
    known = _names([*options, *(_options(also) if also else ())])
    return [_stray(word, known, elsewhere) for word in rest]


def has(config_class: type, name: str) -> bool:
    """Whether a command has a flag that is typed so, without its dashes; --noNAME is the flag NAME."""
    return bool({name, name.removeprefix('no')}.intersection(_names(_options(config_class))))


def _names(options: Iterable[tuple[dataclasses.Field[Any], type]]) -> list[str]:
    return [name for field, _ in options for name in (field.name, *field.metadata['aliases'])]


def _without_cause(words: Sequence[str], error: str) -> list[str]:
    """The words without the flags that absl's error names."""
    names = set(re.findall(r'\w+', error))
    return [word for word in words if word.lstrip('-').partition('=')[0] not in names]


def _stray(word: str, known: list[str], elsewhere: Elsewhere) -> str:
    if not word.startswith('-'):
        return f'{word!r} is a stray word: every option is written --name=value.{nearest(word, known)}'
    name = word.lstrip('-').partition('=')[0]
    hint = _ELSEWHERE.get(name) or elsewhere(name)
    return f'--{name} is no flag of this command.{f" {hint}" if hint else nearest(name, known)}'


def _options(config_class: type) -> Iterator[tuple[dataclasses.Field[Any], type]]:
    """Every option of a config class, those of its groups included, with int, float, str or bool."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if field.metadata.get('group'):
            yield from _options(kind)
        elif not field.metadata.get('others'):
            kinds = [part for part in typing.get_args(kind) if part is not type(None)] or [kind]
            yield field, kinds[0]


def _make(config_class: type[Config], given: dict[str, Any]) -> Config:
    hints = typing.get_type_hints(config_class)
    arguments = {}
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        is_group = field.metadata.get('group')
        arguments[field.name] = _make(hints[field.name], given) if is_group else given[field.name]
    return config_class(**arguments)


def as_typed(text: str, config_class: type, words: Sequence[str]) -> str:
    """The text with each flag under the name that the words gave it last: an alias of it, or --noNAME of a switch."""
    typed = [word.lstrip('-').partition('=')[0] for word in words if word.startswith('-')]
    for field, kind in _options(config_class):
        own = (field.name, *field.metadata['aliases'])
        off = [f'no{name}' for name in own if kind is bool]
        names = [name for name in typed if name in own or name in off]
        if not names:
            continue
        pattern = rf'(?<![\w-])--{field.name}(?!\w)'
        if names[-1] in off:
            # Not where a sentence is of what it would be as on: `without --forward_only`.
            pattern = rf'^--{field.name}(?:=false)?(?![\w=])|(?<![\w-])--{field.name}=false\b'
        text = re.sub(pattern, f'--{names[-1]}', text)
    return text


def words(config: Any) -> list[str]:
    """The command line that gives this config: a flag for each option that is not its default."""
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata.get('group'):
            found += words(value)
        elif value != field.default:
            found.append(f'--{field.name}={str(value).lower() if isinstance(value, bool) else value}')
    return found


def describe(config_class: type) -> str:
    """The flags of a command, for --help, by group."""
    hints = typing.get_type_hints(config_class)
    kinds = [(field.name, kind) for field, kind in _options(config_class)]
    lines: list[str] = []
    for field in dataclasses.fields(config_class):
        if field.metadata.get('group'):
            lines += ['', f'{(hints[field.name].__doc__ or "").strip()}:']
            lines += [line for option, kind in _options(hints[field.name]) for line in _describe_option(option, kind)]
        elif field.metadata.get('others'):
            lines += ['', *textwrap.wrap(field.metadata['text'], 112)]
        elif field.metadata:
            lines += _describe_option(field, dict(kinds)[field.name])
    return '\n'.join(lines)


def _describe_option(field: dataclasses.Field[Any], kind: type) -> list[str]:
    choices = field.metadata['choices']
    value = (
        ''
        if kind is bool
        else '=' + ('|'.join(choices) if choices else {'str': 'WORD', 'int': 'N'}.get(kind.__name__, 'X'))
    )
    text = field.metadata['text']
    if kind is not bool and field.default not in (None, ()):
        text += f' [{field.default}]'
    if field.metadata['aliases']:
        text += f' Also --{", --".join(field.metadata["aliases"])}.'
    name = f'  --{field.name}{value}'
    wrapped = textwrap.wrap(text, 78)
    if len(name) < 34:
        return [f'{name:<34}{wrapped[0]}', *(' ' * 34 + line for line in wrapped[1:])]
    return [name, *(' ' * 34 + line for line in wrapped)]
