"""Fixed thresholds, as people write them into their training loops."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

from spectral_mlflow.monitoring.monitor import Alert, Findings, StepRecord

COOLDOWN = 50  # Steps in which a kind is not told of again.


class FixedThresholds:
    """A check of a line or two for each kind, with the numbers that are usual."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: deque[float] = deque(maxlen=100)
        self.speeds: deque[float] = deque(maxlen=100)
        self.entropies: list[float] = []
        self.best = self.best_val = math.inf
        self.best_step = self.worse = 0
        self.first_rss = self.first_loss = math.nan
        self.told: dict[str, int] = {}

    def observe(self, record: StepRecord) -> Findings:
        """The alerts of a step."""
        kinds = [kind for kind in self._kinds(record) if record.step - self.told.get(kind, -COOLDOWN) >= COOLDOWN]
        self.told |= dict.fromkeys(kinds, record.step)
        return Findings(alerts=[Alert(kind, "warning", "", since=record.step) for kind in kinds])

    def _kinds(self, record: StepRecord) -> list[str]:
        metrics, step = record.metrics, record.step
        loss, norm = metrics["loss"], metrics["grad/norm"]
        if not math.isfinite(loss + norm):
            return ["non_finite"]
        rss, speed = metrics["system/rss_mb"], metrics["tokens_per_sec"]
        if step <= 10:
            self.first_rss, self.first_loss = rss, loss if step == 1 else self.first_loss
        if loss < self.best:
            self.best, self.best_step = loss, step
        mean = statistics.fmean(self.losses) if self.losses else loss
        deviation = statistics.pstdev(self.losses) if len(self.losses) >= 20 else math.inf
        held = {
            "gradient_explosion": norm > 10,
            "gradient_vanishing": norm < 1e-3,
            "loss_spike": loss > 2 * mean or loss > mean + 3 * deviation,
            "divergence": loss > 1.5 * self.best and step > 20,
            "plateau": step - self.best_step >= 100,
            "oscillation": len(self.losses) == 100 and statistics.fmean(list(self.losses)[-10:]) != 0
            and deviation / mean > 0.1,
            "memory_growth": rss > 1.5 * self.first_rss,
            "throughput_drop": bool(self.speeds) and speed < 0.5 * statistics.fmean(self.speeds),
            "learning_rate": metrics["learning_rate"] > 0.1 or metrics["learning_rate"] < 1e-7,
            "underfitting": step == self.steps // 2 and loss > 0.8 * self.first_loss,
            **self._evaluated(metrics),
        }  # fmt: skip
        self.losses.append(loss)
        self.speeds.append(speed)
        return [kind for kind, holds in held.items() if holds]

    def _evaluated(self, metrics: Any) -> dict[str, bool]:
        val_loss, entropy = metrics.get("val_loss"), metrics.get("quality/entropy")
        if val_loss is not None:
            self.worse = 0 if val_loss < self.best_val else self.worse + 1
            self.best_val = min(self.best_val, val_loss)
        return {
            "overfitting": val_loss is not None and self.worse >= 3,
            "mode_collapse": entropy is not None and entropy < 2,
        }
