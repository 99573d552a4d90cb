"""Fixed thresholds, as careful people write them into their training loops."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

from spectral_mlflow.monitoring.anomalies import KINDS
from spectral_mlflow.monitoring.monitor import Alert, Findings, StepRecord

RECENT, USUAL = 20, 100  # Steps whose medians of the speed are compared; and so long the loss may not get better.


class FixedThresholds:
    """A check of a line or two for each kind, with the numbers that are usual.

    It knows the schedule of the learning rate, smooths what is noisy, and repeats itself as seldom as ours does.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: deque[float] = deque(maxlen=100)
        self.speeds: deque[float] = deque(maxlen=USUAL)
        self.entropies: list[float] = []
        self.best = self.best_val = math.inf
        self.worse = 0
        self.best_mean, self.best_mean_step = math.inf, 0
        self.first_rss = self.first_loss = math.nan
        self.told: dict[str, int] = {}

    def observe(self, record: StepRecord) -> Findings:
        """The alerts of a step."""
        kinds = [
            kind for kind in self._kinds(record)
            if kind not in self.told or record.step - self.told[kind] >= KINDS[kind].cooldown
        ]  # fmt: skip
        self.told |= dict.fromkeys(kinds, record.step)
        return Findings(alerts=[Alert(kind, "warning", "", since=record.step) for kind in kinds])

    def _kinds(self, record: StepRecord) -> list[str]:
        metrics, step = record.metrics, record.step
        loss, norm = metrics["loss"], metrics["grad/norm"]
        if not math.isfinite(loss + norm):
            return ["non_finite"]
        rss = metrics.get("system/rss_mb", math.nan)
        if step <= 10:
            self.first_rss = self.first_rss if math.isnan(rss) else rss
            self.first_loss = loss if step == 1 else self.first_loss
        self.best = min(self.best, loss)
        self.speeds.append(metrics["tokens_per_sec"])
        mean = statistics.fmean(self.losses) if self.losses else loss
        deviation = statistics.pstdev(self.losses) if len(self.losses) >= 20 else math.inf
        lr = record.scheduled_lr or 0.0
        held = {
            "gradient_explosion": norm > 10,
            "gradient_vanishing": norm < 1e-3,
            "loss_spike": loss > 2 * mean or loss > mean + 3 * deviation,
            "divergence": loss > 1.5 * self.best and step > 20,
            "plateau": self._is_flat(step, loss),
            "oscillation": len(self.losses) == 100 and statistics.fmean(list(self.losses)[-10:]) != 0
            and deviation / mean > 0.1,
            "memory_growth": rss > 1.5 * self.first_rss,
            "throughput_drop": len(self.speeds) == USUAL
            and statistics.median(list(self.speeds)[-RECENT:]) < 0.5 * statistics.median(self.speeds),
            "learning_rate": abs(metrics["learning_rate"] - lr) > 0.01 * lr,
            "underfitting": step == self.steps // 2 and loss > 0.8 * self.first_loss,
            **self._evaluated(metrics),
        }  # fmt: skip
        self.losses.append(loss)
        return [kind for kind, holds in held.items() if holds]

    def _is_flat(self, step: int, loss: float) -> bool:
        """Whether the mean of the last losses has had no new low for long."""
        mean = statistics.fmean([*self.losses, loss][-50:])
        if mean < self.best_mean:
            self.best_mean, self.best_mean_step = mean, step
        return step - self.best_mean_step >= USUAL

    def _evaluated(self, metrics: Any) -> dict[str, bool]:
        val_loss, entropy = metrics.get("val_loss"), metrics.get("quality/entropy")
        if val_loss is not None:
            self.worse = 0 if val_loss < self.best_val else self.worse + 1
            self.best_val = min(self.best_val, val_loss)
        return {
            "overfitting": val_loss is not None and self.worse >= 3,
            "mode_collapse": entropy is not None and entropy < 2,
        }
