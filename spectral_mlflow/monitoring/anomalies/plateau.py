"""A plateau: updates that scarcely move the weights, measured against those of before."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.statistics import median

WINDOW = 16  # Samples of the ratio.
READY = 3
PART = 0.1  # Of the usual ratio for this learning rate.
IN_A_ROW = 2


class PlateauDetector(Detector):
    """Follows the norm of the update over that of the parameters, for a learning rate of 1."""

    MEMORY = ("ratios", "low_since", "in_a_row")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.ratios: list[float] = []
        self.low_since = 0
        self.in_a_row = 0

    def look(self, scene: Scene) -> Sign | None:
        """At a step on which the ratio was measured."""
        ratio, step = scene.finite("update/ratio"), scene.record.step
        lr = scene.record.scheduled_lr or scene.finite("learning_rate") or 1.0
        if ratio is None or not scene.record.updated:
            return None
        moved = ratio / lr
        usual = median(self.ratios) if len(self.ratios) >= READY else 0.0
        if moved >= PART * usual:
            self.ratios, self.in_a_row = [*self.ratios, moved][-WINDOW:], 0
            return None
        self.in_a_row += 1
        if self.in_a_row == 1:
            self.low_since = step
        if self.in_a_row != IN_A_ROW:
            return None
        message = f"updates are {ratio:.2g} of the weights, usual at this learning rate is {usual * lr:.2g}"
        return Sign("plateau", message, self.low_since)
