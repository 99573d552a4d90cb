"""The end of a run: what is waited for."""

from __future__ import annotations

from spectral_mlflow.monitoring.progress import Draining
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.training.signals import StopSignals

DRAIN_SECONDS = 60.0


def drain(tracker: ExperimentTracker, signals: StopSignals) -> bool:
    """Wait for the stores, within bounds; any further signal ends the waiting. Returns whether they are complete."""
    before = signals.count
    with Draining(DRAIN_SECONDS) as progress:
        return tracker.wait_for_stores(DRAIN_SECONDS, stop=lambda: signals.count > before, tell=progress.tell)
