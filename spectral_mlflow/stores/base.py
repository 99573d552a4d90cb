"""What a store is, and what it may read of a run."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from spectral_mlflow import journal
from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.stores.reader import Batch, is_boundary, last_record
from spectral_mlflow.stores.state import StoreState

# A lock may not be seen across machines (some network file systems): a run of another machine counts
# as dead only when its journals have been silent for so many seconds.
FOREIGN_SILENCE = 600.0

# MLflow's codes for a store or a server without a model registry, or from before LoggedModels.
NO_MODELS = ("FEATURE_DISABLED", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")

GONE = "the training process is gone and left no end event"

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """The store does not answer, or refuses. The same call may succeed later."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: FINISHED, FAILED or KILLED.
        reason: why, in one line; None when there is nothing to say.
        end_time: milliseconds since the epoch.
    """

    status: str
    reason: str | None
    end_time: int


@dataclass(frozen=True)
class RunView:
    """A run directory, to be read only."""

    directory: Path

    @property
    def metrics_path(self) -> Path:
        """The journal of metrics."""
        return self.directory / "logs" / "metrics.jsonl"

    @property
    def events_path(self) -> Path:
        """The journal of events."""
        return self.directory / "logs" / "events.jsonl"

    @property
    def state_path(self) -> Path:
        """Where the companion keeps how far the MLflow store is."""
        return self.state_of("mlflow")

    def state_of(self, store: str) -> Path:
        """Where the companion keeps how far one store is."""
        return self.directory / "stores" / f"{store}.json"

    def stores(self) -> tuple[str, ...]:
        """Names of the stores that the run goes to, in the order of their setting."""
        return tuple((self.start() or {}).get("stores", ["mlflow"]))

    def inside(self, path: str) -> Path | None:
        """The file of a relative path; None when it is gone, or not in the run directory at all."""
        file = self.directory / path
        if not file.resolve().is_relative_to(self.directory.resolve()):
            _log.warning("artifact %s is not in the run directory and left out", path)
            return None
        if not file.is_file():
            _log.warning("artifact %s is gone and left out", path)
            return None
        return file

    def start(self) -> Record | None:
        """The start event, with what imports and continuations have changed of it; None before it is written."""
        told = self.events("start", "import", "resume")
        if not told or told[0]["event"] == "resume":
            return None
        return {**told[0], **{name: value for event in told[1:] for name, value in _moved(event)}}

    def config(self) -> Record:
        """config.json; empty before it is written."""
        return _read_json(self.directory / "config.json")

    def results(self) -> Record:
        """results.json; empty before it is written."""
        return _read_json(self.directory / "results.json")

    def events(self, *kinds: str) -> list[Record]:
        """All events so far of these kinds, oldest first."""
        return list(self._events(*kinds))

    def _events(self, *kinds: str) -> Iterator[Record]:
        return (record for record, _ in journal.read(self.events_path) if record.get("event") in kinds)

    def is_alive(self) -> bool:
        """Whether a trainer still writes this directory."""
        if (self.directory / ".run.lock").exists() and is_running(self.directory):
            return True
        return not self.is_of_this_host() and time.time() - self._last_written() < FOREIGN_SILENCE

    def is_of_this_host(self) -> bool:
        """Whether this host was the last to write the run, or to import it from another one."""
        writers = self.events("start", "resume", "import")
        return not writers or writers[-1].get("host", socket.gethostname()) == socket.gethostname()

    def is_cut(self, state: StoreState) -> bool:
        """Whether a power cut took lines that were sent: metrics.jsonl does not reach there with a whole line."""
        return not is_boundary(self.metrics_path, state.metrics_offset)

    def goes_on(self) -> bool:
        """Whether a trainer lives that has not yet said how the run ended."""
        last = last_record(self.events_path)
        return self.is_alive() and not (last and last.get("event") == "end")

    def _last_written(self) -> float:
        journals = [path for path in (self.metrics_path, self.events_path) if path.exists()]
        return max((path.stat().st_mtime for path in journals), default=0.0)

    def outcome(self, *, alive: bool) -> Outcome | None:
        """How the run ended; None while it goes on.

        Args:
            alive: what `is_alive` said before the journals were read to their end.
        """
        lifecycle = self.events("start", "resume", "end")
        if lifecycle and lifecycle[-1]["event"] == "end":
            return self._said(lifecycle[-1])
        if alive or not lifecycle:
            return None
        last = [last_record(path) for path in (self.metrics_path, self.events_path)]
        times = [journal.milliseconds(record["timestamp"]) for record in last if record and "timestamp" in record]
        return Outcome("KILLED", GONE, max(times))

    def _said(self, end: Record) -> Outcome:
        reason = end.get("reason")
        if reason is None and end["status"] == "FAILED":
            errors = self.events("error")
            reason = errors[-1].get("message") if errors else None
        return Outcome(end["status"], reason, journal.milliseconds(end["timestamp"]))


def _moved(event: Record) -> Iterator[tuple[str, Any]]:
    yield from ((name, event[name]) for name in ("stores", "tracking_uri", "mlflow_run_id") if name in event)
    if (stores := changed_settings([event]).get("monitoring.stores")) is not None:
        yield "stores", stores


def _read_json(path: Path) -> Record:
    if not path.exists():
        return {}
    try:
        return journal.with_non_finite(dict(json.loads(path.read_text(encoding="utf-8"))))
    except ValueError as failure:
        _log.warning("%s is damaged and left out: %s", path, failure)
        return {}


class Store(Protocol):
    """Where a run is mirrored. Every method may be called again with the same arguments.

    Each raises `StoreError` when the store does not answer or refuses; the companion then tries again.

    Attributes:
        name: what it is called in `monitoring.stores`, and its state file in the run directory.
        size: bytes of a file of its own that hold what it was given so far; 0 for one that has none.
    """

    name: str
    size: int

    def open(self, run: RunView, state: StoreState) -> StoreState:
        """Find or make the run in the store.

        Args:
            run: the run to mirror.
            state: what the last companion left, possibly of another store.

        Returns:
            The state to go on from: what this store really has.
        """

    def holds(self, run: RunView, state: StoreState) -> bool:
        """Whether the run of this state is in this very store.

        Args:
            run: the run that is mirrored.
            state: what the last companion left, possibly of another store or of one that was lost.
        """

    def metrics(self, batch: Batch) -> None:
        """Store lines of metrics, in the order of the journal."""

    def event(self, record: Record, offset: int, /) -> None:
        """Store one event, which ends at this offset of the journal."""

    def close(self, outcome: Outcome) -> None:
        """Say how the run ended, then send its files."""


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that outlives the run directory, can give back what that has lost, and is written by others too."""

    def pull_back(self) -> int:
        """Append to metrics.jsonl the lines that only the store has. Nobody else may write the run.

        Returns:
            Number of lines that were appended. From now on the store takes all lines once more.
        """

    def confirm(self) -> bool:
        """Say again how the run ended, should somebody else have changed it.

        Returns:
            Whether somebody else might.
        """
