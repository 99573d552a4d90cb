"""What training does about an anomaly, where its user allows it: stop, or go back to a good checkpoint.

The third reaction, skipping a batch, happens between gradient and update: see `Anomalies.would_skip`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from spectral_mlflow.config import TrainingConfig
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.monitor import Alert
from spectral_mlflow.monitoring.seal import DamagedCheckpointError
from spectral_mlflow.training.state import TrainState

MONITOR = "anomalies"  # Its name among the monitors of a run.
MOST_ROLLBACKS = 10  # A run that needs more would not get anywhere.
GRAVE = ("critical", "fatal")


@dataclass(frozen=True)
class Reaction:
    """What was done.

    Attributes:
        message: in one line.
        stop: whether the run has to end, as a failure.
        restored: step of the checkpoint whose weights the run has now; None where they are what they were. The loop
            then saves a checkpoint, so that a run that is stopped goes on from after the rollback.
    """

    message: str
    stop: bool = False
    restored: int | None = None


class Reactions:
    """Carries out ``training.on_anomaly`` for grave alerts with a request.

    ``stop`` ends the run at any of them. ``rollback`` goes back where that is asked for, and ends the run where only a
    person can help; a single bad batch needs neither. Going back means model, loss, optimizer and scaler, and what the
    detectors hold for usual; the rest goes on: step number and with it the data, loss history, counters, random
    generators, the other monitors. The loop calls `react` at each step once its metrics and alerts
    are written, and before a checkpoint of the step is saved.
    """

    def __init__(self, training: TrainingConfig, state: TrainState, checkpoints: CheckpointManager) -> None:
        """React to nothing yet.

        Args:
            training: has ``on_anomaly`` and ``rollback_lr``.
            state: of the run.
            checkpoints: of the run.
        """
        self._training = training
        self._state = state
        self._checkpoints = checkpoints

    def react(self, alerts: Sequence[Alert]) -> Reaction | None:
        """Do what the alerts of a step ask for; None where that is nothing."""
        for alert in sorted(alerts, key=lambda alert: alert.request == "rollback"):
            if alert.severity in GRAVE and alert.request and (reaction := self._react(alert)):
                return reaction
        return None

    def _react(self, alert: Alert) -> Reaction | None:
        if self._training.on_anomaly == "stop" or (self._training.on_anomaly, alert.request) == ("rollback", "stop"):
            return Reaction(f"stopped at step {self._state.step} by {alert.kind}: {alert.message}", stop=True)
        if (self._training.on_anomaly, alert.request) == ("rollback", "rollback"):
            return self._roll_back(alert)
        return None

    def _roll_back(self, alert: Alert) -> Reaction:
        state = self._state
        if state.rollbacks >= MOST_ROLLBACKS:
            message = f"stopped at step {state.step} by {alert.kind} after {state.rollbacks} rollbacks: {alert.message}"
            return Reaction(message, stop=True)
        since = state.step if alert.since is None else alert.since
        checkpoint = self._newest_before(since)
        if checkpoint is None:
            return Reaction(f"{alert.kind} began at step {since}, and no checkpoint before it can be gone back to")
        state.restore_weights(checkpoint)
        monitors = checkpoint["state"]["monitors"]
        if MONITOR in state.monitors and MONITOR in monitors:  # What is usual for these weights.
            state.monitors[MONITOR].load_state_dict(monitors[MONITOR])
        state.lr_scale *= self._training.rollback_lr
        state.rollbacks += 1
        message = (
            f"step {state.step}: back to the weights of step {checkpoint['step']}, before {alert.kind} began at step "
            f"{since}; the learning rate is {state.lr_scale:g} of the schedule from now on"
        )
        return Reaction(message, restored=checkpoint["step"])

    def _newest_before(self, step: int) -> dict[str, Any] | None:
        self._checkpoints.wait()
        for known in sorted(self._checkpoints.list_checkpoints(), key=lambda known: known.sequence, reverse=True):
            if known.step < step:
                with suppress(DamagedCheckpointError):  # The one before it may be whole.
                    return self._checkpoints.load_checkpoint(str(known.path))
        return None
