"""The validation loss: overfitting is a long time after its minimum, while the loss itself goes on falling."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign

PATIENCE = 3  # Evaluations after the minimum.
RISE = 0.01  # By which each of them is above it, as a part of it.
RATE = 0.05  # Weight of a new loss in the mean.


class ValidationDetector(Detector):
    """Remembers the minimum, and what the training loss was there."""

    MEMORY = ("loss", "lowest", "lowest_step", "loss_there", "worse")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.loss: float | None = None
        self.lowest: float | None = None
        self.lowest_step = 0
        self.loss_there = 0.0
        self.worse = 0

    def look(self, scene: Scene) -> Sign | None:
        """At an evaluation."""
        loss, val_loss = scene.finite("loss"), scene.finite("val_loss")
        if loss is not None:
            self.loss = loss if self.loss is None else self.loss + RATE * (loss - self.loss)
        if val_loss is None or self.loss is None:
            return None
        if self.lowest is None or val_loss < self.lowest:
            self.lowest, self.lowest_step = val_loss, scene.record.step
            self.loss_there, self.worse = self.loss, 0
            return None
        self.worse = self.worse + 1 if val_loss > (1 + RISE) * self.lowest else 0
        if self.worse < PATIENCE or self.loss >= self.loss_there:
            return None
        message = (
            f"validation loss {val_loss:.4g}, best {self.lowest:.4g} at step {self.lowest_step}, "
            f"while the loss fell from {self.loss_there:.4g} to {self.loss:.4g}"
        )
        return Sign("overfitting", message, self.lowest_step)
