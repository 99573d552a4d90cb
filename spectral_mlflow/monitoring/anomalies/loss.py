"""The loss: a spike is an excursion that comes back, a divergence one that does not."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.baseline import Baseline
from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.statistics import median

HIGH = 6.0  # Spreads above the level at which an excursion begins,
LEAST_RISE = 0.05  # and the least rise, as a part of the level.
ALLOWED = 1.5  # Spreads that a loss may be above the level and not add to the sum of those in a row that are,
SUM = 8.0  # at which an excursion has begun too (CUSUM, Page 1954).
BACK = 2.0  # Spreads at which a loss is back; two in a row end an excursion.
CRITICAL = 12.0
PATIENCE = 4  # Steps to come back in; five times as many for one that is half way back.
READY = 20  # Values before spreads mean something; until then a loss is high at EARLY of the level above it.
EARLY = 0.5
DRIFT = 3.0  # Spreads that the level may rise above its lowest.


class LossDetector(Detector):
    """Follows the loss outside of excursions, and each excursion to its end."""

    MEMORY = ("baseline", "lowest", "rising_since", "sum", "since", "excursion", "worst", "out", "back", "block_size")

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self.block_size: float | None = None
        self.rising_since: int | None = None
        self._begin_anew([])

    def _begin_anew(self, losses: list[float]) -> None:
        """Another level and spread are usual from now on."""
        self.baseline = Baseline(relative=0.002)
        for loss in losses:
            self.baseline.enter(loss)
        self.lowest: float | None = None
        self._come_back()

    def _come_back(self) -> None:
        """No excursion, and none that could be one."""
        self.out, self.back, self.since, self.sum, self.worst = False, False, 0, 0.0, 0.0
        self.excursion: list[float] = []

    def score(self, loss: float) -> float:
        """How unusually high a loss is, in spreads."""
        level = self.baseline.level
        if level is None:
            return 0.0
        if self.baseline.count >= READY:
            return self.baseline.score(loss)
        return CRITICAL if self.baseline.count >= 3 and loss > level + EARLY * abs(level) else 0.0

    def look(self, scene: Scene) -> Sign | None:
        """A spike once it is over, a divergence once it is clear."""
        loss, step = scene.finite("loss"), scene.record.step
        if loss is None:
            return None
        if (size := scene.finite("block_size")) != self.block_size:
            self.block_size = size
            self._begin_anew([])
        score = self.score(loss)
        scene.loss_high = self.out or score > 3
        if not self.out and not self._goes_out(step, loss, score):
            self.baseline.enter(loss)
            return self._drift(step)
        scene.loss_high = True
        return self._follow(step, loss, score)

    def _goes_out(self, step: int, loss: float, score: float) -> bool:
        """Whether an excursion has begun by this step; those that might be one are remembered."""
        self.sum = max(0.0, self.sum + score - ALLOWED)
        if not self.sum:
            self._come_back()
            return False
        self.since = self.since or step
        level = self.baseline.level or 0.0
        self.out = (score > HIGH or self.sum > SUM) and loss > level + LEAST_RISE * abs(level)
        if not self.out:
            self.excursion = [*self.excursion, loss][-PATIENCE:]
        elif score > HIGH:
            self.since, self.excursion = step, []
        return self.out

    def _follow(self, step: int, loss: float, score: float) -> Sign | None:
        level, since = self.baseline.level or 0.0, self.since
        was_back, self.back = self.back, score <= BACK
        if was_back and self.back:
            most, worst = max(self.excursion), self.worst
            self._come_back()
            self.baseline.enter(loss)
            message = f"loss rose to {most:.4g}, {worst:.1f} spreads above {level:.4g}, and came back"
            return Sign("loss_spike", message, since, "critical" if worst > CRITICAL else None)
        self.excursion = [*self.excursion, loss][-5 * PATIENCE - 1 :]
        self.worst = max(self.worst, score)
        over = len(self.excursion) > PATIENCE
        coming_back = median(self.excursion[-3:]) - level < (max(self.excursion) - level) / 2
        if not over or (coming_back and len(self.excursion) <= 5 * PATIENCE):
            return None
        last = self.excursion[-5:]
        message = f"loss rose from {level:.4g} to {median(last):.4g} and has not come back for {step - since} steps"
        self._begin_anew(last)
        return Sign("divergence", message, since)

    def _drift(self, step: int) -> Sign | None:
        """A slow rise, which no single loss shows."""
        level, spread = self.baseline.level or 0.0, self.baseline.spread
        if self.baseline.count < READY:
            return None
        if self.lowest is None or level < self.lowest:
            self.lowest = level
        rise = level - self.lowest
        if rise < DRIFT / 2 * spread:
            self.rising_since = None
        elif self.rising_since is None:
            self.rising_since = step
        if rise <= max(DRIFT * spread, LEAST_RISE * abs(self.lowest)):
            return None
        message = f"loss rose slowly from {self.lowest:.4g} to {level:.4g}"
        since, self.rising_since, self.lowest = self.rising_since or step, None, level
        return Sign("divergence", message, since)
