"""CheckpointEvents: what the journal and the log of a run tell of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spectral_mlflow.monitoring.checkpoint_list import Checkpoint
from spectral_mlflow.monitoring.run_events import RunEvents
from spectral_mlflow.monitoring.structured_log import StructuredLog


class CheckpointEvents:
    """Writes down what happens to the checkpoints of a run. Its methods are called from the thread that saves them."""

    def __init__(self, events: RunEvents, log: StructuredLog) -> None:
        self._events = events
        self._log = log

    def saved(self, checkpoint: Checkpoint, removed: Sequence[Checkpoint]) -> None:
        """A checkpoint is there, and others are gone for it."""
        self._tell(checkpoint)
        for old in removed:
            self._removed(self._relative(old), old.step)
        try:
            self._events.sync()
        except OSError as failure:
            self._log.entry("WARNING", "checkpoint", f"events.jsonl may not survive a power cut: {failure}")

    def skipped(self, step: int, reason: str) -> None:
        """The disk refused one."""
        message = f"checkpoint of step {step} skipped: {reason}"
        self._events.alert(step, "critical", "checkpoint", message, "free some space; earlier checkpoints are whole")

    def waited(self, step: int, seconds: float) -> None:
        """Training had to wait for the one before."""
        message = f"step {step} waited {seconds:.1f} s: the checkpoint before was still being written"
        advice = "a longer monitoring.checkpoint_interval, or a faster disk"
        self._log.entry("WARNING", "checkpoint", message, {"Advice": advice})

    def damaged(self, path: str, reason: str) -> None:
        """One cannot be loaded."""
        self._events.alert(None, "critical", "checkpoint", f"{path}: {reason}", "the checkpoint before it is used")

    def catch_up(self, told: Sequence[Mapping[str, Any]], newest_first: Sequence[Checkpoint]) -> None:
        """Say what a process that died could not: which checkpoints it still wrote, and which it still removed.

        Args:
            told: the events so far.
            newest_first: the checkpoints that there are.
        """
        sequences: dict[str, int | None] = {}
        for event in told:
            if event["event"] == "checkpoint":
                sequences[event["path"]] = event.get("sequence")
            elif event["event"] == "checkpoint_removed":
                sequences.pop(event["path"], None)
        there = {self._relative(checkpoint): checkpoint for checkpoint in newest_first if checkpoint.sequence}
        for path in sequences.keys() - {self._relative(checkpoint) for checkpoint in newest_first}:
            self._removed(path, None)
        for path, checkpoint in reversed(there.items()):
            if sequences.get(path, 0) not in (checkpoint.sequence, None):  # None: told before events had sequences.
                self._tell(checkpoint)

    def _tell(self, checkpoint: Checkpoint) -> None:
        self._events.tell(
            "checkpoint",
            step=checkpoint.step,
            path=self._relative(checkpoint),
            bytes=checkpoint.size,
            best=bool(checkpoint.best),
            metrics=dict(checkpoint.metrics),
            sequence=checkpoint.sequence,
            digest=f"{checkpoint.algorithm}:{checkpoint.digest}",
        )

    def _removed(self, path: str, step: int | None) -> None:
        self._events.tell("checkpoint_removed", step=step, path=path)

    def _relative(self, checkpoint: Checkpoint) -> str:
        return self._events.relative(checkpoint.path)
