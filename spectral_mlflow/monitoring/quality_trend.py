"""QualityTrend: tells when samples have become worse than they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from spectral_mlflow.monitoring.monitor import Alert, Findings, StepRecord

WINDOW = 3  # Samples whose median is the quality at a time, and that all have to be worse.
DEVIATIONS = 4.0  # Of the noise between samples; the best of many is a lucky one.
FEWEST = 6  # Samples that tell the noise.
REMEMBERED = 50  # Samples that the noise is measured on.


@dataclass(frozen=True)
class Watched:
    """A metric that says how good samples are.

    Attributes:
        metric: its name.
        sign: 1 where more is better, -1 where less is.
        least_fall: what is no matter of chance, whatever the noise.
    """

    metric: str
    sign: int
    least_fall: float


# The first one that a line of metrics has.
WATCHED = (Watched("music/overall", 1, 0.15), Watched("quality_distance/overall", -1, 1.0))


class QualityTrend:
    """Compares the newest samples with the best ones of the run so far.

    It tells once that the last three samples are all worse than the best median of three by more than four
    deviations of the noise, and again only after they have been good in between. The noise is robust, and a steady
    rise is none: 1.4826 / sqrt(6) times the median of |v_{i-1} - 2 v_i + v_{i+1}|. Fewer than six samples do not tell
    it, so a run with fewer hears nothing.
    """

    def __init__(self) -> None:
        self._values: list[float] = []
        self._best = -math.inf
        self._best_step = 0
        self._told = False

    def observe(self, record: StepRecord) -> Findings:
        """Take note of a step with a sample; any other step says nothing."""
        for watched in WATCHED:
            value = record.metrics.get(watched.metric)
            if value is not None and math.isfinite(value):
                return self._compare(watched, watched.sign * value, record.step)
        return Findings()

    def _compare(self, watched: Watched, value: float, step: int) -> Findings:
        self._values = [*self._values, value][-REMEMBERED:]
        if len(self._values) < FEWEST:
            return Findings()
        newest = self._values[-WINDOW:]
        if median(newest) > self._best:
            self._best, self._best_step = median(newest), step
        fall = max(watched.least_fall, DEVIATIONS * _noise(self._values))
        if max(newest) > self._best - fall:
            self._told = self._told and max(newest) <= self._best - fall / 2
            return Findings()
        if self._told:
            return Findings()
        self._told = True
        return Findings(alerts=[self._alert(watched, median(newest))])

    def _alert(self, watched: Watched, now: float) -> Alert:
        return Alert(
            kind="quality_degradation",
            severity="warning",
            message=f"samples have become worse: {watched.metric} is {watched.sign * now:.3g} over the last {WINDOW}, "
            f"and was {watched.sign * self._best:.3g} at step {self._best_step}",
            cause="the model overfits or forgets, or the learning rate is too high for this late",
            advice="compare the samples and val_loss of both steps; go on from a checkpoint of the better one "
            "with a lower training.lr",
            since=self._best_step,
        )

    def state_dict(self) -> dict[str, Any]:
        """The samples' values so far, the best of them and whether that was told."""
        return {
            "values": list(self._values), "best": self._best, "best_step": self._best_step, "told": self._told,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on from there."""
        self._values, self._best = list(state_dict["values"]), state_dict["best"]
        self._best_step, self._told = state_dict["best_step"], state_dict["told"]


def _noise(values: Sequence[float]) -> float:
    bends = [abs(after - before) for before, after in pairwise(after - before for before, after in pairwise(values))]
    return 1.4826 / math.sqrt(6) * median(bends)
