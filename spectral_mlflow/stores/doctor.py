"""What is wrong with the runs of a folder and with their store, and the command that mends it."""

from __future__ import annotations

import fcntl
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from spectral_mlflow.config import without_password
from spectral_mlflow.monitoring.checkpoint_list import listing, verified
from spectral_mlflow.monitoring.runs import run_directories
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.sync import is_behind
from spectral_mlflow.tracking_uri import sqlite_path

if TYPE_CHECKING:  # Two seconds, which `--help` does not need.
    from mlflow import MlflowClient
    from mlflow.entities import Run

LEAST_FREE = 1 << 30
PACKAGES = ("spectral-mlflow", "torch", "mlflow")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        text: what was found.
        fix: the command that mends it; None where nothing is wrong.
    """

    subject: str
    text: str
    fix: str | None = None


def examine(experiments: Path, tracking_uri: str) -> Iterator[Finding]:
    """Look at everything; nothing is changed.

    Args:
        experiments: the folder of run directories.
        tracking_uri: the store, absolute.
    """
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    yield Finding("versions", f"python {sys.version.split()[0]}, {versions}")
    yield _disk(experiments)
    yield from _store(tracking_uri)
    directories = run_directories(experiments)
    found = [finding for run_dir in directories for finding in _run(run_dir)]
    yield Finding("runs", f"{len(directories)} in {experiments}")
    yield from found


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    return Finding("disk", f"{decimal(free)} free in {there}", None if free >= LEAST_FREE else "spectral gc")


# The store


def _store(uri: str) -> Iterator[Finding]:
    shown, path = without_password(uri), sqlite_path(uri)
    if path is not None and not path.exists():
        yield Finding("store", f"{shown} is not there yet; the first run makes it")
        return
    from spectral_mlflow.stores import client as clients

    try:
        with clients.store_errors():
            client = clients.open_client(uri)
            began = time.monotonic()  # A sqlite file takes seconds to open, and milliseconds from then on.
            client.search_experiments(max_results=1)
            yield Finding("store", f"{shown} answers in {(time.monotonic() - began) * 1000:.0f} ms")
            yield from _orphans(client, shlex.quote(uri) if shown == uri else "URI")
    except StoreError as failure:
        fix = "mlflow server" if uri.startswith("http") else f"spectral doctor --tracking-uri URI  # not {shown}"
        yield Finding("store", f"{shown} does not answer: {failure}", fix)


def _orphans(client: MlflowClient, uri: str) -> Iterator[Finding]:
    """Runs of this host that the store calls running, but that nobody writes."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        directory = _directory(run)
        if directory is None:
            continue
        subject = f"MLflow run {run.info.run_id}"
        if not directory.is_dir():
            fix = f"spectral rebuild {run.info.run_id} --tracking-uri {uri}"
            yield Finding(subject, f"is RUNNING, but its directory {directory} is gone", fix)
        elif not RunView(directory).is_alive():
            fix = f"spectral sync {shlex.quote(str(directory))} --tracking-uri {uri}"
            yield Finding(subject, "is RUNNING, but its trainer is gone", fix)


def _directory(run: Run) -> Path | None:
    """The run directory, where it should be on this host."""
    origin = run.data.tags.get("spectral.origin", "").split(" ")
    path = run.data.tags.get("spectral.run_dir")
    return Path(path) if path and len(origin) > 1 and origin[1] in ("", socket.gethostname()) else None


# Runs


def _run(run_dir: Path) -> Iterator[Finding]:
    run = RunView(run_dir)
    alive, name = run.is_alive(), shlex.quote(str(run_dir))
    if alive:
        if error := StoreState.load(run.state_path).error:
            yield Finding(run_dir.name, f"its store is behind: {error}", f"spectral sync {name}  # once it has ended")
        return
    if is_behind(run_dir):
        ended = run.outcome(alive=False)
        how = "has ended" if ended is None or ended.status != "KILLED" else "was stopped or killed"
        yield Finding(run_dir.name, f"{how}, and its store does not have all of it", f"spectral sync {name}")
    yield from _damaged(run_dir)
    yield from _leftovers(run_dir)


def _damaged(run_dir: Path) -> Iterator[Finding]:
    """Checkpoints without a seal, and the newest one if its bytes disagree with it: others would take long to read."""
    files = listing(run_dir / "checkpoints")
    lost = [file.path for file in files if not file.sequence]
    if files and files[0].sequence and verified(files[0]).damage:
        lost.insert(0, files[0].path)
    for path in lost:
        fix = f"rm {shlex.quote(str(path))}"
        yield Finding(run_dir.name, f"{path.name} is damaged; the one before it is loaded instead", fix)


def _leftovers(run_dir: Path) -> Iterator[Finding]:
    stale = [path for path in run_dir.rglob(".*.tmp") if path.is_file() and not _is_held(path)]
    if stale:
        size = decimal(sum(path.stat().st_size for path in stale))
        fix = "rm " + " ".join(shlex.quote(str(path)) for path in stale)
        yield Finding(run_dir.name, f"{len(stale)} temporary files of a process that died, {size}", fix)


def _is_held(path: Path) -> bool:
    """Whether a writer that lives has locked it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
