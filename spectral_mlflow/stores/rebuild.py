"""What was lost of a run, from what is left: lines of its journal, its directory, or its run in MLflow."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import sync_directory
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.companion import Pace, companion_lock
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.sync import PATIENCE, SyncResult, Watch, store_of, syncing
from spectral_mlflow.tracking_uri import resolve

if TYPE_CHECKING:  # Two seconds, which no user's mistake needs to wait for.
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "spectral.key"


def pull_back(run_dir: Path, tracking_uri: str | None = None) -> int:
    """Append to metrics.jsonl what its store has and a power cut has taken from it.

    To be called before a run is continued, so that no step is journaled, and then stored, a second
    time. Nobody is asked where the journal is as long as what was sent of it.

    Args:
        run_dir: the run, which nobody writes.
        tracking_uri: the store; default: the one that the run went to.

    Returns:
        Number of lines that were appended.

    Raises:
        StoreError: the store does not answer. Nothing has changed, and a later call can still succeed.
        UserError: another companion is at work, or the store needs a password.
    """
    run = RunView(run_dir)
    if not run.is_cut(StoreState.load(run.state_path)):
        return 0
    try:
        with companion_lock(run_dir, Pace().handover):
            return _pull_back(run, tracking_uri)
    except Timeout:
        raise UserError(f"run {run_dir.name} is being sent to its store; try again when that is done") from None


def _pull_back(run: RunView, tracking_uri: str | None) -> int:
    state = StoreState.load(run.state_path)
    if not run.is_cut(state):
        return 0  # The companion that had the lock has done it.
    uri = resolve(state.tracking_uri, tracking_uri)
    from spectral_mlflow.stores import client as clients
    from spectral_mlflow.stores.mlflow import OFFSET
    from spectral_mlflow.stores.pull_back import append_missing

    with clients.store_errors():
        client = clients.open_client(uri)
        if state.run_id is None or not clients.run_exists(client, state.run_id):
            return 0  # The store has lost more than the journal.
        lines = append_missing(client, state.run_id, run)
    # What was sent does not end where a line of this journal does: all of it is compared once more.
    replace(state, metrics_offset=0, events_offset=0, closed=False).save(run.state_path)
    with clients.store_errors():
        client.set_tag(state.run_id, OFFSET, "0")
    return lines


def to_store(run_dir: Path, tracking_uri: str | None = None, *, watch: Watch | None = None) -> SyncResult:
    """Send all of a run again; what its store has already stays as it is.

    Args:
        run_dir: the run.
        tracking_uri: the store; default: the one that the run went to last.
        watch: told how far the metrics are.

    Raises:
        UserError: the store is not allowed, needs a password, or was never named.
    """
    run = RunView(run_dir)
    try:
        with companion_lock(run_dir):
            state = StoreState.load(run.state_path)
            # What a power cut took comes back before all is sent; how far it went is known by the state alone.
            if state != StoreState() and not run.is_cut(state):
                replace(state, metrics_offset=0, events_offset=0, closed=False).save(run.state_path)
            _take_from_trash(state, store_of(run, tracking_uri))
    except Timeout:
        return SyncResult(run_dir, complete=True, message="is being sent by its companion")
    except (StoreError, OSError) as failure:
        return SyncResult(run_dir, complete=False, message=f"not sent: {failure}")
    (result,) = syncing([run_dir], tracking_uri, patience=PATIENCE, watch=watch)
    return result


def _take_from_trash(state: StoreState, uri: str) -> None:
    if state.run_id is None or state.tracking_uri != without_password(uri):
        return
    from spectral_mlflow.stores import client as clients

    with clients.store_errors():
        client = clients.open_client(uri)
        if clients.run_exists(client, state.run_id) and clients.in_trash(client, state.run_id):
            client.restore_run(state.run_id)


def from_store(name: str, experiments: Path, tracking_uri: str | None = None) -> tuple[Path, list[str]]:
    """Make the directory of a run again from what its store has.

    Args:
        name: MLflow run id, run name or experiment id.
        experiments: the folder of run directories.
        tracking_uri: the store; default: MLFLOW_TRACKING_URI, else the default one.

    Returns:
        The directory, and what could not be restored, a line each.

    Raises:
        UserError: no run of this name, several, one of another program, or its directory is there.
        StoreError: the store does not answer.
        OSError: the disk refuses.
    """
    uri = resolve(None, tracking_uri)
    from spectral_mlflow.stores import client as clients
    from spectral_mlflow.stores.restored import restore

    with clients.store_errors():
        client = clients.open_client(uri)
        found = _find(client, name)
    if len(found) != 1:
        many = f"{len(found)} runs; give the MLflow run id of one" if found else "no run"
        raise UserError(f"run {name!r}: {without_password(uri)} has {many}")
    run_dir = experiments / _key(found[0])
    if run_dir.exists():
        raise UserError(f"{run_dir} is there, though it is no whole run; move it away to have it made again")
    # A level deeper than run directories, so that half a run is never taken for one.
    workshop = experiments / f".rebuild.{run_dir.name}"
    shutil.rmtree(workshop, ignore_errors=True)
    (workshop / run_dir.name).mkdir(parents=True)
    try:
        with clients.store_errors():
            notes = restore(client, found[0], workshop / run_dir.name, uri)
        (workshop / run_dir.name).rename(run_dir)
        sync_directory(experiments)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return run_dir, notes


def _find(client: MlflowClient, name: str) -> list[Run]:
    from spectral_mlflow.stores.client import run_exists

    if re.fullmatch(r"[0-9a-f]{32}", name) and run_exists(client, name):
        return [client.get_run(name)]
    if "'" in name or '"' in name:
        raise UserError(f"run {name!r}: allowed: an MLflow run id, a run name or an experiment id, without quotes")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for condition in (f"tags.`{KEY}` = '{name}'", f"attributes.run_name = '{name}'"):
        if found := [run for run in client.search_runs(experiments, condition) if KEY in run.data.tags]:
            return found
    return []


def _key(run: Run) -> str:
    key = str(run.data.tags.get(KEY, ""))
    if not re.fullmatch(r"\w[\w.-]*", key):  # It becomes the name of a folder.
        raise UserError(f"MLflow run {run.info.run_id} is none of this package: its tag {KEY} is {key!r}")
    return key
