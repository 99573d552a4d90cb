"""Lines that a power cut took from the journal of a run, back from the MLflow run that has them."""

from __future__ import annotations

from mlflow import MlflowClient

from spectral_mlflow import journal
from spectral_mlflow.monitoring.run_lock import run_lock
from spectral_mlflow.stores import histories
from spectral_mlflow.stores.base import RunView

LOCK_SECONDS = 5.0  # Others hold it for a moment to see whether anybody does.


def append_missing(client: MlflowClient, run_id: str, run: RunView) -> int:
    """Append to metrics.jsonl what its MLflow run has and the journal lacks.

    Args:
        client: of the store.
        run_id: the run in MLflow.
        run: the run directory. Hold its `companion_lock`.

    Returns:
        Number of lines that were appended.

    Raises:
        Timeout: a trainer writes the run directory.
    """
    stored = histories.fetch(client, run_id)
    with run_lock(run.directory).acquire(timeout=LOCK_SECONDS):
        lines = histories.missing(stored, journal.records(run.metrics_path))
        histories.append(run.metrics_path, lines)
    return len(lines)
