"""What is wrong with the runs of a folder and with their store, and the command that mends it."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from spectral_mlflow.config import without_password
from spectral_mlflow.monitoring.checkpoint_list import listing, verified
from spectral_mlflow.monitoring.runs import is_run
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.sync import is_behind
from spectral_mlflow.tracking_uri import sqlite_path

if TYPE_CHECKING:  # Two seconds, which `--help` does not need.
    from mlflow import MlflowClient
    from mlflow.entities import Run

LEAST_FREE = 1 << 30
PACKAGES = ("spectral-mlflow", "torch", "mlflow")

# Folders beside the runs, by the first part of their names: whose they are.
UNFINISHED = {"import": "an import", "rebuild": "a rebuild", "export": "an export", "removed": "a removal"}
SILENT = ("rebuild", "export")  # Their names do not tell a dead process from one at work; the time of writing does.
SILENCE = 600.0

# What takes the run of a state out of the trash of its store, if it is there.
Restoring = Callable[[StoreState], str | None]


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
    client = yield from _store(tracking_uri)
    found = list(_folder(experiments, partial(_restoring, client, tracking_uri)))
    yield Finding("runs", f"{sum(is_run(path) for path in experiments.glob('[!.]*'))} in {experiments}")
    yield from found


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    return Finding("disk", f"{decimal(free)} free in {there}", None if free >= LEAST_FREE else "spectral gc")


# The store


def _store(uri: str) -> Generator[Finding, None, MlflowClient | None]:
    """Findings; the client is returned if the store answers."""
    shown, path = without_password(uri), sqlite_path(uri)
    if path is not None and not path.exists():
        yield Finding("store", f"{shown} is not there yet; the first run makes it")
        return None
    from spectral_mlflow.stores import client as clients

    try:
        with clients.store_errors():
            client = clients.open_client(uri)
            began = time.monotonic()  # A sqlite file takes seconds to open, and milliseconds from then on.
            client.search_experiments(max_results=1)
            yield Finding("store", f"{shown} answers in {(time.monotonic() - began) * 1000:.0f} ms")
            yield from _orphans(client, _as_argument(uri))
            return client
    except StoreError as failure:
        fix = "mlflow server" if uri.startswith("http") else f"spectral doctor --tracking-uri URI  # not {shown}"
        yield Finding("store", f"{shown} does not answer: {failure}", fix)
        return None


def _as_argument(uri: str) -> str:
    return shlex.quote(uri) if without_password(uri) == uri else "URI"


def _orphans(client: MlflowClient, uri: str) -> Iterator[Finding]:
    """Runs of this host that the store calls running, but that nobody writes."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        directory = _directory(run)
        if directory is not None:
            with suppress(OSError):  # Another user's, or `_run` names it.
                yield from list(_orphan(run.info.run_id, directory, uri))


def _orphan(run_id: str, directory: Path, uri: str) -> Iterator[Finding]:
    subject = f"MLflow run {run_id}"
    if not directory.is_dir():
        fix = f"spectral rebuild {run_id} --tracking-uri {uri}"
        yield Finding(subject, f"is RUNNING, but its directory {directory} is gone", fix)
    elif not RunView(directory).is_alive() and RunView(directory).start() is not None:  # Else `_run` names it.
        fix = f"spectral sync {shlex.quote(str(directory))} --tracking-uri {uri}"
        yield Finding(subject, "is RUNNING, but its trainer is gone", fix)


def _restoring(client: MlflowClient | None, uri: str, state: StoreState) -> str | None:
    """The command that takes a run out of the trash of this store; None where it is not there."""
    if client is None or state.run_id is None or state.tracking_uri != without_password(uri):
        return None
    from spectral_mlflow.stores import client as clients

    try:
        with clients.store_errors():
            run = client.get_run(state.run_id).info
            experiment = client.get_experiment(run.experiment_id)
    except StoreError:  # It has lost the run, which a sync sends again.
        return None
    if run.lifecycle_stage == "active":
        return None
    whole = experiment.lifecycle_stage == "deleted"
    what = (
        f"experiments restore --experiment-id {run.experiment_id}" if whole else f"runs restore --run-id {run.run_id}"
    )
    return f"MLFLOW_TRACKING_URI={_as_argument(uri)} mlflow {what}"


def _directory(run: Run) -> Path | None:
    """The run directory, where it should be on this host."""
    origin = run.data.tags.get("spectral.origin", "").split(" ")
    path = run.data.tags.get("spectral.run_dir")
    return Path(path) if path and len(origin) > 1 and origin[1] in ("", socket.gethostname()) else None


# Runs


def _folder(experiments: Path, restoring: Restoring) -> Iterator[Finding]:
    """What is wrong with each run, and what dead processes have left between them."""
    if not experiments.exists():
        return
    try:
        inside = sorted(experiments.iterdir())
    except OSError as failure:
        yield _unreadable("runs", experiments, failure)
        return
    for path in inside:
        look = _unfinished(path) if path.name.startswith(".") else _run(path, restoring)
        yield from _readable(path, look)


def _readable(path: Path, look: Iterator[Finding]) -> Iterator[Finding]:
    """The findings; where something cannot be read, that is the last one."""
    try:
        if path.is_dir():
            yield from look
    except OSError as failure:
        yield _unreadable(path.name, path, failure)


def _unreadable(subject: str, path: Path, failure: OSError) -> Finding:
    place = shlex.quote(str(failure.filename or path))
    fix = f"chmod -R u+rwX {shlex.quote(str(path))}  # as its owner" if isinstance(failure, PermissionError) else None
    return Finding(subject, f"cannot be read: {failure}", fix or f"ls -ld {place}  # should be what a run has there")


def _run(run_dir: Path, restoring: Restoring) -> Iterator[Finding]:
    run = RunView(run_dir)
    if not {run_dir / "config.json", run_dir / "logs"} <= set(run_dir.iterdir()):
        return
    if run.events_path in run.events_path.parent.iterdir():
        run.events_path.open("rb").close()  # One that cannot be read is not an empty one.
    alive, name = run.is_alive(), shlex.quote(str(run_dir))
    if alive:
        for store in run.stores():
            if error := StoreState.load(run.state_of(store)).error:
                text = f"its store is behind: {error}"
                yield Finding(run_dir.name, text, f"spectral sync {name}  # once it has ended")
        return
    if run.start() is None:
        yield _unstarted(run)
    elif is_behind(run_dir):
        yield _behind(run, restoring(StoreState.load(run.state_path)))
    yield from _damaged(run_dir)
    yield from _leftovers(run_dir)


def _unstarted(run: RunView) -> Finding:
    """A run whose journal was lost before it was written out: there is nothing to send or to continue."""
    name, state = shlex.quote(str(run.directory)), StoreState.load(run.state_path)
    text = "its journal has no start, as after a power cut"
    if state.run_id is None or state.tracking_uri is None:
        fix = f"spectral delete {name}" if is_run(run.directory) else f"rm -r {name}"
        return Finding(run.directory.name, f"{text}; nothing of it was kept", f"{fix}  # and train again")
    aside = shlex.quote(str(run.directory.with_name(f".lost.{run.directory.name}")))
    fix = f"mv {name} {aside} && spectral rebuild {state.run_id} --tracking-uri {shlex.quote(state.tracking_uri)}"
    return Finding(run.directory.name, f"{text}; MLflow has what was sent", fix)


def _behind(run: RunView, restore: str | None) -> Finding:
    if restore is not None:
        text = "MLflow has it in its trash, and the store does not have all of it"
        return Finding(run.directory.name, text, restore)
    ended = run.outcome(alive=False)
    how = "has ended" if ended is None or ended.status != "KILLED" else "was stopped or killed"
    fix = f"spectral sync {shlex.quote(str(run.directory))}"
    return Finding(run.directory.name, f"{how}, and its store does not have all of it", fix)


def _unfinished(folder: Path) -> Iterator[Finding]:
    """Half an import, rebuild, export or removal whose process died."""
    _, kind, name = (*folder.name.split(".", 2), "")[:3]
    if kind not in UNFINISHED or (kind == "import" and _lives(name)):
        return
    files = list(folder.rglob("*"))
    if kind in SILENT and time.time() - max(path.lstat().st_mtime for path in (folder, *files)) < SILENCE:
        return
    size = decimal(sum(path.lstat().st_size for path in files if path.is_file()))
    yield Finding(folder.name, f"{UNFINISHED[kind]} that died has left {size}", f"rm -r {shlex.quote(str(folder))}")


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # Another user's.
        return True
    return True


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
