"""Which of several ways to run is the fastest: successive halving, a pure function of the speeds that it asks for.

Every way left is run once in a block, with the default among them, and the slower half is dropped; those that are left
are run as often again as they were run so far, and so on until one is left:
  Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016;
  Karnin, Koren and Somekh, Almost optimal exploration in multi-armed bandits, ICML 2013.
Ways are compared within blocks, by the logarithms of their speeds, so that what slows the machine for a while cancels.
What was chosen because it looked fast looks faster than it is: a comparison of fresh runs has to follow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

Arm = TypeVar('Arm', bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Gain(Generic[Arm]):
    """How much faster than the default an arm looked.

    Attributes:
      times: geometric mean of its speeds over the default's in the same blocks.
      blocks: how many those were.
    """

    arm: Arm
    times: float
    blocks: int


def halve(
    arms: Sequence[Arm],
    default: Arm,
    block: Callable[[Sequence[Arm]], Mapping[Arm, float | None] | None],
) -> list[Gain[Arm]]:
    """Finds the fastest arm.

    Args:
      arms: ways to run, without the default.
      default: the way that all are compared with; it is in every block.
      block: runs each of some arms once, in an order of its choice, and gives their speeds; None for an arm that
        cannot be run, which is dropped. It gives None where there is no time for them: then the halving ends.

    Returns:
      Every arm that was run beside the default, the fastest first: those that lasted longest before those that were
      dropped earlier.
    """
    seen: dict[Arm, list[float]] = {arm: [] for arm in arms}
    left, dropped = list(arms), list[Arm]()
    wanted = 1
    while left:
        for _ in range(wanted):
            speeds = block([default, *left])
            base = speeds.get(default) if speeds else None
            if speeds is None or base is None:
                return _gains([*_sorted(left, seen), *dropped], seen)
            for arm in left:
                speed = speeds.get(arm)
                if speed is not None:
                    seen[arm].append(math.log(speed / base))
            left = [arm for arm in left if speeds.get(arm) is not None]
        left = _sorted(left, seen)
        wanted = max((len(seen[arm]) for arm in left), default=0)
        half = (len(left) + 1) // 2
        left, dropped = left[:half], [*left[half:], *dropped]
        if len(left) <= 1:
            break
    return _gains([*left, *dropped], seen)


def _sorted(arms: Sequence[Arm], seen: Mapping[Arm, Sequence[float]]) -> list[Arm]:
    return sorted((arm for arm in arms if seen[arm]), key=lambda arm: -_mean(seen[arm]))


def _gains(arms: Sequence[Arm], seen: Mapping[Arm, Sequence[float]]) -> list[Gain[Arm]]:
    return [Gain(arm, math.exp(_mean(seen[arm])), len(seen[arm])) for arm in arms if seen[arm]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
