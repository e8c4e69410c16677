"""What a search found, in lines."""

from __future__ import annotations

from analysis import statistics
from bench.autotune.search import LEAST_PAIRS, Found
from bench.config import BenchmarkConfig
from bench.errors import number
from bench.machine import noise


def lines(found: Found, resolved: BenchmarkConfig) -> list[str]:
    """How each setting looked, what was compared, and what it brings."""
    out = ['']
    if found.looked:
        width = max(len(gain.arm.name) for gain in found.looked)
        out.append(f'{"settings":<{width}}  x default  blocks   (as it looked while it was looked for)')
        out += [f'{gain.arm.name:<{width}}  {gain.times:>9.3f}  {gain.blocks:>6}' for gain in found.looked]
    failed = {sample.change.name for sample in found.samples if sample.speed is None}
    out += [f'{name} could not be run' for name in sorted(failed)]
    if found.not_tried:
        names = ', '.join(change.name for change in found.not_tried)
        out.append(f'not tried for want of time: {names}. Raise --autotune_seconds.')
    if not found.interrupted:
        out += ['', *_answer(found, resolved)]
    return out


def _answer(found: Found, resolved: BenchmarkConfig) -> list[str]:
    if found.best is None and not found.looked:
        return ['Nothing could be tried: the defaults are kept.']
    if found.best is None:
        return ['Nothing that was tried looked more than 1 % faster than the defaults: the defaults are kept.']
    if found.gain is None:
        return [f'{found.best.name} looked faster, but could not be compared with the defaults: they are kept.']
    gain, pairs = found.gain, len(found.pairs)
    interval = told = ''
    if statistics.tells(gain.low, gain.high):
        interval, told = f' [{gain.low:.3f}, {gain.high:.3f}]', ' (95 % interval)'
    elif gain.low is not None:
        told = ', too few and too different for an interval'
    out = [
        f'{found.best.name}: {gain.estimate:.3f} times{interval} as fast as the defaults, in '
        f'{number(pairs, "fresh pair")}{told}.'
    ]
    if pairs < LEAST_PAIRS:
        out.append(f'The time was over after {pairs} of {LEAST_PAIRS} pairs. Raise --autotune_seconds.')
    disturbed = sum(bool(noise.CODES.intersection(sample.warnings)) for sample in found.samples[-2 * pairs :])
    if disturbed:
        out.append(f'{disturbed} of these {2 * pairs} runs were disturbed, as their records say: run it again.')
    if not found.proven:
        out.append('That may be chance: the defaults are kept.')
    elif 'batch_size' in found.best.names:
        out.append(
            f'That is at another batch size than {resolved.network.batch_size}: more images/sec, though a step may '
            'take longer, and training may learn otherwise.'
        )
    if found.proven and 'precision' in found.best.names:
        out.append('bfloat16 rounds: look whether your network still learns, or classifies, as it should.')
    return out
