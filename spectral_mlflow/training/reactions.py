"""What training does about an anomaly, where its user allows it: stop, or go back to a good checkpoint.

The third reaction, skipping a batch, happens between gradient and update: see `Anomalies.would_skip`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectral_mlflow.config import TrainingConfig
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint, best_of
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.monitor import Alert
from spectral_mlflow.monitoring.seal import DamagedCheckpointError
from spectral_mlflow.training.state import TrainState

MONITOR = "anomalies"  # Its name among the monitors of a run.
MOST_ROLLBACKS = 10  # A run that needs more would not get anywhere.
SOUND = 100  # Steps after a rollback until which trouble speaks against the weights that were gone back to.
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
        checkpoint = self._newest_good(since)
        if checkpoint is None:
            return Reaction(f"{alert.kind} began at step {since}, and no checkpoint before it can be gone back to")
        self._restore(checkpoint, since)
        message = (
            f"step {state.step}: back to the weights of step {checkpoint['step']}, before {alert.kind} began at step "
            f"{since}; the learning rate is {state.lr_scale:g} of the schedule from now on"
        )
        return Reaction(message, restored=checkpoint["step"])

    def _restore(self, checkpoint: dict[str, Any], since: int) -> None:
        state, step = self._state, checkpoint["step"]
        state.restore_weights(checkpoint)
        monitors, anomalies = checkpoint["state"]["monitors"], state.monitors.get(MONITOR)
        if isinstance(anomalies, Anomalies) and MONITOR in monitors:  # What is usual for these weights.
            state.restore_monitor(MONITOR, anomalies.gone_back(monitors[MONITOR]))
        if state.best_step == state.step:  # Measured of weights that are not kept.
            best = best_of(self._checkpoints.list_checkpoints(), self._checkpoints.directory)
            state.best_step = best.step if best else 0
            state.best_val_loss = best.metrics.get("val_loss", math.inf) if best else math.inf
        state.restored_step = min(step, state.restored_step) if self._is_again(since) else step
        state.rolled_back_at = state.step
        state.skipped_in_a_row = 0
        state.lr_scale *= self._training.rollback_lr
        state.rollbacks += 1

    def _is_again(self, since: int) -> bool:
        """Whether trouble came back before the run was sound for long."""
        return self._state.rollbacks > 0 and since <= self._state.rolled_back_at + SOUND

    def _newest_good(self, since: int) -> dict[str, Any] | None:
        """The newest checkpoint that what began at a step cannot have spoilt; where it began again, an earlier one."""
        self._checkpoints.wait()
        for known in self._candidates(since):
            with suppress(DamagedCheckpointError):  # The one before it may be whole.
                checkpoint = self._checkpoints.load_checkpoint(str(known.path))
                if self._is_finite(checkpoint):
                    return checkpoint
        return None

    def _candidates(self, since: int) -> list[Checkpoint]:
        """In the order in which to try them.

        A loss is measured before the update of its step: what is seen at a step may have happened at the one before.
        """
        state, again = self._state, self._is_again(since)
        left, back = state.restored_step, state.rolled_back_at
        known = [
            known for known in self._checkpoints.list_checkpoints()
            if known.step < since - 1 and not left < known.step < back
        ]  # fmt: skip
        return sorted(known, key=lambda known: (again and known.step >= left, -known.sequence))

    def _is_finite(self, checkpoint: Mapping[str, Any]) -> bool:
        """Whether all parameters of a checkpoint, and what the optimizer knows of them, are; buffers need not be."""
        names = {name for name, _ in self._state.model.named_parameters()}
        parameters = {name: value for name, value in checkpoint["model_state_dict"].items() if name in names}
        given = [parameters, checkpoint["optimizer_state_dict"]["state"]]
        return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(given))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(entry)
