"""The command `machine`: its options, and the requirements of `--require`, which scripts and images ask for.

A requirement is a word: `avx2`, the processor has it; `built:avx2`, the TensorFlow binary was built for it;
`onednn:avx2`, oneDNN computes convolutions with it; `onednn`, oneDNN computes convolutions; `openmp`, TensorFlow was
built with Intel's OpenMP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import errors
from bench.machine import capabilities, cpu, instruction_sets, libraries, probe
from bench.machine.options import MachineOptions, machine_problems
from bench.machine.probe import Probe
from bench.options import option

_SETS = {one.name: one for one in (*instruction_sets.X86, *instruction_sets.ARM)}
# As ARM's set of vectors is called beside Linux's name of it.
_ALSO = {'neon': 'asimd'}
_COLUMNS = ('built', 'onednn')
_WORDS = (*_SETS, 'onednn', 'openmp')


@dataclasses.dataclass(frozen=True)
class MachineConfig:
    """What to tell of this machine."""

    require: str | None = option(
        None,
        'Tell only whether these are there, and end with status 1 where one is not: avx2, or on ARM sve (the processor '
        'has it), built:avx2 (TensorFlow was built for it), onednn:avx2 (oneDNN computes with it), onednn, openmp, '
        '...; comma-separated.',
    )
    json: bool = option(False, 'Print JSON instead of tables.')
    machine: MachineOptions = dataclasses.field(default_factory=MachineOptions, metadata={'group': True})

    def problems(self, detect: Callable[..., Any]) -> list[str]:
        """Requirements that do not exist, each with the nearest that does, and settings that cannot be."""
        del detect
        found = machine_problems(self.machine)
        if self.require is not None and not self.required():
            found.append(f'--require= names nothing.{_there_are()}')
        for column, name in self.required():
            if column not in ('', *_COLUMNS) or name not in (_SETS if column else _WORDS):
                word = f'{column}:{name}' if column else name
                found.append(f'--require={word}: there is no such requirement.{_hint(name)}')
        return found

    def required(self) -> list[tuple[str, str]]:
        """(column, name) of each requirement: ('', 'avx2'), ('built', 'avx2'), ('', 'onednn')."""
        words = [word.strip().lower().replace('.', '_').replace('-', '_') for word in (self.require or '').split(',')]
        pairs = [word.partition(':') for word in words if word]
        named = [(first, last) if colon else ('', first) for first, colon, last in pairs]
        return [(column, _ALSO.get(name, name)) for column, name in named]


def _hint(name: str) -> str:
    longer = [word for word in _WORDS if name and word.startswith(name)]
    if longer:
        return f' Did you mean {" or ".join(longer)}?'
    return errors.nearest(name, (*_WORDS, *_ALSO)) or _there_are()


def _there_are() -> str:
    """The requirements that a processor of this one's architecture can meet; all where that is not known."""
    mine = [one.name for one in instruction_sets.of_architecture(cpu.flags())] or _SETS
    return f' There are: {", ".join((*mine, "onednn", "openmp"))}; built: and onednn: before a set.'


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whether a requirement is met, and why (not)."""

    requirement: str
    met: bool
    reason: str


def answers(
    required: Sequence[tuple[str, str]], ask: Callable[[], Probe | str], given: Mapping[str, str] | None = None
) -> list[Answer]:
    """Each requirement's answer.

    Args:
      ask: starts TensorFlow; called once at the most, and only where a requirement is of TensorFlow.
      given: variables that flags ask for, which may be why oneDNN is off.
    """
    seen: list[Probe | str] = []

    def probed() -> Probe | str:
        if not seen:
            seen.append(ask())
        return seen[0]

    return [_answer(column, name, probed, given or {}) for column, name in required]


def _answer(column: str, name: str, ask: Callable[[], Probe | str], given: Mapping[str, str]) -> Answer:
    if not column and name == 'openmp':
        return _openmp()
    if name in _SETS and (kinds := instruction_sets.foreign(name, cpu.flags())):
        return Answer(f'{column}:{name}' if column else name, False, _foreign(name, *kinds))
    if not column and name in _SETS:
        who = f'the processor ({cpu.processor().name})'
        whys = {'yes': f'{who} has it', 'no': f'{who} does not have it'}
        has = instruction_sets.has(name, cpu.flags())
        return Answer(name, has == 'yes', whys.get(has, f'unknown: Linux does not tell whether {who} has it'))
    word = f'{column}:{name}' if column else name
    seen = ask()
    if isinstance(seen, str):
        return Answer(word, False, f'unknown: {seen}')
    if not column:
        return _onednn(seen, given)
    one, flags = _SETS[name], cpu.flags()
    if column == 'built':
        state = probe.built_for(one, flags, seen)
        version = f'TensorFlow {seen.tensorflow["version"]}'
        reasons = {'yes': f'{version} was built for it', 'no': f'{version} was not built for it'}
        return Answer(word, state == 'yes', reasons.get(state, f'unknown: {version} does not tell'))
    if not seen.onednn and not any(seen.convolutions.values()):
        return dataclasses.replace(_onednn(seen, given), requirement=word)
    state, evidence = probe.dispatched(one, flags, seen)
    evidence = evidence or f'the processor ({cpu.processor().name}) does not have it'
    return Answer(word, state == 'yes', evidence if state != 'unknown' else f'unknown: {evidence}')


def _foreign(name: str, theirs: str, mine: str) -> str:
    has = [one.name for one in instruction_sets.of_architecture(cpu.flags()) if one.name in cpu.flags()]
    return (
        f'{_SETS[name].title} is an instruction set of {theirs}, and this is an {mine} processor '
        f'({cpu.processor().name}), which has {", ".join(has) or "none that count here"}'
    )


def _onednn(seen: Probe, given: Mapping[str, str]) -> Answer:
    if seen.convolutions:
        ran = ', '.join(f'{dtype} in {", ".join(names)}' for dtype, names in seen.convolutions.items())
        return Answer('onednn', True, f'oneDNN {seen.onednn_version} computed convolutions: {ran}')
    off = capabilities.detect(given=given).onednn_reason
    return Answer('onednn', False, f'oneDNN is off: {off}' if off else 'oneDNN computed no convolution')


def _openmp() -> Answer:
    found = libraries.openmp()
    if found is None:
        return Answer('openmp', False, "unknown: TensorFlow's libraries could not be looked at")
    intel = [name for name in found if name in libraries.INTEL_OPENMP]
    return Answer(
        'openmp',
        bool(intel),
        f'TensorFlow is linked with {", ".join(intel)}' if intel else "TensorFlow is not linked with Intel's OpenMP",
    )
