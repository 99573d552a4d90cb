"""What is usual for a noisy series that drifts, whatever its outliers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from spectral_mlflow.monitoring.anomalies.detector import Memory
from spectral_mlflow.monitoring.anomalies.statistics import median

TO_DEVIATION = 1.4826  # A normal distribution's standard deviation over its median absolute deviation.


class Baseline(Memory):
    """An exponentially weighted level, and the median absolute deviation (MAD) of the residuals from it.

    The caller decides which values enter: outliers are scored and kept out.

    Attributes:
        level: None before the first value.
        spread: as a standard deviation.
        count: values that have entered.
    """

    def __init__(self, *, rate: float = 0.1, window: int = 64, floor: float = 0.0, relative: float = 0.0) -> None:
        """Know nothing yet.

        Args:
            rate: weight of a new value in the level.
            window: number of residuals.
            floor: least spread.
            relative: least spread, as a part of the level.
        """
        self._rate, self._floor, self._relative = rate, floor, relative
        self._residuals: deque[float] = deque(maxlen=window)
        self.level: float | None = None
        self.spread = 0.0
        self.count = 0

    def score(self, value: float) -> float:
        """Distance from the level in spreads; 0 before there is one."""
        if self.level is None or not self.spread:
            return 0.0
        return (value - self.level) / self.spread

    def enter(self, value: float) -> None:
        """Take a value that is usual."""
        if self.level is None:
            self.level = value
        residual = value - self.level
        self._residuals.append(residual)
        self.level += self._rate * residual
        self.count += 1
        deviation = TO_DEVIATION * median([abs(residual) for residual in self._residuals])
        self.spread = max(deviation, self._floor, self._relative * abs(self.level))

    def rebase(self, level: float) -> None:
        """Another level is usual from now on, with the same spread."""
        self.level = level

    def state_dict(self) -> dict[str, Any]:
        """Level, spread and residuals."""
        return {"level": self.level, "spread": self.spread, "count": self.count, "residuals": list(self._residuals)}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from there."""
        self.level, self.spread, self.count = state["level"], state["spread"], state["count"]
        self._residuals.clear()
        self._residuals.extend(state["residuals"])
