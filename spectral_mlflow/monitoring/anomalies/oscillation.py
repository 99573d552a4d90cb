"""Oscillation: one period stands out of the noise of the loss."""

from __future__ import annotations

import numpy as np

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.statistics import fisher_g, median

WINDOW = 128  # Losses,
EVERY = 16  # looked at each time so many are new.
SLOWEST = 5  # Periods in the window; what is slower could be a trend.
PROBABILITY = 1e-5
CLIP = 5.0  # Spreads at which single losses are cut, lest they hide the others.


class OscillationDetector(Detector):
    """Tests the periodogram of the last losses by Fisher's g."""

    MEMORY = ("losses", "new", "block_size")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.losses: list[float] = []
        self.new = 0
        self.block_size: float | None = None

    def look(self, scene: Scene) -> Sign | None:
        """Every few steps, from a full window on."""
        loss = scene.finite("loss")
        if loss is None or scene.record.step <= self.known.warmup_steps:  # There the loss falls by fits and starts.
            return None
        if (size := scene.finite("block_size")) != self.block_size:
            self.losses, self.block_size = [], size
        self.losses.append(loss)
        del self.losses[:-WINDOW]
        self.new += 1
        if len(self.losses) < WINDOW or self.new < EVERY:
            return None
        self.new = 0
        all_powers = periodogram(self.losses)
        slow, powers = all_powers[:SLOWEST], all_powers[SLOWEST:]
        if max(slow) > max(powers) or fisher_g(powers) > PROBABILITY:  # A loss that turns or steps is no oscillation.
            return None
        period = WINDOW / (SLOWEST + powers.index(max(powers)))
        share = max(powers) / sum(powers)
        message = f"the loss repeats every {period:.1f} steps, which is {100 * share:.0f} % of its fluctuation"
        return Sign("oscillation", message, scene.record.step - WINDOW + 1)


def periodogram(values: list[float]) -> list[float]:
    """Powers of N values at frequencies 0 .. N / 2 - 1, without their quadratic trend."""
    series = np.asarray(values)
    time = np.linspace(-1, 1, len(series))
    residual = series - np.polynomial.polynomial.polyval(time, np.polynomial.polynomial.polyfit(time, series, 2))
    limit = CLIP * 1.4826 * median([abs(float(value)) for value in residual])
    powers = np.abs(np.fft.rfft(np.clip(residual, -limit, limit))) ** 2
    return [float(power) for power in powers[:-1]]
