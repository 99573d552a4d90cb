"""The end of a run: what is waited for."""

from __future__ import annotations

from spectral_mlflow.monitoring.progress import Waiting
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.training.signals import StopSignals

DRAIN_SECONDS = 60.0


def draw(tracker: ExperimentTracker, signals: StopSignals) -> None:
    """Wait for the plots that are late, unless a signal has come or comes: continuing the run draws them then."""
    before, signals.patient = signals.patient, True  # A run that has all its steps is not killed by who ends a wait.
    with Waiting("drawing the rest of the plots (Ctrl-C: not now)") as progress:
        left = tracker.plots.finish(stop=lambda: bool(signals.received), tell=progress.tell)
        if left:
            progress.note(f"the plots of {left} step{'' if left == 1 else 's'} are not drawn")
    signals.patient = before


def drain(tracker: ExperimentTracker, signals: StopSignals) -> bool:
    """Wait for the stores, within bounds; any further signal ends the waiting. Returns whether they are complete."""
    before = signals.count
    with Waiting(f"sending the rest to the store, at most {DRAIN_SECONDS:.0f} s (Ctrl-C: not now)") as progress:
        return tracker.wait_for_stores(DRAIN_SECONDS, stop=lambda: signals.count > before, tell=progress.tell)
