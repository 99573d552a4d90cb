"""The start event of a run whose journal was never among its artifacts."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from spectral_mlflow.stores import rebuild, sync
from spectral_mlflow.stores.base import RunView

TAGS = {"spectral.kind": "study", "spectral.study": "widths", "spectral.cell": "wave/32", "who": "somebody"}


def _unsent(run: Any, trainer: Callable[[Path], subprocess.Popen[str]]) -> str:
    """A run whose trainer lives while its store gets all but the journal, and whose directory is lost then."""
    process = trainer(run.directory)
    run.event("artifact", path="config.json", kind="config", step=None)
    run.event("alert", step=1, severity="warning", kind="loss", message="too high", advice="wait")
    run.steps(1, 5)
    sync.sync([run.directory])
    process.communicate("")
    run_id = run.state()["run_id"]
    shutil.rmtree(run.directory)
    return str(run_id)


def test_kind_study_and_experiment_come_back(
    new_run: Callable[..., Any], store: str, trainer: Callable[[Path], subprocess.Popen[str]]
) -> None:
    """A cell of a study does not become a training run, here or in the store, and stays in its experiment."""
    run = new_run(tags=TAGS, mlflow_experiment="studies", host=socket.gethostname(), pid=1)
    run_id = _unsent(run, trainer)
    run_dir, _ = rebuild.from_store(run_id, run.directory.parent, store)
    (start,) = RunView(run_dir).events("start")
    assert start["tags"] == TAGS
    assert (start["mlflow_experiment"], start["name"]) == ("studies", "wave")
    sync.sync([run_dir])
    stored = MlflowClient(tracking_uri=store).get_run(run_id)
    assert stored.data.tags.items() >= TAGS.items()
    assert stored.info.status == "KILLED"


def test_rebuilt_run_goes_to_another_store_as_what_it_was(
    new_run: Callable[..., Any],
    store: str,
    template: Path,
    tmp_path: Path,
    trainer: Callable[[Path], subprocess.Popen[str]],
) -> None:
    """A store that knows nothing of it makes it in the experiment of its name."""
    run = new_run(tags={"spectral.kind": "dry-run"}, mlflow_experiment="studies")
    run_dir, _ = rebuild.from_store(_unsent(run, trainer), run.directory.parent, store)
    other = f"sqlite:///{shutil.copy(template, tmp_path / 'other.db')}"
    assert rebuild.to_store(run_dir, other).complete
    client = MlflowClient(tracking_uri=other)
    experiment = client.get_experiment_by_name("studies")
    assert experiment is not None
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.data.tags["spectral.kind"] == "dry-run"
    assert not stored.data.tags.keys() & {"spectral.study"}
