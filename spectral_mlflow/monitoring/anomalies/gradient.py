"""The norm of the gradient, on a logarithmic scale: explosion and vanishing."""

from __future__ import annotations

import math

from spectral_mlflow.monitoring.anomalies.baseline import Baseline
from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign

SPREADS = 6.0
LARGER = math.log(10)  # Least log ratio to the usual norm of an explosion,
FATAL = math.log(50)  # of a critical one,
SMALLER = math.log(20)  # and, downwards, of a vanishing gradient,
IN_A_ROW = 3  # for so many steps.
ADAPT = 5  # Outliers in a row that are what is usual from then on.
READY = 20  # Values after the warm-up of the learning rate.
LEAST = 1e-30  # Has a logarithm.


class GradientDetector(Detector):
    """Compares log norms with their baseline."""

    MEMORY = ("baseline", "outliers", "low_since")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.baseline = Baseline(floor=0.05)
        self.outliers = 0
        self.low_since: int | None = None
        self._ready = known.warmup_steps + READY

    def rise(self, norm: float) -> float:
        """Log ratio to the usual norm, where that is unusual; else 0."""
        value = math.log(max(norm, LEAST))
        if self.baseline.count < self._ready or abs(self.baseline.score(value)) < SPREADS:
            return 0.0
        return value - (self.baseline.level or 0.0)

    def explodes(self, norm: float) -> bool:
        """Whether a norm is unusually large."""
        return self.rise(norm) > LARGER

    def look(self, scene: Scene) -> Sign | None:
        """An explosion at once, unless it belongs to a high loss; vanishing after a few steps."""
        norm, step = scene.finite("grad/norm"), scene.record.step
        if norm is None:
            return None
        rise = self.rise(norm)
        usual = math.exp(self.baseline.level or 0.0)
        if rise > LARGER:
            sign = None
            if not scene.loss_high and not self.outliers:
                message = f"gradient norm {norm:.3g}, {math.exp(rise):.0f} times the usual {usual:.3g}"
                sign = Sign("gradient_explosion", message, step, "critical" if rise > FATAL else None)
            self._outlier(norm)
            return sign
        if rise < -SMALLER:
            self.low_since = step if self.low_since is None else self.low_since
            since = self.low_since
            self._outlier(norm)
            if self.outliers != IN_A_ROW:
                return None
            message = f"gradient norm {norm:.3g}, {math.exp(-rise):.0f} times smaller than the usual {usual:.3g}"
            return Sign("gradient_vanishing", message, since)
        self.outliers, self.low_since = 0, None
        self.baseline.enter(math.log(max(norm, LEAST)))
        return None

    def _outlier(self, norm: float) -> None:
        self.outliers += 1
        if self.outliers >= ADAPT:
            self.baseline.rebase(math.log(max(norm, LEAST)))
            self.outliers, self.low_since = 0, None
