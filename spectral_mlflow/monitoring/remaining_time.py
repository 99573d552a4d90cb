"""RemainingTime: how long a run will still take."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

MEMORY_SECONDS = 60.0  # The step rate is that of about the last minute of steps.
FIRST_STEPS = 3  # Slow, as whatever is done for the first time; forgotten once there are as many others.
RECENT = 8  # Pauses of a kind, the median of which is expected of those to come.


@dataclass(frozen=True)
class Pause:
    """Something that is done between steps now and then.

    Attributes:
        interval: steps between two of them, also at the last step; 0: never.
        steps_worth: how many steps it is expected to take as long as, before there was one.
    """

    interval: int
    steps_worth: float = 0.0

    def remaining(self, step: int, total: int) -> int:
        """How many are still to come."""
        if not self.interval or step >= total:
            return 0
        return total // self.interval - step // self.interval + bool(total % self.interval)


class RemainingTime:
    """Steps to go times seconds of a step, plus pauses to go times seconds of a pause, each kind by itself.

    Each step is weighted by exp(-age / MEMORY_SECONDS). Steps and seconds are averaged apart and divided, so the rate
    is right from the first step on.
    """

    def __init__(self, total: int, step: int, now: float, pauses: Mapping[str, Pause]) -> None:
        """Know nothing yet.

        Args:
            total: step at which the run is done.
            step: steps done already.
            now: seconds by the clock of the run.
            pauses: those that come at known steps.
        """
        self._total = total
        self._begun, self._step, self._now = step, step, now
        self._steps = self._seconds = 0.0
        self._first_steps, self._first_seconds = 0, 0.0
        self._updates = 0
        self._pauses = dict(pauses)
        self._taken: dict[str, deque[float]] = {}
        self._repeated: set[str] = set()  # Kinds that there was more than one pause of.
        self._irregular = 0.0  # Seconds of pauses of which nobody knows when they come.
        self._paused = 0.0  # Seconds since the last update that were no part of a step.

    def pause(self, kind: str, seconds: float) -> None:
        """Count a pause that is over."""
        self._paused += seconds
        if kind in self._pauses:
            taken = self._taken.setdefault(kind, deque(maxlen=RECENT))
            if kind not in self._repeated and taken:
                taken.clear()  # The first one is slow.
                self._repeated.add(kind)
            taken.append(seconds)
        else:
            self._irregular += seconds

    def update(self, step: int, now: float) -> None:
        """Count the steps since the last call."""
        steps = max(0, step - self._step)  # A run that was rolled back gains nothing.
        seconds = max(0.0, now - self._now - self._paused)
        self._updates += 1
        if self._updates <= FIRST_STEPS:
            self._first_steps += steps
            self._first_seconds += seconds
        else:
            fade = math.exp(-seconds / MEMORY_SECONDS)
            self._steps = self._steps * fade + steps
            self._seconds = self._seconds * fade + seconds
        self._step, self._now, self._paused = step, now, 0.0

    def seconds(self) -> float | None:
        """Until the last step is done; None before there is a rate."""
        early = self._updates < 2 * FIRST_STEPS
        steps = self._steps + (self._first_steps if early else 0)
        seconds = self._seconds + (self._first_seconds if early else 0)
        if steps <= 0 or seconds <= 0:
            return None
        each = seconds / steps
        to_go = max(0, self._total - self._step)
        irregular = to_go * self._irregular / max(1, self._step - self._begun)
        return to_go * each + irregular + sum(self._pauses_seconds(kind, each) for kind in self._pauses)

    def _pauses_seconds(self, kind: str, each: float) -> float:
        pause, taken = self._pauses[kind], self._taken.get(kind)
        expected = statistics.median(taken) if taken else pause.steps_worth * each
        return pause.remaining(self._step, self._total) * expected
