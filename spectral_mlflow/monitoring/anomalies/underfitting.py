"""Underfitting: well into the run the loss is still near where it began."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.statistics import median

FIRST = 5  # Losses that say where it began.
PART = 0.5  # Of the run.
LEAST_STEPS = 100
REMAINS = 0.8  # Of the loss; knowing no more than how frequent each character is, leaves about as much.
WINDOW = 50  # Losses, of which the middle one is compared.


class UnderfittingDetector(Detector):
    """Compares the loss with the first ones, once."""

    MEMORY = ("losses", "first", "judged")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.losses: list[float] = []
        self.first: float | None = None
        self.judged = False

    def look(self, scene: Scene) -> Sign | None:
        """In the middle of the run."""
        loss, step = scene.finite("loss"), scene.record.step
        if loss is None or self.judged:
            return None
        self.losses = [*self.losses, loss][-WINDOW:]
        if self.first is None and len(self.losses) == FIRST:
            self.first = median(self.losses)
        if self.first is None or step < max(LEAST_STEPS, PART * self.known.steps):
            return None
        self.judged = True
        now = median(self.losses)
        if now < REMAINS * self.first:
            return None
        return Sign("underfitting", f"loss {now:.4g} at step {step}, {self.first:.4g} at the start", step)
