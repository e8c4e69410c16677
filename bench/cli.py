"""The commands: which words start which module. Imports nothing slow: what computes is imported when it is started."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from bench import __version__, config, distribution, flags
from bench.autotune.options import AutotuneConfig
from bench.data.convert.options import ConvertConfig
from bench.data.labels import LabelsConfig
from bench.errors import BenchError, UsageError, nearest
from bench.exchange.options import NetworkConfig, ScalingConfig
from bench.machine import capabilities, cores, tuning
from bench.machine.requirements import MachineConfig
from bench.models import registry
from bench.settings import parse
from bench.sweep.options import SweepConfig


@dataclasses.dataclass(frozen=True)
class _Command:
    """A command: the class of its config, the function (config, words) -> exit status that does it, and its job."""

    config_class: Any
    function: str
    job: str


COMMANDS = {
    'autotune': _Command(
        AutotuneConfig, 'bench.autotune.command:run', 'find and prove the fastest settings for a network'
    ),
    'benchmark': _Command(config.BenchmarkConfig, 'bench.runners.local:run', 'time training steps, inference or input'),
    'convert': _Command(ConvertConfig, 'bench.data.convert.command:run', 'a dataset to TFRecord shards'),
    'labels': _Command(LabelsConfig, 'bench.data.labels:run', "the names of a dataset's classes"),
    'machine': _Command(
        MachineConfig, 'bench.machine.command:run', 'what this machine and TensorFlow build are, and advice'
    ),
    'models': _Command(config.ModelsConfig, 'bench.models.listing:run', 'the networks, with size and multiply-adds'),
    'network': _Command(NetworkConfig, 'bench.exchange.network:run', 'latency and bandwidth between two machines'),
    'scaling': _Command(ScalingConfig, 'bench.exchange.scaling:run', 'what more workers would reach'),
    'sweep': _Command(SweepConfig, 'bench.sweep.command:run', 'a matrix of runs, interleaved, in one table'),
}
_DEFAULT = 'benchmark'


# What a file that is already open can answer to writing.
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# As shells tell of a program that was ended by SIGPIPE.
_OUTPUT_CUT = 141


def entry() -> None:
    """The installed script's start."""
    sys.exit(main(sys.argv[1:]))


def main(words: Sequence[str]) -> int:
    """Does what the words ask for and gives the exit status: 0 done, 1 failed or interrupted, 2 wrong usage.

    141, without a word, where whoever read the output (`models | head`) had enough before its end: as other programs'.
    """
    _have_streams()
    try:
        # A process that replaces itself keeps Ctrl-C back until here (tuning.start), where it can be answered.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        status = _main(list(words))
        # Here, where it can be told that it fails, and not when Python ends.
        sys.stdout.flush()
        return status
    except UsageError as error:
        for problem in error.problems:
            _tell(problem, words)
        return error.exit_status
    except BenchError as error:
        _tell(str(error), words)
        return error.exit_status
    except KeyboardInterrupt:
        print('interrupted.', file=sys.stderr)
        return 1
    except BrokenPipeError:
        _drop_output()
        return _OUTPUT_CUT
    except OSError as error:
        _drop_output()
        where = 'standard output' if error.errno in _OF_WRITING else 'the system'
        print(f'error: {error.filename or where}: {error.strerror}.', file=sys.stderr)
        return 1


def _have_streams() -> None:
    """Both outputs, also where they are closed (`>&-`), and for names of files that their encoding does not have.

    The system gives the number of a closed one to the next file or connection: what is meant for an output would go
    there, also from processes that are started. So nowhere gets it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, 'w'))  # noqa: PTH123, SIM115  (stays open as long as the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def _tell(problem: str, words: Sequence[str]) -> None:
    """Prints what is wrong, with the flags' names as they were typed."""
    command = COMMANDS.get(words[0] if words and not words[0].startswith('-') else _DEFAULT)
    print(f'error: {flags.as_typed(problem, command.config_class, words) if command else problem}', file=sys.stderr)


def _drop_output() -> None:
    """Drops what standard output does not take, about which Python would complain once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(words: list[str]) -> int:
    if words and words[0] == '--version':
        print(f'tf-bench {__version__}')
        return 0
    name = words.pop(0) if words and not words[0].startswith('-') else None
    wants_help = any(word in ('--help', '-h', '-help', '--helpfull') for word in words)
    if name == 'help' or (name is None and wants_help):
        print(_help())
        return 0
    if name is not None and name not in COMMANDS:
        raise UsageError([_no_such_command(name)])
    if name in (None, _DEFAULT) and '--autotune' in words:
        name = 'autotune'
        words.remove('--autotune')
    command = COMMANDS[name or _DEFAULT]
    if wants_help:
        print(f'run_benchmark.py {name}: {command.job}\n{flags.describe(command.config_class)}')
        return 0
    # TensorFlow's chatter, unless the user's environment asks for it. Before a user's own network imports it.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    warnings.filterwarnings('ignore', module='tensorflow|tf_keras|tf_slim')
    settings, problems = parse(
        command.config_class, words, 'run_benchmark.py', lambda flag: _elsewhere(flag, name or _DEFAULT)
    )
    problems += [text for text in settings.problems(capabilities.detect) if not _follows(text, problems)]
    if problems:
        raise UsageError(problems)
    settings = tuning.start(settings, _share())
    module, _, function = command.function.partition(':')
    return getattr(importlib.import_module(module), function)(settings, [*([name] if name else []), *words])


# Flags that decide the value of another one where that is not given.
_DECIDED_BY = {'variable_update': ('job_name', 'num_workers')}


def _follows(text: str, problems: Sequence[str]) -> bool:
    """Whether a problem is only that a flag has its default, because its value was not understood."""
    wrong = {match[1] for each in problems if (match := re.match(r'--(\w+)[= ]', each))}
    wrong |= {name for name, others in _DECIDED_BY.items() if wrong.intersection(others)}
    return any(re.search(rf'\bwith(out)? --{name}\b', text) for name in wrong)


def _elsewhere(flag: str, name: str) -> str:
    """What to do about a flag that a command lacks and others have."""
    having = [other for other, each in COMMANDS.items() if flags.has(each.config_class, flag)]
    if having == ['autotune'] and name == _DEFAULT:
        return 'It is read with --autotune alone: add that, or leave it out.'
    return f'It is one of {" and ".join(f"`{other}`" for other in having)}; leave it out here.' if having else ''


def _share() -> cores.Share | None:
    """This process's part of the processors, where horovodrun or mpirun started several."""
    if distribution.launched(os.environ) is None:
        return None
    from bench.runners import member

    return member.place(os.environ)


def _no_such_command(name: str) -> str:
    if registry.matching(name):
        return f'{name} is a network, not a command. To time it: run_benchmark.py --model={name}'
    hint = nearest(name, COMMANDS) or f' There are: {", ".join(COMMANDS)}.'
    return f'{name!r} is no command.{hint}'


def _help() -> str:
    lines = [
        'Times convolutional networks on this machine.',
        '',
        '  run_benchmark.py --model=vgg_16                         training steps on synthetic images',
        '  run_benchmark.py --model=vgg_16 --forward_only          inference',
        '  run_benchmark.py --model=resnet_v1_50 --precision=bf16  in bfloat16',
        '',
        'Usage: run_benchmark.py [command] --flags',
        '',
        *(f'  {name:<12}{command.job}' for name, command in COMMANDS.items()),
        '',
        f'Without a command: {_DEFAULT}, whose flags are below; `run_benchmark.py COMMAND --help` shows others.',
        'Exit status: 0 done, 1 failed or interrupted, 2 wrong usage, 141 nobody read the output to its end.',
        flags.describe(COMMANDS[_DEFAULT].config_class),
    ]
    return '\n'.join(lines)
