"""The end of a run: what is waited for."""

from __future__ import annotations

import time

from spectral_mlflow.monitoring.progress import Waiting
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.training.signals import StopSignals

DRAIN_SECONDS = 60.0
STOPPED_SECONDS = 10.0  # For the plots of a run that somebody wants to stop.


def draw(tracker: ExperimentTracker, signals: StopSignals) -> None:
    """Wait for the plots that are late, until a signal comes; after one that came before only for seconds."""
    patient, signals.patient = signals.patient, True  # A run that has all its steps is not killed by who ends a wait.
    before, until = signals.count, time.monotonic() + STOPPED_SECONDS

    def enough() -> bool:
        return signals.count > before or (before > 0 and time.monotonic() > until)

    with Waiting("drawing the rest of the plots (Ctrl-C: not now)") as progress:
        left = tracker.plots.finish(stop=enough, tell=progress.tell)
        if left:
            progress.note(f"the plots of {left} step{'' if left == 1 else 's'} are not drawn")
    signals.patient = patient


def drain(tracker: ExperimentTracker, signals: StopSignals) -> bool:
    """Wait for the stores, within bounds; any further signal ends the waiting. Returns whether they are complete."""
    before = signals.count
    with Waiting(f"sending the rest to the store, at most {DRAIN_SECONDS:.0f} s (Ctrl-C: not now)") as progress:
        return tracker.wait_for_stores(DRAIN_SECONDS, stop=lambda: signals.count > before, tell=progress.tell)
