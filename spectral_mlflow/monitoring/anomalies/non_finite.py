"""Loss or gradient that is not finite."""

from __future__ import annotations

import math

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign

MEASURED = ("loss", "objective", "grad/norm")
FATAL = 3  # In a row: the weights are no longer good.
SEARCH = 20  # In a row in which a gradient scaler may look for its scale.


class NonFiniteDetector(Detector):
    """Tells of the first step of each series."""

    MEMORY = ("in_a_row", "since")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.in_a_row = 0
        self.since = 0

    def look(self, scene: Scene) -> Sign | None:
        """At once, and once more when it lasts."""
        metrics, step = scene.record.metrics, scene.record.step
        broken = [name for name in MEASURED if name in metrics and not math.isfinite(metrics[name])]
        if not broken:
            self.in_a_row = 0
            return None
        self.in_a_row += 1
        if self.in_a_row == 1:
            self.since = step
        patience = SEARCH if self.known.scaled and broken == ["grad/norm"] else 0
        found = ", ".join(f"{name} is {metrics[name]}" for name in broken)
        if self.in_a_row == patience + 1:
            return Sign("non_finite", found, self.since)
        if self.in_a_row == patience + FATAL:
            return Sign("non_finite", f"{found}, for {self.in_a_row} steps in a row", self.since, "fatal")
        return None
