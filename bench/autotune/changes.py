"""Which settings `autotune` tries: each a change of the user's command line that can be made on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from bench import flags
from bench.autotune.options import AutotuneConfig
from bench.config import BenchmarkConfig
from bench.machine import cpu, tuning
from bench.machine.capabilities import Capabilities
from bench.models import registry

_ALLOCATORS = ('tcmalloc', 'jemalloc')


@dataclasses.dataclass(frozen=True)
class Change:
    """Flags with values that differ from the user's; none: the user's command line as it is."""

    flags: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """As it is typed."""
        return ' '.join(self.words) or 'default'

    @property
    def words(self) -> list[str]:
        """Of the command line."""
        return [f'--{name}={value}' for name, value in self.flags]

    @property
    def names(self) -> frozenset[str]:
        """Of the flags."""
        return frozenset(name for name, _ in self.flags)

    def __add__(self, other: Change) -> Change:
        return Change((*self.flags, *other.flags))


DEFAULT = Change(())


def candidates(config: AutotuneConfig, capabilities: Callable[[], Capabilities]) -> list[Change]:
    """Single changes, those that most often bring something first: a short search leaves out the last.

    What the user typed, or set in the environment, is not changed, and what is refused here is not tried.
    """
    base, _ = config.benchmark_config()
    network = registry.get(base.network.model)
    usable = cpu.usable_cpus()
    batch = base.network.batch_size or network.batch_size
    tried = [] if capabilities().onednn else [_single('mkl', 'on')]
    if config.allow_bf16:
        tried.append(_single('precision', 'bf16'))
    if config.allow_batch_size:
        tried += [_single('batch_size', size) for size in (2 * batch, 4 * batch, batch // 2) if size]
    tried += [_single('num_inter_threads', threads) for threads in sorted({2, usable}) if threads > 1]
    tried += [_single('allocator', name) for name in _ALLOCATORS]
    tried += [_single('xla', 'true'), _single('data_format', 'NCHW')]
    if capabilities().onednn:
        tried.append(_single('mkl', 'off'))
    else:
        # By itself NCHW is refused then.
        tried.append(_single('mkl', 'on') + _single('data_format', 'NCHW'))
    tried += [_single('num_intra_threads', threads) for threads in _fewer_threads(usable)]
    left_alone = {*config.typed(), *tuning.kept()}
    return [change for change in tried if not change.names & left_alone and can_be_run(config, change, capabilities)]


def _single(name: str, value: object) -> Change:
    return Change(((name, str(value)),))


def can_be_run(config: AutotuneConfig, change: Change, capabilities: Callable[[], Capabilities]) -> bool:
    """Whether nothing is wrong with the user's command line and this change."""
    changed, wrong = flags.parse(BenchmarkConfig, [*config.benchmark, *change.words], 'autotune')
    return not wrong and not changed.problems(capabilities)


def _fewer_threads(usable: int) -> list[int]:
    """As many as cores, where these compute two threads each, and half of what may be used."""
    import psutil

    threads, cores = psutil.cpu_count(logical=True) or usable, psutil.cpu_count(logical=False) or usable
    return sorted({max(1, usable * cores // threads), max(1, usable // 2)} - {usable}, reverse=True)


def combined(gains: Mapping[Change, float], possible: Callable[[Change], bool]) -> list[Change]:
    """Changes made together: the best two, the best three and so on, one value of each flag.

    Args:
      gains: of the single changes: how many times as fast as the default each looked.
      possible: whether some can be made together; one that cannot be added is passed over.
    """
    together, found = DEFAULT, []
    for change in sorted(gains, key=lambda each: -gains[each]):
        if not change.names & together.names and (together == DEFAULT or possible(together + change)):
            together = together + change
            found.append(together)
    return found[1:]
