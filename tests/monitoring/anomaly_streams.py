"""Records of a run that never was: healthy ones, and what a fault makes of them."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.monitor import Alert, StepRecord

STEPS, WARMUP, START = 400, 30, 200
REFERENCE = {"entropy": (4.3, 0.1), "distinct_1": (0.8, 0.05), "distinct_2": (0.95, 0.03), "word_validity": (0.9, 0.05)}

Change = Callable[[StepRecord], StepRecord]


def schedule(step: int) -> float:
    """Linear warm-up, then a half cosine."""
    if step < WARMUP:
        return 2e-3 * step / WARMUP
    return 1e-3 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) + 1e-4


def healthy(seed: int = 0, steps: int = STEPS) -> list[StepRecord]:
    """A loss that falls from 4.2 to 2.3 with the noise of a small batch, and all that is measured beside it."""
    draw = random.Random(seed)
    records = []
    for step in range(1, steps + 1):
        loss = 2.3 + 1.9 * math.exp(-step / 60) + draw.gauss(0, 0.1)
        metrics = {
            "loss": loss, "objective": loss, "grad/norm": 0.8 * math.exp(draw.gauss(0, 0.15)),
            "learning_rate": schedule(step), "tokens_per_sec": 2e4 * math.exp(draw.gauss(0, 0.1)),
            "system/rss_mb": 400 + 60 * (1 - math.exp(-step / 20)) + 40 * (step >= 200) + draw.random(),
        }  # fmt: skip
        if step % 25 == 0:
            metrics |= {
                "update/ratio": 3 * schedule(step) * math.exp(draw.gauss(0, 0.2)),
                "val_loss": 2.35 + 1.9 * math.exp(-step / 60),
            }
        if step % 50 == 0:
            metrics |= {f"quality/{name}": mean - deviation for name, (mean, deviation) in REFERENCE.items()}
        records.append(StepRecord(step, metrics, 0.05, schedule(step)))
    return records


def changed(record: StepRecord, **metrics: float) -> StepRecord:
    """The record with other metrics; two underscores stand for a slash."""
    return replace(record, metrics={**record.metrics, **{name.replace("__", "/"): v for name, v in metrics.items()}})


def anomalies(**settings: bool) -> Anomalies:
    """The monitor of such a run."""
    return Anomalies(STEPS, WARMUP, reference=REFERENCE, **settings)


def alerts(records: Iterable[StepRecord], monitor: Anomalies | None = None) -> list[tuple[int, Alert]]:
    """What is told, and at which steps."""
    monitor = monitor or anomalies()
    return [(record.step, alert) for record in records for alert in monitor.observe(record).alerts]
