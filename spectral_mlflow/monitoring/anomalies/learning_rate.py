"""The learning rate that the optimizer has, against the declared schedule."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.detector import Detector, Scene, Sign

TOLERANCE = 0.01  # Relative.


class LearningRateDetector(Detector):
    """Compares them at every step; it needs no memory."""

    def look(self, scene: Scene) -> Sign | None:
        """At once."""
        found, declared = scene.finite("learning_rate"), scene.record.scheduled_lr
        if found is None or declared is None or abs(found - declared) <= TOLERANCE * abs(declared):
            return None
        return Sign("learning_rate", f"learning rate {found:.4g} instead of {declared:.4g}", scene.record.step)
