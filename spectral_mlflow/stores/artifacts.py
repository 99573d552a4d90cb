"""The files of a run as MLflow artifacts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient

from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.client import allowing, store_errors

# Sent when the run ends, whether or not an event named them.
FINAL = ("config.json", "results.json", "tokenizer.json", "logs/*.jsonl", "logs/training.log*", "code_snapshot/*")

# (run, file) to its size and time of change.
Sent = dict[tuple[str, Path], tuple[int, int]]

SLOWEST_UPLOAD = 500_000  # bytes a second

_log = logging.getLogger(__name__)


class Artifacts:
    """Uploads files of one run directory under their own relative paths.

    During a run an upload is a courtesy: one that fails is logged and left for the end, so that an
    object store without access rights does not hold up the metrics. `finish` makes it complete.
    """

    def __init__(self, client: MlflowClient, run_id: str, run: RunView, sent: Sent) -> None:
        """Send nothing yet.

        Args:
            client: of the store.
            run_id: the run in MLflow.
            run: the run directory.
            sent: what was sent before, by this object or an earlier one; kept up to date.
        """
        self._client = client
        self._run_id = run_id
        self._run = run
        self._sent = sent

    def offer(self, path: str) -> None:
        """Upload a file now if possible.

        Args:
            path: relative to the run directory.
        """
        file = self._inside(path)
        if file is None:
            return
        try:
            self._send(file)
        except StoreError as failure:
            _log.warning("artifact %s is sent at the end of the run: %s", path, failure)

    def finish(self) -> None:
        """Upload everything that this object has not sent yet, or that has changed since.

        Raises:
            StoreError: a file could not be sent. The others were tried all the same.
        """
        failures = []
        for file in self._all():
            try:
                self._send(file)
            except StoreError as failure:
                failures.append(f"artifact {file.name}: {failure}")
        if failures:
            raise StoreError(f"{failures[0]} ({len(failures)} files not sent)")

    def _all(self) -> list[Path]:
        named = [event.get("path") for event in self._run.events("artifact", "sample")]
        found = [self._inside(path) for path in (*named, *self._checkpoints()) if path]
        matched = [path for pattern in FINAL for path in sorted(self._run.directory.glob(pattern)) if path.is_file()]
        return list(dict.fromkeys([*(path for path in found if path), *matched]))

    def _checkpoints(self) -> Iterator[str]:
        """The best checkpoint and the last one, of those still on disk."""
        kept = [event for event in self._run.events("checkpoint") if (self._run.directory / event["path"]).is_file()]
        best = [event for event in kept if event.get("best")]
        return (event["path"] for event in (*best[-1:], *kept[-1:]))

    def _inside(self, path: str) -> Path | None:
        """The file of a relative path; None when it is gone, or not in the run directory at all."""
        file = self._run.directory / path
        if not file.resolve().is_relative_to(self._run.directory.resolve()):
            _log.warning("artifact %s is not in the run directory and left out", path)
            return None
        if not file.is_file():
            _log.warning("artifact %s is gone and left out", path)
            return None
        return file

    def _send(self, file: Path) -> None:
        stat = file.stat()
        version = (stat.st_size, stat.st_mtime_ns)
        if self._sent.get((self._run_id, file)) == version:
            return
        folder = file.relative_to(self._run.directory).parent.as_posix()
        with store_errors(), allowing(stat.st_size / SLOWEST_UPLOAD):
            self._client.log_artifact(self._run_id, str(file), None if folder == "." else folder)
        self._sent[self._run_id, file] = version
