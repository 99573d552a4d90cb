"""RemainingTime: how long a run will still take."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

MEMORY_SECONDS = 60.0  # The step rate is that of about the last minute of steps.
FIRST_STEPS = 3  # Slow, as whatever is done for the first time; forgotten once there are as many others.
RECENT = 8  # Pauses of a kind, which those to come are expected to be like.


@dataclass(frozen=True)
class Pause:
    """Something that is done between steps now and then.

    Attributes:
        interval: steps between two of them, also at the last step; 0: never.
        steps_worth: how many steps it is expected to take as long as, before there was one.
        seconds: that it is expected to take besides; they count as a pause that was, until there were two.
        after: whether it follows the update of its step, and not that the pause.
    """

    interval: int
    steps_worth: float = 0.0
    seconds: float = 0.0
    after: bool = False

    def remaining(self, step: int, total: int) -> int:
        """How many are still to come at the update of a step."""
        if not self.interval:
            return 0
        if step >= total:
            return int(self.after)
        over = max(0, step - self.after) // self.interval
        return total // self.interval - over + bool(total % self.interval)


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
        self._kinds = {kind: _Kind(pause, step) for kind, pause in pauses.items()}
        self._paused: dict[str, float] = {}  # Seconds since the last update that were no part of a step.

    def pause(self, kind: str, seconds: float) -> None:
        """Count a pause that is over."""
        self._paused[kind] = self._paused.get(kind, 0.0) + seconds

    def update(self, step: int, now: float) -> None:
        """Count the steps since the last call."""
        steps = max(0, step - self._step)  # A run that was rolled back gains nothing.
        seconds = max(0.0, now - self._now - sum(self._paused.values()))
        self._updates += 1
        if self._updates <= FIRST_STEPS:
            self._first_steps += steps
            self._first_seconds += seconds
        else:
            fade = math.exp(-seconds / MEMORY_SECONDS)
            self._steps = self._steps * fade + steps
            self._seconds = self._seconds * fade + seconds
        for kind, paused in self._paused.items():
            self._kinds.setdefault(kind, _Kind(None, self._begun)).add(step, paused)
        self._step, self._now, self._paused = step, now, {}

    def seconds(self) -> float | None:
        """Until the last step is done; None before there is a rate."""
        early = self._updates < 2 * FIRST_STEPS
        steps = self._steps + (self._first_steps if early else 0)
        seconds = self._seconds + (self._first_seconds if early else 0)
        if steps <= 0 or seconds <= 0:
            return None
        each = seconds / steps
        pauses = sum(kind.remaining(self._step, self._total) * kind.expected(each) for kind in self._kinds.values())
        return max(0, self._total - self._step) * each + pauses


class _Kind:
    """The pauses of a kind so far, and what is expected of those to come.

    Where nobody has said when they come, whole intervals like those so far are expected to follow the newest one.
    """

    def __init__(self, known: Pause | None, step: int) -> None:
        self._known = known
        self._newest = step
        self._taken: deque[float] = deque(maxlen=RECENT)
        self._intervals: deque[int] = deque(maxlen=RECENT)
        self._is_repeated = False

    def add(self, step: int, seconds: float) -> None:
        """Count one, before the update of a step."""
        if self._taken and not self._is_repeated:  # The first one is slow, and came after no other.
            self._taken.clear()
            self._intervals.clear()
            self._is_repeated = True
        self._taken.append(seconds)
        self._intervals.append(max(1, step - self._newest))
        self._newest = step

    def remaining(self, step: int, total: int) -> int:
        """How many are still to come."""
        if self._known:
            return self._known.remaining(step, total)
        interval = max(statistics.fmean(self._intervals), step - self._newest)  # Overdue: rarer than they were.
        return int((total - self._newest) // interval)

    def expected(self, each: float) -> float:
        """Seconds of one, where a step takes so many."""
        guess = self._known.steps_worth * each + self._known.seconds if self._known else 0.0
        if not self._taken:
            return guess
        is_one = self._known is not None and self._known.seconds > 0 and not self._is_repeated
        return statistics.median([*self._taken, guess] if is_one else self._taken)
