"""The files of a run as MLflow artifacts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from spectral_mlflow.stores import checkpoints
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.checkpoints import CheckpointRecord
from spectral_mlflow.stores.client import allowing, store_errors, upload_seconds

# Sent when the run ends, whether or not an event named them.
FINAL = ("config.json", "results.json", "tokenizer.json", "logs/*.jsonl", "logs/training.log*", "code_snapshot/*")

# (run, file) to its size and time of change.
Sent = dict[tuple[str, Path], tuple[int, int]]

_log = logging.getLogger(__name__)


class Artifacts:
    """Uploads files of one run directory under their own relative paths.

    During a run an upload is a courtesy: one that fails is logged and left for the end, so that an
    object store without access rights does not hold up the metrics. `finish` makes it complete. A
    store that does not answer at all is found out at the first file.
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

        Raises:
            StoreError: the store does not answer.
        """
        file = self._run.inside(path)
        if file is not None and (failure := self._try(file)):
            _log.warning("artifact %s is sent at the end of the run: %s", path, failure)

    def finish(self) -> None:
        """Upload everything that this object has not sent yet, or that has changed since.

        Raises:
            StoreError: a file could not be sent. The others were tried all the same, if the store answers.
        """
        failures = [f"artifact {file.name}: {failure}" for file in self._all() if (failure := self._try(file))]
        failures += self.keep_checkpoints()
        if failures:
            raise StoreError(f"{failures[0]} ({len(failures)} files not sent)")

    def _all(self) -> list[Path]:
        named = [
            self._run.inside(event["path"]) for event in self._run.events("artifact", "sample") if event.get("path")
        ]
        matched = [path for pattern in FINAL for path in sorted(self._run.directory.glob(pattern)) if path.is_file()]
        return list(dict.fromkeys([*(path for path in named if path), *matched]))

    def _try(self, file: Path) -> StoreError | None:
        """Upload a file; what its store has against it.

        Raises:
            StoreError: the store does not answer, so that it is no use to try others.
        """
        try:
            self._send(file)
        except StoreError as failure:
            self._ask()
            return failure
        return None

    def _ask(self) -> None:
        with store_errors():
            self._client.get_run(self._run_id)

    def _send(self, file: Path) -> None:
        try:
            stat = file.stat()
        except FileNotFoundError:  # Retention was faster.
            return
        version = (stat.st_size, stat.st_mtime_ns)
        if self._sent.get((self._run_id, file)) == version:
            return
        folder = file.relative_to(self._run.directory).parent.as_posix()
        self._put(file, None if folder == "." else folder, stat.st_size)
        self._sent[self._run_id, file] = version

    def _put(self, file: Path, folder: str | None, size: int) -> None:
        with store_errors(), allowing(upload_seconds(size)):
            self._client.log_artifact(self._run_id, str(file), folder)

    # Checkpoints

    def offer_checkpoints(self) -> None:
        """Make the artifacts those checkpoints that the run wants there now, if possible.

        Raises:
            StoreError: the store does not answer.
        """
        for failure in self.keep_checkpoints():
            _log.warning("checkpoints are sent at the end of the run: %s", failure)

    def keep_checkpoints(self) -> list[str]:
        """Upload the checkpoints that are wanted, delete those that are not any more, and send the list of all.

        Returns:
            What could not be sent. Without a list of the artifacts there are, nothing is.

        Raises:
            StoreError: the store does not answer.
        """
        records = checkpoints.known(self._run)
        try:
            return self._keep(records) if records else []
        except StoreError as failure:
            self._ask()
            return [f"artifacts of {checkpoints.FOLDER}: {failure}"]

    def _keep(self, records: list[CheckpointRecord]) -> list[str]:
        stored = self._stored_checkpoints()
        listed = checkpoints.read(checkpoints.list_path(self._run))
        before = {record.path: record.digest for record in listed if record.state == checkpoints.UPLOADED}
        there = [r for r in checkpoints.with_artifacts(records, stored) if r.state != checkpoints.REMOVED]
        wanted = checkpoints.wanted(there, checkpoints.policy(self._run))
        failures = {}
        for record in records:
            if record.path not in wanted or record.state != checkpoints.LOCAL:
                continue
            if stored.get(record.path) == record.bytes and before.get(record.path) == record.digest is not None:
                continue
            if failure := self._try(self._run.directory / record.path):
                failures[record.path] = f"artifact {record.path}: {failure}"
        unwanted = [record.path for record in records if record.path in stored and record.path not in wanted]
        self._delete(unwanted)
        return [*failures.values(), *self._send_list(records, wanted, failures)]

    def _stored_checkpoints(self) -> dict[str, int | None]:
        with store_errors():
            found = self._folder().list_artifacts(checkpoints.FOLDER)
        return {entry.path: entry.file_size for entry in found if not entry.is_dir}

    def _folder(self) -> Any:
        """The artifacts of the run alone: the client would ask for its logged models too, which older stores lack."""
        location = self._client.get_run(self._run_id).info.artifact_uri
        return get_artifact_repository(location, tracking_uri=self._client.tracking_uri)

    def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                with store_errors():
                    self._folder().delete_artifacts(path)
            except StoreError as failure:
                _log.warning("artifact %s is not wanted any more, but cannot be deleted: %s", path, failure)
            else:
                self._sent.pop((self._run_id, self._run.directory / path), None)

    def _send_list(self, records: list[CheckpointRecord], wanted: set[str], failed: Collection[str]) -> list[str]:
        stored = {path: size for path, size in self._stored_checkpoints().items() if path not in failed}
        listed = [
            replace(record, state=checkpoints.UNWANTED)
            if record.path in stored and record.path not in wanted
            else record
            for record in checkpoints.with_artifacts(records, stored)
        ]
        path = checkpoints.list_path(self._run)
        changed = checkpoints.write(path, listed)
        if not changed and (self._run_id, path) in self._sent:
            return []
        try:
            self._put(path, None, path.stat().st_size)
        except StoreError as failure:
            self._ask()
            return [f"artifact {path.name}: {failure}"]
        self._sent[self._run_id, path] = (0, 0)
        return []
