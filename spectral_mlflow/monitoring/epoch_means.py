"""EpochMeans: the mean losses of each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class EpochMeans:
    """Adds up losses until an epoch is full.

    Args:
        steps_per_epoch: steps of an epoch, at least 1.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._sums: dict[str, tuple[float, int]] = {}  # And of how many values.

    def place(self, step: int) -> tuple[int, int]:
        """Number of the epoch that a step is in, and of the step in it, both from 1."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        return epoch + 1, batch + 1

    def count(self, total_steps: int) -> int:
        """Epochs of a run of so many steps, the last perhaps not a whole one."""
        return math.ceil(total_steps / self.steps_per_epoch)

    def add(self, step: int, losses: Mapping[str, float]) -> dict[str, float] | None:
        """Count the losses of a step, those that are finite.

        Returns:
            The means of its epoch if it was the last step of it, else None.
        """
        for name, value in losses.items():
            if math.isfinite(value):
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + value, count + 1
        if step % self.steps_per_epoch:
            return None
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {name: list(sums) for name, sums in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the sums."""
        self._sums = {name: (total, count) for name, (total, count) in state.items()}
