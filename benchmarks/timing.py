"""Times of several things in one process, taken in turns so that noise hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Action = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Times:
    """Seconds of each call of one action."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the calls took less."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles: half of the calls took between these."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)


def interleaved(
    actions: Mapping[Name, Action], *, rounds: int, calls: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, Times]:
    """Time all actions round by round, the order drawn anew for each round.

    A machine that slows down for a second slows all actions of that second, and none follows the same other one
    every time. The ratio of two medians is then steadier than either of them.

    Args:
        actions: what to time, by name; each is called once before, unmeasured.
        rounds: how often every action has its turn.
        calls: how often it is called in a turn; the first of several finds the caches full of another's data.
        clock: seconds.

    Returns:
        ``rounds * calls`` times of each action.
    """
    for action in actions.values():
        action()
    generator = np.random.default_rng(0)
    names = list(actions)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in (names[index] for index in generator.permutation(len(names))):
            for _ in range(calls):
                started = clock()
                actions[name]()
                seconds[name].append(clock() - started)
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}
