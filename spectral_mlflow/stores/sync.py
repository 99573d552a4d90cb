"""Catching up: every run that one of its stores does not have in full."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import Timeout

from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.destinations import opened
from spectral_mlflow.stores.reader import has_more
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.tracking_uri import absolute, resolve, sqlite_path

PATIENCE = 10.0
MLFLOW = "mlflow"
_log = logging.getLogger(__name__)
NO_STORE = "not sent: it was made without a store; name one of MLflow with --tracking-uri"


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
    """Whether a run is not in its stores in full, as far as can be told without asking them.

    A sqlite file that is gone counts as well: whatever it held is lost.

    Args:
        run_dir: the run.
        tracking_uri: the MLflow store that is meant; default: the one that the run is going to, if any.
    """
    run = RunView(run_dir)
    try:
        return run.start() is not None and any(lacks(run, store, tracking_uri) for store in _stores(run, tracking_uri))
    except Exception:  # Nobody can tell; sending it says why.
        return True


def _stores(run: RunView, tracking_uri: str | None) -> tuple[str, ...]:
    """Those that a run goes to; MLflow too where an address of it is given."""
    stores = run.stores()
    return stores if tracking_uri is None or MLFLOW in stores else (MLFLOW, *stores)


def lacks(run: RunView, store: str, tracking_uri: str | None = None) -> bool:
    """Whether one store does not have a run in full, as far as can be told without asking it.

    Args:
        run: the run, which has begun.
        store: its name.
        tracking_uri: the MLflow store that is meant; default: the one that the run went to.
    """
    state = StoreState.load(run.state_of(store))
    meant = without_password(absolute(tracking_uri)) if tracking_uri and store == MLFLOW else state.tracking_uri
    if state.tracking_uri != meant:
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


def sync_to_mlflow(run_dir: Path, tracking_uri: str | None = None) -> SyncResult:
    """What `syncing` does, with MLflow alone."""
    nobody, never = lambda *_: None, threading.Event()
    return _sync_with(MLFLOW, RunView(run_dir), tracking_uri, PATIENCE, set(), nobody, never)


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
        tracking_uri: the MLflow store; default: for each run the one that it went to last.
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
        if run.start() is None:
            return SyncResult(run.directory, complete=True, message="has nothing to send yet")
        stores = _stores(run, asked_for)
    except OSError as failure:
        return _not_sent(run, failure)
    except Exception as mistake:
        return _mistake(run, mistake)
    if not stores:
        return SyncResult(run.directory, complete=False, message=NO_STORE)
    results = [_sync_with(store, run, asked_for, patience, silent, watch, stop) for store in stores]
    told = [
        f"{store}: {one.message}" if len(stores) > 1 else one.message
        for store, one in zip(stores, results, strict=True)
    ]
    return SyncResult(run.directory, complete=all(one.complete for one in results), message="; ".join(told))


def _sync_with(
    store: str, run: RunView, asked_for: str | None, patience: float, silent: set[str], watch: Watch,
    stop: threading.Event,
) -> SyncResult:  # fmt: skip
    try:
        address = address_of(run, store, asked_for)
        result = _send(run, store, address, 0.0 if address in silent else patience, watch, stop)
    except UserError as mistake:
        return SyncResult(run.directory, complete=False, message=str(mistake))
    except OSError as failure:
        return _not_sent(run, failure)
    except Exception as mistake:  # Of a package or of ours, which is no reason to leave the other runs hungry.
        return _mistake(run, mistake)
    if not result.complete:
        silent.add(address)
    return result


def _not_sent(run: RunView, failure: Exception) -> SyncResult:
    return SyncResult(run.directory, complete=False, message=f"not sent: {failure}")


def _mistake(run: RunView, mistake: Exception) -> SyncResult:
    _log.exception("%s is not sent", run.directory)
    return SyncResult(run.directory, complete=False, message=f"not sent: {type(mistake).__name__}: {mistake}")


def address_of(run: RunView, store: str, asked_for: str | None = None) -> str:
    """Where a store of a run is: `store_of` says it of MLflow, and the others are found by their names.

    Raises:
        UserError: as `store_of`.
    """
    return store_of(run, asked_for) if store == MLFLOW else store


def store_of(run: RunView, asked_for: str | None = None) -> str:
    """Address of the MLflow store that a run goes to: where it went last, at first where it was meant to go.

    Args:
        run: the run directory.
        asked_for: what the user asks for now, None for nothing.

    Raises:
        UserError: the address is not allowed, or its password is needed and unknown.
    """
    went = StoreState.load(run.state_path).tracking_uri
    return resolve(went or (run.start() or {}).get("tracking_uri"), asked_for)


def _send(run: RunView, store: str, address: str, patience: float, watch: Watch, stop: threading.Event) -> SyncResult:
    try:
        with opened(store, address) as destination, companion_lock(run.directory, store=store):
            before = StoreState.load(run.state_of(store))
            size = run.metrics_path.stat().st_size if run.metrics_path.exists() else 0
            state = Companion(
                run, destination, pace=Pace(patience=patience), stop=stop,
                on_sent=lambda sent: watch(run.directory, sent, size),
            ).catch_up()  # fmt: skip
    except Timeout:
        return SyncResult(run.directory, complete=True, message="is being sent by its companion")
    if state.error is not None:
        return SyncResult(run.directory, complete=False, message=f"not sent: {state.error}")
    if state.closed and state == replace(before, error=None):
        return SyncResult(run.directory, complete=True, message="is in the store already")
    ended = "sent" if state.closed else "sent so far; the run goes on"
    where = f" (MLflow run {state.run_id})" if store == MLFLOW else ""
    return SyncResult(run.directory, complete=True, message=ended + where)
