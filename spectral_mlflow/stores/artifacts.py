"""The files of a run as MLflow artifacts."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.page_pictures import NO_IMAGE
from spectral_mlflow.stores import checkpoints, images
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.checkpoints import CheckpointRecord
from spectral_mlflow.stores.client import allowing, store_errors, upload_seconds
from spectral_mlflow.stores.images import Plot

# Sent when the run ends, whether or not an event named them.
FINAL = (
    "config.json", "results.json", "tokenizer.json", "overview.html", "logs/*.jsonl", "logs/training.log*",
    "code_snapshot/*", "visualizations/*.png", "visualizations/data/*.npz",
)  # fmt: skip

# Seconds without offers after one that failed: time-outs, one for each file, would hold up the metrics.
REST = 60.0

# (run, file) to its size and time of change. An image is known by its artifact, and changes with its plot.
Sent = dict[tuple[str, Path], tuple[int, int]]

_log = logging.getLogger(__name__)


class Artifacts:
    """Uploads files of one run directory under their own relative paths.

    During a run an upload is a courtesy: one that fails is logged and left for the end, so that an
    object store without access rights does not hold up the metrics. `finish` makes it complete. A
    store that does not answer at all is found out at the first file.
    """

    def __init__(self, client: MlflowClient, run_id: str, run: RunView, began: int, sent: Sent) -> None:
        """Send nothing yet.

        Args:
            client: of the store.
            run_id: the run in MLflow.
            run: the run directory.
            began: milliseconds since the epoch.
            sent: what was sent before, by this object or an earlier one; kept up to date.
        """
        self._client = client
        self._run_id = run_id
        self._run = run
        self._began = began
        self._sent = sent
        self._shows_images = False
        self._deletes_images = True
        self._resting_until = 0.0

    def offer(self, path: str) -> None:
        """Upload a file now if possible.

        Args:
            path: relative to the run directory.

        Raises:
            StoreError: the store does not answer.
        """
        file = self._run.inside(path)
        if file is not None:
            self._offer(file)

    def offer_plot(self, event: Record) -> bool:
        """Upload a plot now if possible: the file, and the image with its step.

        Args:
            event: of the plot.

        Returns:
            Whether an image was sent that takes the place of another one.

        Raises:
            StoreError: the store does not answer.
        """
        file = self._run.inside(event["path"])
        if file is None:
            return False
        self._offer(file)
        plot = images.plot_of(event, self._run, self._run_id, self._began)
        if plot is None or (plot.grows and plot not in images.wanted(self._plots())):
            return False
        return self._offer(file, plot) and plot.grows

    def _offer(self, file: Path, image: Plot | None = None) -> bool:
        """Upload a file, or the image of it, unless one was refused lately; whether that was done."""
        if time.monotonic() < self._resting_until:
            return False
        if failure := self._try(file, image):
            what = f"image {image.name}" if image else f"artifact {file.relative_to(self._run.directory)}"
            _log.warning("%s, and what comes next, is sent at the end of the run: %s", what, failure)
            self._resting_until = time.monotonic() + REST
        return failure is None

    def finish(self) -> None:
        """Upload everything that this object has not sent yet, or that has changed since.

        Raises:
            StoreError: a file could not be sent. The others were tried all the same, if the store answers.
        """
        failures = [f"artifact {file.name}: {failure}" for file in self._all() if (failure := self._try(file))]
        failures += [
            f"image {plot.name}: {failure}"
            for plot, file in self._images().items()
            if (failure := self._try(file, plot))
        ]
        failures += self.keep_checkpoints()
        if failures:
            raise StoreError(f"{failures[0]} ({len(failures)} files not sent)")

    def _all(self) -> list[Path]:
        named = [
            self._run.inside(event["path"]) for event in self._run.events("artifact", "sample") if event.get("path")
        ]
        matched = [path for pattern in FINAL for path in sorted(self._run.directory.glob(pattern)) if path.is_file()]
        return list(dict.fromkeys([*(path for path in named if path), *matched]))

    def _try(self, file: Path, image: Plot | None = None) -> StoreError | None:
        """Upload a file, or the image of it; what its store has against it.

        Raises:
            StoreError: the store does not answer, so that it is no use to try others.
        """
        try:
            self._send(file) if image is None else self._send_image(file, image)
        except StoreError as failure:
            self._ask()
            return failure
        return None

    def _ask(self) -> None:
        with store_errors():
            self._client.get_run(self._run_id)

    def _send(self, file: Path) -> None:
        try:
            version = _version(file)
        except FileNotFoundError:  # Retention was faster.
            return
        if self._sent.get((self._run_id, file)) == version:
            return
        folder = file.relative_to(self._run.directory).parent.as_posix()
        self._put(file, None if folder == "." else folder, version[0])
        self._sent[self._run_id, file] = version

    def _put(self, file: Path, folder: str | None, size: int) -> None:
        with store_errors(), allowing(upload_seconds(size)):
            self._client.log_artifact(self._run_id, str(file), folder)

    # Images

    def stored_images(self) -> Collection[str]:
        """Names of the files of images that the store has; none where it does not tell them."""
        try:
            return {Path(path).name for path in self._stored(images.FOLDER)}
        except StoreError as failure:
            _log.info("the description shows no plots, as the store does not list its images: %s", failure)
            return ()

    def _plots(self) -> list[Plot]:
        return images.plots_of(self._run, self._run_id, self._began)

    def _images(self) -> dict[Plot, Path]:
        """Each image that should be there, and its plot; of a step that was drawn again, the newer one."""
        newest = {plot.name: plot for plot in images.wanted(self._plots())}
        files = {plot: self._run.inside(plot.path) for plot in newest.values()}
        return {plot: file for plot, file in files.items() if file is not None}

    def _send_image(self, file: Path, plot: Plot) -> None:
        artifact = (self._run_id, Path(images.FOLDER, plot.name))
        try:
            version = _version(file)
            if self._sent.get(artifact) == version:
                return
            with tempfile.TemporaryDirectory() as temporary:
                drawn = _drawn(file, Path(temporary), plot.name)
                if drawn:
                    self._put_image(Path(temporary))
        except OSError as failure:
            if not file.exists():  # Retention was faster.
                return
            raise StoreError(f"{file.name}: {failure}") from failure
        self._sent[artifact] = version
        if drawn and plot.grows and self._deletes_images:
            self._delete_superseded(plot)

    def _put_image(self, folder: Path) -> None:
        with store_errors(), allowing(upload_seconds(sum(path.stat().st_size for path in folder.iterdir()))):
            self._client.log_artifacts(self._run_id, str(folder), images.FOLDER)
            if not self._shows_images:
                self._client.set_tag(self._run_id, images.TAG, "True")
                self._shows_images = True

    def _delete_superseded(self, plot: Plot) -> None:
        """Delete the earlier images of a plot that shows all they do; a store that refuses is asked once."""
        try:
            with store_errors():
                for file in images.superseded(plot, [Path(path).name for path in self._stored(images.FOLDER)]):
                    self._folder().delete_artifacts(f"{images.FOLDER}/{file}")
        except StoreError as failure:
            self._deletes_images = False
            _log.warning("images that newer ones replace stay, as they cannot be deleted: %s", failure)

    # Checkpoints

    def offer_checkpoints(self) -> None:
        """Make the artifacts those checkpoints that the run wants there now, if possible.

        Raises:
            StoreError: the store does not answer.
        """
        if time.monotonic() < self._resting_until:
            return
        for failure in self.keep_checkpoints():
            _log.warning("checkpoints are sent at the end of the run: %s", failure)
            self._resting_until = time.monotonic() + REST

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
        stored = self._stored(checkpoints.FOLDER)
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

    def _stored(self, folder: str) -> dict[str, int | None]:
        """Path and size of each artifact in a folder."""
        with store_errors():
            found = self._folder().list_artifacts(folder)
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
        stored = {path: size for path, size in self._stored(checkpoints.FOLDER).items() if path not in failed}
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


def _version(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _drawn(file: Path, folder: Path, name: str) -> bool:
    """Write the image of a plot; whether it is one."""
    try:
        images.write(file, folder, name)
    except NO_IMAGE as damage:
        if getattr(damage, "errno", None) is not None:  # The disk, rather than what is in the file.
            raise
        _log.warning("%s is no image: %s", file, damage)
        return False
    return True
