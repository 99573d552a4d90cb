"""Catching up: every run that its store does not have in full."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import Timeout

from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Record
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.reader import has_more
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.tracking_uri import absolute, resolve, sqlite_path

PATIENCE = 10.0
NO_STORE = "not sent: it was made without an MLflow store; name one with --tracking-uri"


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
    """Whether a run is not in its store in full, as far as can be told without asking the store.

    A sqlite file that is gone counts as well: whatever it held is lost.

    Args:
        run_dir: the run.
        tracking_uri: the store that is meant; default: the one that the run is going to, if any.
    """
    run = RunView(run_dir)
    try:
        return _is_behind(run, tracking_uri)
    except OSError:  # Nobody can tell; sending it says why.
        return True


def _is_behind(run: RunView, tracking_uri: str | None) -> bool:
    start, state = run.start(), StoreState.load(run.state_path)
    if start is None or (tracking_uri is None and not _has_store(start)):
        return False
    if tracking_uri is not None and state.tracking_uri != without_password(absolute(tracking_uri)):
        return True
    behind = has_more(run.metrics_path, state.metrics_offset) or has_more(run.events_path, state.events_offset)
    return behind or not state.closed or _is_gone(state.tracking_uri)


def _is_gone(tracking_uri: str | None) -> bool:
    file = sqlite_path(tracking_uri or "")
    return file is not None and not file.exists()


# Told the run, the bytes of its metrics.jsonl that the store has, and all of them.
Watch = Callable[[Path, int, int], None]


def sync(run_dirs: Sequence[Path], tracking_uri: str | None = None, *, patience: float = PATIENCE) -> list[SyncResult]:
    """What `syncing` says of all runs, in their order."""
    return list(syncing(run_dirs, tracking_uri, patience=patience))


def syncing(
    run_dirs: Sequence[Path],
    tracking_uri: str | None = None,
    *,
    patience: float = PATIENCE,
    watch: Watch | None = None,
    stop: threading.Event | None = None,
) -> Iterator[SyncResult]:
    """Send what the store lacks, and close runs that have ended or whose trainer is gone.

    Args:
        run_dirs: the runs.
        tracking_uri: the store; default: for each run the one that it went to last.
        patience: seconds to call a store that does not answer, in which the calls themselves take their
            time: see `spectral_mlflow.stores.client`. One that did not answer for one run is asked once
            for each of the others.
        watch: told how far the metrics of a run are.
        stop: ends the work after the call in hand once it is set.

    Yields:
        What became of each run, in their order. A run that cannot be sent does not stop the others.
    """
    silent, stop = set[str](), stop or threading.Event()
    for run_dir in run_dirs:
        if stop.is_set():
            return
        yield _sync_one(RunView(run_dir), tracking_uri, patience, silent, watch or (lambda *_: None), stop)


def _sync_one(
    run: RunView, asked_for: str | None, patience: float, silent: set[str], watch: Watch, stop: threading.Event
) -> SyncResult:
    try:
        start = run.start()
        if start is None:
            return SyncResult(run.directory, complete=True, message="has nothing to send yet")
        if asked_for is None and not _has_store(start):
            return SyncResult(run.directory, complete=False, message=NO_STORE)
        uri = store_of(run, asked_for)
        result = _send(run, uri, 0.0 if uri in silent else patience, watch, stop)
    except UserError as mistake:
        return SyncResult(run.directory, complete=False, message=str(mistake))
    except OSError as failure:
        return SyncResult(run.directory, complete=False, message=f"not sent: {failure}")
    if not result.complete:
        silent.add(uri)
    return result


def store_of(run: RunView, asked_for: str | None = None) -> str:
    """Address of the store that a run goes to: where it went last, at first where it was meant to go.

    Args:
        run: the run directory.
        asked_for: what the user asks for now, None for nothing.

    Raises:
        UserError: the address is not allowed, or its password is needed and unknown.
    """
    went = StoreState.load(run.state_path).tracking_uri
    return resolve(went or (run.start() or {}).get("tracking_uri"), asked_for)


def _has_store(start: Record) -> bool:
    return "mlflow" in start.get("stores", ["mlflow"])


def _send(run: RunView, uri: str, patience: float, watch: Watch, stop: threading.Event) -> SyncResult:
    from spectral_mlflow.stores.mlflow import MlflowStore  # Two seconds, which `--help` does not need.

    try:
        with companion_lock(run.directory):
            before = StoreState.load(run.state_path)
            size = run.metrics_path.stat().st_size if run.metrics_path.exists() else 0
            state = Companion(
                run, MlflowStore(uri), pace=Pace(patience=patience), stop=stop,
                on_sent=lambda sent: watch(run.directory, sent, size),
            ).catch_up()  # fmt: skip
    except Timeout:
        return SyncResult(run.directory, complete=True, message="is being sent by its companion")
    if state.error is not None:
        return SyncResult(run.directory, complete=False, message=f"not sent: {state.error}")
    if state.closed and state == replace(before, error=None):
        return SyncResult(run.directory, complete=True, message="is in the store already")
    ended = "sent" if state.closed else "sent so far; the run goes on"
    return SyncResult(run.directory, complete=True, message=f"{ended} (MLflow run {state.run_id})")
