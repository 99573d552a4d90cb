"""Throughput: the median of the last steps against that of many."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.statistics import median

SHORT = 20  # Steps.
BLOCKS = 16  # Short medians of which the long one is made.
PART = 0.45
READY = 4
IN_A_ROW = 3  # Short medians that are low,
LEAST_SECONDS = 5.0  # and how long that has to last: small models take many steps in a moment.


class ThroughputDetector(Detector):
    """Tells when the short median falls below a part of the long one."""

    MEMORY = ("recent", "medians", "low", "seconds", "since", "block_size")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.recent: list[float] = []
        self.medians: list[float] = []
        self.low = 0
        self.seconds = 0.0
        self.since = 0
        self.block_size: float | None = None

    def look(self, scene: Scene) -> Sign | None:
        """Each time enough steps are new."""
        speed = scene.finite("tokens_per_sec")
        if (size := scene.finite("block_size")) != self.block_size:
            self.recent, self.medians, self.low, self.seconds, self.block_size = [], [], 0, 0.0, size
        if speed is None:
            return None
        self.recent.append(speed)
        self.seconds += scene.record.seconds
        if len(self.recent) < SHORT:
            return None
        now, self.recent = median(self.recent), []
        usual = median(self.medians) if len(self.medians) >= READY else 0.0
        if now >= PART * usual:
            self.medians, self.low, self.seconds = [*self.medians, now][-BLOCKS:], 0, 0.0
            return None
        self.low += 1
        if self.low == 1:
            self.since = scene.record.step - SHORT + 1
        if self.low < IN_A_ROW or self.seconds < LEAST_SECONDS:
            return None
        self.medians, self.low, self.seconds = [], 0, 0.0  # What follows is compared with what it is from now on.
        return Sign("throughput_drop", f"{now:,.0f} tokens/s, usual are {usual:,.0f}", self.since)
