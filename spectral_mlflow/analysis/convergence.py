"""How soon runs reach a loss: in steps, and in seconds since they began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectral_mlflow.analysis.statistics import Estimate, estimate

METRIC = "val_loss"


@dataclass(frozen=True)
class Convergence:
    """When the runs of a variant reach a loss.

    Attributes:
        target: the loss.
        steps: first step with a loss of at most the target, by seed; without the seeds that never have one.
        seconds: and when that was, in seconds of wall time since the run began, pauses included.
        runs: number of runs looked at.
    """

    target: float
    steps: Mapping[int, float]
    seconds: Mapping[int, float]
    runs: int

    @property
    def reached(self) -> int:
        """Number of runs that reach it."""
        return len(self.steps)

    def estimate(self, values: Mapping[int, float]) -> Estimate | None:
        """Mean over the seeds; None where one of them never reaches the target, as a mean of the rest would flatter."""
        return estimate(list(values.values())) if self.reached == self.runs else None


def common_target(losses: Sequence[Mapping[int, float]]) -> float:
    """The loss that all runs reach: the highest of their best ones.

    Args:
        losses: seed to best loss, one mapping for each variant.
    """
    return max(loss for variant in losses for loss in variant.values())


def converge(rows: Mapping[int, Mapping[Any, Any]], histories: pd.DataFrame, target: float) -> Convergence:
    """When the runs of one variant reach a loss, at the steps where it was measured.

    Args:
        rows: seed to run, one row of `load_runs`.
        histories: of the metric ``val_loss``, as `load_histories` gives them.
        target: nats a token.
    """
    steps, seconds = {}, {}
    for seed, row in rows.items():
        mine = histories[(histories["run_id"] == row["run_id"]) & (histories["key"] == METRIC)]
        first = mine[mine["value"] <= target].head(1)
        if len(first):
            steps[seed] = float(first["step"].iloc[0])
            seconds[seed] = (first["timestamp"].iloc[0] - row["start_time"]).total_seconds()
    return Convergence(target, steps, seconds, len(rows))
