"""What `sync` promises: a run that it calls sent or complete is in the store that was asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from spectral_mlflow.stores import sync
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.mlflow import MlflowStore

STEPS = 12


@pytest.fixture
def complete(new_run: Callable[..., Any], store: str) -> Any:
    """A run that has ended and is in its store in full."""
    run = new_run()
    run.steps(1, STEPS)
    run.event("artifact", path="config.json", kind="config", step=None)
    run.end()
    assert _sync(run).startswith("sent (MLflow run ")
    assert _rows(store, run) == STEPS
    return run


def _sync(run: Any, uri: str | None = None) -> str:
    (result,) = sync.sync([run.directory], uri, patience=0.2)
    assert result.complete
    return result.message


def _sync_in_new_process(run: Any, uri: str | None = None) -> str:
    """The same where MLflow holds no connection to a database file that is deleted."""
    code = (
        f"from spectral_mlflow.stores import sync; from pathlib import Path; print(sync.sync([Path.cwd()], {uri!r})[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run.directory, capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix(f"{run.name}: ")


def _anew(store: str) -> str:
    """The store by another address, for which MLflow makes a connection of its own."""
    return f"{store}?timeout=5"


def _rows(store: str, run: Any) -> int:
    """Lines of a run that has ended in a store, with its files."""
    client, run_id = MlflowClient(tracking_uri=store), run.state()["run_id"]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert {entry.path for entry in client.list_artifacts(run_id)} == {"config.json", "logs"}
    return len(client.get_metric_history(run_id, "loss"))


def _database(store: str) -> Path:
    return Path(store.removeprefix("sqlite:///"))


def test_complete_run_goes_to_another_store(complete: Any, template: Path, tmp_path: Path) -> None:
    """A store that is named gets everything, however complete the run is in its own; then it has it already."""
    other = tmp_path / "other" / "mlflow.db"
    other.parent.mkdir()
    shutil.copy(template, other)
    uri = f"sqlite:///{other}"
    assert _sync(complete, uri).startswith("sent (MLflow run ")
    assert _rows(uri, complete) == STEPS
    assert _sync(complete, uri) == "is in the store already"
    assert _rows(uri, complete) == STEPS


def test_own_store_after_another_one(complete: Any, store: str, template: Path, tmp_path: Path) -> None:
    """Sent back to its own store a run is found again there, and nothing is stored twice."""
    other = tmp_path / "other.db"
    shutil.copy(template, other)
    first = complete.state()["run_id"]
    _sync(complete, f"sqlite:///{other}")
    _sync(complete, store)
    assert complete.state()["run_id"] == first
    assert complete.state()["tracking_uri"] == store
    assert _rows(store, complete) == STEPS


def test_deleted_store_is_filled_again(complete: Any, store: str) -> None:
    """A run whose database file is gone is behind, and is sent again to a new one."""
    _database(store).unlink()
    assert sync.is_behind(complete.directory)
    assert sync.is_behind(complete.directory, store)
    assert _sync_in_new_process(complete).startswith("sent (MLflow run ")
    assert _rows(_anew(store), complete) == STEPS
    assert not sync.is_behind(complete.directory)


def test_recreated_store_is_filled_again(complete: Any, store: str, template: Path) -> None:
    """With an empty database in the place of the old one, a run that is named is sent again."""
    _database(store).unlink()
    shutil.copy(template, _database(store))
    assert _sync_in_new_process(complete, store).startswith("sent (MLflow run ")
    assert _rows(_anew(store), complete) == STEPS
    assert _sync_in_new_process(complete) == "is in the store already"


def test_store_that_does_not_answer_for_a_complete_run(complete: Any, store: str) -> None:
    """That is told as such, and forgotten once the store answers again."""
    whole = _database(store).read_bytes()
    _database(store).write_bytes(b"not a database at all" * 100)
    (result,) = sync.sync([complete.directory], patience=0.2)
    assert not result.complete
    assert result.message.startswith("not sent: ")
    _database(store).write_bytes(whole)
    assert _sync(complete) == "is in the store already"
    assert complete.state()["error"] is None


def test_runs_with_nothing_to_send(new_run: Callable[..., Any], tmp_path: Path) -> None:
    """A run that was made without a store is not called sent, nor is one that has not begun."""
    unwanted = new_run("unwanted", stores=[])
    empty = tmp_path / "experiments" / "empty"
    empty.mkdir()
    results = sync.sync([unwanted.directory, empty])
    assert [result.complete for result in results] == [False, True]
    assert "--tracking-uri" in results[0].message
    assert results[1].message == "has nothing to send yet"
    assert not (unwanted.directory / "stores").exists()


def test_unwanted_run_goes_to_a_store_that_is_named(new_run: Callable[..., Any], store: str) -> None:
    """A run that was made without a store is sent where the user says."""
    run = new_run("unwanted", stores=[])
    run.steps(1, STEPS)
    run.event("artifact", path="config.json", kind="config", step=None)
    run.end()
    assert _sync(run, store).startswith("sent (MLflow run ")
    assert _rows(store, run) == STEPS


def test_follower_of_a_complete_run_ends(complete: Any, store: str, fast: Pace) -> None:
    """A companion that finds everything done has nothing to watch."""
    before = complete.state()
    follower = Companion(RunView(complete.directory), MlflowStore(store), pace=fast)
    assert follower.follow().closed
    assert complete.state() == before
