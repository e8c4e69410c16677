"""What TensorFlow's binary and oneDNN do on this processor, seen in their own logs and not assumed.

A fresh process (probe_child.py) computes a small convolution in each type. Three things are read from what it prints:
the instruction sets that TensorFlow says it was not built for (tensorflow/core/platform/cpu_feature_guard.cc, which
also ends the process where it was built for one that the processor lacks), the instruction set that oneDNN found, and
the name of the implementation that computed each convolution (oneDNN's developer guide, "Verbose Mode").
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import instruction_sets, libraries
from bench.machine.instruction_sets import InstructionSet
from bench.machine.libraries import INTEL_OPENMP

DTYPES = ('fp32', 'bf16', 'fp16', 'int8')
_SECONDS = 300
_MARK = 'TF_BENCH_PROBE '
# The texts of TensorFlow 2.2 to 2.20.
_UNUSED = re.compile(
    r'(?:To enable the following instructions:|binary was not compiled to use:|'
    r'to use the following CPU instructions in performance-critical operations:)\s*([\w. ]+)'
)
_VERBOSE = re.compile(r'^(?:onednn|dnnl)_verbose,', re.MULTILINE)
_INFO = re.compile(r'\bI (?:tensorflow|external|\w+/)[\w/.]*:\d+\]')
# Sets that the guards of earlier releases do not look at: that they are not told of says nothing.
_LATE = ('avx512_fp16', 'amx_fp16')


@dataclasses.dataclass(frozen=True)
class Probe:
    """What was seen.

    Attributes:
      tensorflow: version, git_version, compiler.
      onednn: whether TensorFlow's operations use oneDNN.
      onednn_version: '3.5.0 (commit ...)'; None where oneDNN printed nothing.
      isa: the most that oneDNN may use, in its words.
      runtime: what it computes on: 'threadpool' is TensorFlow's own threads, 'OpenMP' is OpenMP's.
      convolutions: by type, the implementations that computed them; empty where oneDNN computed none.
      failed: by type, why a convolution could not be computed.
      unused: the guard's names of instruction sets that the processor has and TensorFlow was not built for; None where
        TensorFlow's log could not be read.
      libraries: the names of the shared libraries that the process had loaded.
    """

    tensorflow: dict[str, str]
    onednn: bool
    onednn_version: str | None
    isa: str | None
    runtime: str | None
    convolutions: dict[str, tuple[str, ...]]
    failed: dict[str, str]
    unused: tuple[str, ...] | None
    libraries: tuple[str, ...]

    @property
    def openmp(self) -> tuple[str, ...]:
        """The OpenMP runtimes that were loaded."""
        return libraries.named(self.libraries, (*INTEL_OPENMP, 'libgomp'))


def run(variables: Mapping[str, str] | None = None) -> Probe | str:
    """Starts the process, which takes some seconds; or why nothing was seen, as a sentence.

    A convolution can end the process: TensorFlow asks the processor and not ONEDNN_MAX_CPU_ISA whether oneDNN computes
    in bfloat16. The types that are left are computed in another process then.

    Args:
      variables: of its environment, besides this process's.
    """
    output, log, left = '', '', list(DTYPES)
    while True:
        try:
            done = _start(left, variables or {})
        except (OSError, subprocess.TimeoutExpired) as error:
            return f'TensorFlow could not be asked: {error}.'
        output, log = output + done.stdout, log + done.stderr
        begun = _told(done.stdout).get('begin')
        if done.returncode == 0 or begun is None:
            break
        output += f'\n{_MARK}{json.dumps({"failed": {begun: f"ended by {_ended(done.returncode)}"}})}\n'
        left = left[left.index(begun) + 1 :]
    found = parse(output, log)
    if found is None:
        last = next((line for line in reversed(log.splitlines()) if line.strip()), 'it printed nothing')
        return f'TensorFlow could not be asked: its process ended with {_ended(done.returncode)}: {last[:300]}'
    return found


def _start(dtypes: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    environ = {
        **os.environ,
        **variables,
        'PYTHONPATH': os.pathsep.join(part for part in (root, os.environ.get('PYTHONPATH', '')) if part),
        'TF_CPP_MIN_LOG_LEVEL': '0',
        'ONEDNN_VERBOSE': '1',
        'ONEDNN_VERBOSE_TIMESTAMP': '0',
    }
    command = [sys.executable, '-m', 'bench.machine.probe_child', *dtypes]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=_SECONDS)


def _ended(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f'status {status}'


def _told(output: str) -> dict[str, Any]:
    """What the process told itself, the last of each."""
    lines = (line.removeprefix(_MARK) for line in output.splitlines() if line.startswith(_MARK))
    return {name: value for line in lines for name, value in json.loads(line).items()}


def parse(output: str, log: str) -> Probe | None:
    """What the process's standard output and standard error tell, or None where it did not come to compute."""
    told = _told(output)
    if 'version' not in told or 'begin' not in told:
        return None
    dtype = ''
    failed: dict[str, str] = {}
    convolutions: dict[str, list[str]] = {}
    facts: dict[str, str] = {}
    for line in output.splitlines():
        if line.startswith(_MARK):
            own = json.loads(line.removeprefix(_MARK))
            dtype = own.get('begin', dtype)
            failed.update(own.get('failed', {}))
        elif _VERBOSE.match(line):
            _read_verbose(line, dtype, facts, convolutions)
    return Probe(
        tensorflow={name: told[name] for name in ('version', 'git_version', 'compiler')},
        onednn=told['onednn'],
        onednn_version=facts.get('version'),
        isa=facts.get('isa'),
        runtime=facts.get('runtime'),
        convolutions={name: tuple(names) for name, names in convolutions.items()},
        failed=failed,
        unused=_unused(log),
        libraries=tuple(told['libraries']),
    )


def _read_verbose(line: str, dtype: str, facts: dict[str, str], convolutions: dict[str, list[str]]) -> None:
    """Adds what a line of oneDNN's log tells.

    Lines of its releases differ: `onednn_verbose,info,cpu,isa:...`, `onednn_verbose,v1,info,cpu,isa:...`;
    `onednn_verbose,exec,cpu,convolution,jit:avx2,...`, `onednn_verbose,v1,primitive,exec,cpu,convolution,...`.
    """
    fields = line.split(',')
    if 'info' in fields[:3]:
        rest = ','.join(fields[fields.index('info') + 1 :])
        for name, pattern in (
            ('version', r'^oneDNN v(.+)'),
            ('isa', r'^cpu,isa:(.+)'),
            ('runtime', r'^cpu,runtime:(\w+)'),
        ):
            match = re.match(pattern, rest)
            if match:
                facts.setdefault(name, match[1].strip())
    elif 'exec' in fields[:5] and 'convolution' in fields:
        implementation = fields[fields.index('convolution') + 1]
        names = convolutions.setdefault(dtype, [])
        if implementation not in names:
            names.append(implementation)


def _unused(log: str) -> tuple[str, ...] | None:
    found = _UNUSED.search(log)
    if found:
        return tuple(found[1].split(', ')[0].split())
    # TensorFlow tells nothing where it was built for all; but then other lines of that level must be there.
    return () if _INFO.search(log) else None


def built_for(one: InstructionSet, flags: frozenset[str], seen: Probe) -> str:
    """'yes', 'no' or 'unknown': whether TensorFlow's own code was built for an instruction set."""
    if one.name == 'asimd':
        return 'yes'  # Every program for 64-bit ARM is.
    if one.guard is None or seen.unused is None:
        return 'unknown'
    has = instruction_sets.has(one.name, flags)
    if has == 'no' or one.guard in seen.unused:
        # Built for what the processor lacks TensorFlow would not have come to its end.
        return 'no'
    return 'unknown' if one.name in _LATE or has == 'unknown' else 'yes'


def dispatched(one: InstructionSet, flags: frozenset[str], seen: Probe) -> tuple[str, str]:
    """'yes', 'no' or 'unknown', and what was seen: whether oneDNN computed a convolution with an instruction set.

    Code of a level that includes the instruction set counts, for the type of numbers that it is for.
    """
    if not any(seen.convolutions.values()):
        return 'no', 'oneDNN is off' if not seen.onednn else 'oneDNN computed no convolution'
    if instruction_sets.has(one.name, flags) == 'no':
        return 'no', ''
    names = seen.convolutions.get(one.dtype, ())
    if not names:
        failed = seen.failed.get(one.dtype)
        return ('no', f'{one.dtype}: {failed}') if failed else ('unknown', f'no {one.dtype} convolution ran')
    ran = f'{one.dtype}: {", ".join(names)}'
    if any(_includes(name, one.name) for name in names):
        return 'yes', ran
    levels = [_level(name) for name in names]
    return ('unknown' if one in instruction_sets.ARM or None in levels else 'no'), ran


def _level(implementation: str) -> str | None:
    """The level in an implementation's name: of 'brgconv:avx512_core' AVX512_CORE."""
    return instruction_sets.level(implementation.rpartition(':')[2])


def _includes(implementation: str, name: str) -> bool:
    level = _level(implementation)
    if level is not None:
        return name in instruction_sets.LEVELS[level]
    # ARM's: 'brgconv:sve_256', or of ARM's own library 'gemm:acl', which is written for Neon.
    return (name == 'sve' and ':sve_' in implementation) or (
        name == 'asimd' and implementation.endswith(('acl', 'asimd'))
    )
