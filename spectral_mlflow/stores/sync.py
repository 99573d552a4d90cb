"""Catching up: every run that its store does not have in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.reader import has_more
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.uri import absolute, resolve

PATIENCE = 10.0


@dataclass(frozen=True)
class SyncResult:
    """What became of one run.

    Attributes:
        run_dir: the run.
        complete: whether nothing is left to send, now or by the companion that follows it.
        message: the same in words.
    """

    run_dir: Path
    complete: bool
    message: str

    def __str__(self) -> str:
        return f"{self.run_dir.name}: {self.message}"


def is_behind(run_dir: Path, tracking_uri: str | None = None) -> bool:
    """Whether a run is not in its store in full. Reads the run directory only.

    Args:
        run_dir: the run.
        tracking_uri: the store that is meant; default: the one that the run is going to, if any.
    """
    run = RunView(run_dir)
    start, state = run.start(), StoreState.load(run.state_path)
    if start is None or (tracking_uri is None and "mlflow" not in start.get("stores", ["mlflow"])):
        return False
    if tracking_uri is not None and state.tracking_uri != without_password(absolute(tracking_uri)):
        return True
    behind = has_more(run.metrics_path, state.metrics_offset) or has_more(run.events_path, state.events_offset)
    return behind or not state.closed


def sync(run_dirs: Sequence[Path], tracking_uri: str | None = None, *, patience: float = PATIENCE) -> list[SyncResult]:
    """Send what the store lacks, and close runs that have ended or whose trainer is gone.

    Args:
        run_dirs: the runs.
        tracking_uri: the store; default: for each run the one that it was going to.
        patience: seconds to call a store that does not answer. One that did not answer for one run
            is asked once for each of the others.

    Returns:
        What became of each run, in their order. A run that cannot be sent does not stop the others.
    """
    results, silent = [], set[str]()
    for run_dir in run_dirs:
        try:
            uri = resolve((RunView(run_dir).start() or {}).get("tracking_uri"), tracking_uri)
        except UserError as mistake:
            results.append(SyncResult(run_dir, complete=False, message=str(mistake)))
            continue
        result = _sync_one(run_dir, uri, tracking_uri, 0.0 if uri in silent else patience)
        if not result.complete:
            silent.add(uri)
        results.append(result)
    return results


def _sync_one(run_dir: Path, uri: str, asked_for: str | None, patience: float) -> SyncResult:
    if not is_behind(run_dir, asked_for):
        return SyncResult(run_dir, complete=True, message="is in the store already")
    from spectral_mlflow.stores.mlflow import MlflowStore  # Two seconds, which a run that is complete does not need.

    try:
        with companion_lock(run_dir):
            state = Companion(RunView(run_dir), MlflowStore(uri), pace=Pace(patience=patience)).catch_up()
    except Timeout:
        return SyncResult(run_dir, complete=True, message="is being sent by its companion")
    if state.error is not None:
        return SyncResult(run_dir, complete=False, message=f"not sent: {state.error}")
    ended = "sent" if state.closed else "sent so far; the run goes on"
    return SyncResult(run_dir, complete=True, message=f"{ended} (MLflow run {state.run_id})")
