"""All detectors as one monitor: each anomaly is told once, by its cause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from spectral_mlflow.monitoring.anomalies.collapse import CollapseDetector
from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign
from spectral_mlflow.monitoring.anomalies.gradient import GradientDetector
from spectral_mlflow.monitoring.anomalies.kinds import CONSEQUENCES, KINDS
from spectral_mlflow.monitoring.anomalies.learning_rate import LearningRateDetector
from spectral_mlflow.monitoring.anomalies.loss import CRITICAL, LossDetector
from spectral_mlflow.monitoring.anomalies.memory import MemoryDetector
from spectral_mlflow.monitoring.anomalies.non_finite import NonFiniteDetector
from spectral_mlflow.monitoring.anomalies.oscillation import OscillationDetector
from spectral_mlflow.monitoring.anomalies.plateau import PlateauDetector
from spectral_mlflow.monitoring.anomalies.throughput import ThroughputDetector
from spectral_mlflow.monitoring.anomalies.underfitting import UnderfittingDetector
from spectral_mlflow.monitoring.anomalies.validation import ValidationDetector
from spectral_mlflow.monitoring.monitor import Alert, Findings, StepRecord

# In the order in which they look: causes before consequences.
DETECTORS: dict[str, type[Detector]] = {
    "non_finite": NonFiniteDetector,
    "learning_rate": LearningRateDetector,
    "loss": LossDetector,
    "gradient": GradientDetector,
    "plateau": PlateauDetector,
    "oscillation": OscillationDetector,
    "validation": ValidationDetector,
    "underfitting": UnderfittingDetector,
    "memory": MemoryDetector,
    "throughput": ThroughputDetector,
    "collapse": CollapseDetector,
}

SKIPS_IN_A_ROW = 5  # A batch that is like the last few is not unusual.


class Anomalies:
    """Watches a run for anomalies, in constant memory and time a step.

    What it says depends on the records alone, so a resumed run gets the alerts of one that was never stopped.

    Attributes:
        works: whether it looked at the last step to its end; it is asked for nothing once it has raised.
    """

    def __init__(
        self,
        steps: int,
        warmup_steps: int = 0,
        *,
        reference: Mapping[str, tuple[float, float]] | None = None,
        scaled: bool = False,
    ) -> None:
        """Know nothing of the run yet but its settings.

        Args:
            steps: of the run.
            warmup_steps: of the learning rate.
            reference: mean and standard deviation of each quality, over pieces of the training corpus.
            scaled: whether a gradient scaler is at work.
        """
        known = Known(steps, warmup_steps, reference or {}, scaled)
        self._loss, self._gradient = LossDetector(known), GradientDetector(known)
        own: dict[str, Detector] = {"loss": self._loss, "gradient": self._gradient}
        self._detectors = {name: own.get(name) or make(known) for name, make in DETECTORS.items()}
        self._told: dict[str, list[int]] = {}  # Of each kind: step of the last alert, and since when.
        self._unusual = 0  # Steps in a row that `would_skip` objects to.
        self.works = True

    def observe(self, record: StepRecord) -> Findings:
        """The alerts of a step."""
        self.works = False
        unusual = self._is_unusual(record.metrics.get("loss", 0.0), record.metrics.get("grad/norm", 0.0))
        scene = Scene(record)
        signs = [sign for detector in self._detectors.values() if (sign := detector.look(scene))]
        self._unusual = self._unusual + 1 if unusual else 0
        findings = Findings(alerts=[alert for sign in signs if (alert := self._alert(sign, record.step))])
        self.works = True
        return findings

    def would_skip(self, loss: float, grad_norm: float) -> bool:
        """Whether a batch is so unusual that it had better not change the weights; changes nothing here.

        Args:
            loss: of the batch.
            grad_norm: before clipping.
        """
        return self.works and self._unusual < SKIPS_IN_A_ROW and self._is_unusual(loss, grad_norm)

    def _is_unusual(self, loss: float, grad_norm: float) -> bool:
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return True
        return self._loss.score(loss) > CRITICAL or self._gradient.explodes(grad_norm)

    def _alert(self, sign: Sign, step: int) -> Alert | None:
        """An alert, unless the kind was told of lately or this is the consequence of another kind."""
        kind = KINDS[sign.kind]
        severity = sign.severity or kind.severity
        last = self._told.get(sign.kind)
        if last and step - last[0] < kind.cooldown and severity != "fatal":
            return None
        for other, within in CONSEQUENCES.get(sign.kind, {}).items():
            if other in self._told and abs(sign.since - self._told[other][1]) <= within:
                return None
        self._told[sign.kind] = [step, sign.since]
        request = kind.request if severity in ("critical", "fatal") else None
        if sign.kind == "non_finite" and severity == "fatal":
            request = "rollback"  # No single batch any more.
        return Alert(sign.kind, severity, sign.message, kind.cause, kind.advice, sign.since, request)

    def gone_back(self, past: Mapping[str, Any]) -> dict[str, Any]:
        """A past state, but with what was told since of kinds that going back to its weights is no answer to."""
        told = {kind: list(steps) for kind, steps in self._told.items() if KINDS[kind].request is None}
        return {**past, "told": {**past["told"], **told}}

    def state_dict(self) -> dict[str, Any]:
        """What all detectors remember, and what was told."""
        return {
            "detectors": {name: detector.state_dict() for name, detector in self._detectors.items()},
            "told": {kind: list(steps) for kind, steps in self._told.items()},
            "unusual": self._unusual,
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from there; a detector that is new begins anew."""
        for name, detector in self._detectors.items():
            if name in state["detectors"]:
                detector.load_state_dict(state["detectors"][name])
        self._told = {kind: list(steps) for kind, steps in state["told"].items()}
        self._unusual = state["unusual"]
