"""The TensorBoard store: one event file in the run directory, exactly once, and a small one of how the run ended.

How many bytes of the file hold what was sent stands in the state beside the offsets of the journals,
and whoever opens the file cuts what is beyond: that is what a companion wrote whose death kept it from
saying so. A file that is shorter, or a journal that has lost lines, is begun again from the first line.
The ending stands beside it because TensorBoard believes the first one that it reads: a run that goes on
loses it, and a TensorBoard that follows the first file sees no byte of that change.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from spectral_mlflow import journal
from spectral_mlflow.journal import Record
from spectral_mlflow.stores import images, summaries
from spectral_mlflow.stores.base import Outcome, RunView, StoreError
from spectral_mlflow.stores.facts import alert_text
from spectral_mlflow.stores.reader import DAMAGED, Batch, is_boundary, is_line, last_record, numbers
from spectral_mlflow.stores.state import StoreState

FOLDER = "tensorboard"
VERSION = "brain.Event:2"  # What every event file begins with.

_log = logging.getLogger(__name__)


class TensorBoardStore:
    """Mirrors one run into an event file (see `spectral_mlflow.stores.base.Store`)."""

    name = "tensorboard"

    _run: RunView
    _path: Path

    def __init__(self) -> None:
        """Nothing is written yet."""
        self.size = 0

    def open(self, run: RunView, state: StoreState) -> StoreState:
        """Cut the file to what the state knows of, or begin it."""
        start = run.start()
        if start is None:
            raise StoreError(f"{run.events_path} has no start event yet")
        self._run, self._path = run, _event_file(run)
        here = state if self.holds(run, state) and _is_whole(run, state) else StoreState()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _ending(self._path).unlink(missing_ok=True)
        self._path.touch()
        os.truncate(self._path, here.size)
        self.size = here.size
        if not here.size:
            self._append(self._beginning(start))
        return replace(here, closed=False, error=None, size=self.size)

    def holds(self, run: RunView, state: StoreState) -> bool:
        """Whether the file is there, and as long as it was."""
        path = _event_file(run)
        return path.exists() and path.stat().st_size >= state.size > 0

    def metrics(self, batch: Batch) -> None:
        """Write one event for each line."""
        self._append(_scalars(record) for record, _ in batch if is_line(record))

    def event(self, record: Record, _offset: int, /) -> None:
        """Write what an event means, if it means something here."""
        try:
            written = self._event(record)
        except DAMAGED as failure:
            _log.warning("%s is left out: %s", record.get("path"), failure)
            return
        if written is not None:
            written.wall_time = _seconds(record)
            step = record.get("step")
            written.step = step if isinstance(step, int) else 0
            self._append([written])

    def _event(self, record: Record) -> Event | None:
        match record.get("event"):
            case "artifact" if record.get("kind") == "plot":
                path = self._run.inside(record["path"])
                return Event(summary=summaries.image(images.tag_of(record), path.read_bytes())) if path else None
            case "sample":
                return Event(summary=summaries.text("text/sample", str(record.get("text", ""))))
            case "alert":
                return Event(summary=summaries.text(f"text/alert/{record.get('kind')}", alert_text(record)))
            case "histogram":
                path = self._run.inside(record["path"])
                return Event(summary=summaries.histograms(path.read_bytes())) if path else None
            case "model_graph":
                path = self._run.inside(record["path"])
                return Event(graph_def=path.read_bytes()) if path else None
        return None

    def close(self, outcome: Outcome) -> None:
        """Write the final metrics, which are those of the HParams page, and how the run ended."""
        seconds, step = outcome.end_time / 1000, (last_record(self._run.metrics_path) or {}).get("step", 0)
        final = self._run.results().get("final_metrics") or {}
        said = f"{outcome.status}: {outcome.reason}" if outcome.reason else outcome.status
        told = (
            summaries.scalars((f"final/{name}", value) for name, value in numbers(final)),
            summaries.text("text/outcome", said),
            summaries.session_end(finished=outcome.status == "FINISHED", seconds=seconds),
        )
        events = [Event(wall_time=seconds, step=step, summary=summary) for summary in told]
        with _ending(self._path).open("wb") as file:
            _write(file, [Event(wall_time=seconds, file_version=VERSION), *events])

    def _beginning(self, start: Record) -> list[Event]:
        seconds, config = _seconds(start), self._run.config().get("config") or {}
        settings = summaries.session_start(config, start["experiment_id"], seconds)
        return [Event(wall_time=seconds, file_version=VERSION), Event(wall_time=seconds, summary=settings)]

    def _append(self, events: Iterable[Event]) -> None:
        with self._path.open("ab") as file:
            _write(file, events)
            self.size = file.tell()


def _write(file: BinaryIO, events: Iterable[Event]) -> None:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    file.flush()
    os.fsync(file.fileno())  # The state, which is saved next, must not outlive it in a power cut.


def _event_file(run: RunView) -> Path:
    """One name for as long as the run lives: TensorBoard reads whatever has `tfevents` in it."""
    start = run.start() or {}
    name = f"events.out.tfevents.{int(_seconds(start)) if start else 0:010d}.{run.directory.name}"
    return run.directory / FOLDER / name


def _ending(path: Path) -> Path:
    """Where it is said how the run ended; read behind the rest of it."""
    return path.with_name(f"{path.name}.end")


def _is_whole(run: RunView, state: StoreState) -> bool:
    """Whether the journals still have every line that was sent."""
    return not run.is_cut(state) and is_boundary(run.events_path, state.events_offset)


def _scalars(record: Record) -> Event:
    return Event(wall_time=_seconds(record), step=record["step"], summary=summaries.scalars(numbers(record)))


def _seconds(record: Record) -> float:
    return journal.milliseconds(record["timestamp"]) / 1000
