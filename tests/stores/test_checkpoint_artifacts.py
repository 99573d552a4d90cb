"""Which checkpoints are artifacts, by policy, and what becomes of those that retention removes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict

from spectral_mlflow.stores.artifacts import Artifacts
from spectral_mlflow.stores.base import RunView, StoreError
from spectral_mlflow.stores.checkpoints import CheckpointRecord, wanted
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.mlflow import MlflowStore

BEST = 20


def _save(run: Any, step: int, sequence: int | None = None) -> None:
    path = f"checkpoints/checkpoint_step_{step}.pt"
    run.file(path, f"content of {step}, {sequence}")
    run.event("checkpoint", step=step, path=path, bytes=(run.directory / path).stat().st_size, best=step == BEST,
              sequence=sequence or step, digest=f"sha256:{sequence or step:064d}")  # fmt: skip


def _remove(run: Any, step: int) -> None:
    path = f"checkpoints/checkpoint_step_{step}.pt"
    (run.directory / path).unlink()
    run.event("checkpoint_removed", step=step, path=path)


def _choose(run: Any, policy: str) -> None:
    content = json.loads((run.directory / "config.json").read_text())
    content["config"]["monitoring"]["log_checkpoints"] = policy
    run.file("config.json", json.dumps(content))


def _feed(run: Any, store: str, fast: Pace) -> None:
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert state.error is None


def _steps(store: str, run: Any) -> set[int]:
    listed = MlflowClient(tracking_uri=store).list_artifacts(run.state()["run_id"], "checkpoints")
    return {int(Path(entry.path).stem.rpartition("_")[2]) for entry in listed}


def _states(store: str, run: Any) -> dict[int, str]:
    uri = MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).info.artifact_uri
    return {record["step"]: record["state"] for record in load_dict(f"{uri}/checkpoints.json")["checkpoints"]}


def _in_turn(run: Any, store: str, fast: Pace) -> None:
    """Three checkpoints, the oldest removed, with the companion at work after each."""
    for step in (10, BEST, 30):
        _save(run, step)
        _feed(run, store, fast)
    _remove(run, 10)
    _feed(run, store, fast)


@pytest.mark.parametrize(
    ("policy", "stored"),
    [("best", {20}), ("last", {30}), ("best,last", {20, 30}), ("all", {10, 20, 30}), ("none", set())],
)
def test_policy(
    new_run: Callable[..., Any], store: str, fast: Pace, trainer: Callable[[Path], Any], policy: str, stored: set[int]
) -> None:
    """During the run the artifacts are those of the policy; what it wants no more is deleted, the list has all."""
    run = new_run()
    _choose(run, policy)
    trainer(run.directory)
    _in_turn(run, store, fast)
    assert _steps(store, run) == stored
    expected = {10: "removed", 20: "local", 30: "local"} | dict.fromkeys(stored, "uploaded")
    assert _states(store, run) == expected
    run.end()
    _feed(run, store, fast)
    assert _steps(store, run) == stored
    assert _states(store, run) == expected


def test_policy_that_a_continuation_has_changed(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The last word counts."""
    run = new_run()
    _choose(run, "all")
    for step in (10, BEST, 30):
        _save(run, step)
    _feed(run, store, fast)
    assert _steps(store, run) == {10, 20, 30}
    run.event("resume", step=30, settings={"monitoring.log_checkpoints": "best"})
    run.end()
    _feed(run, store, fast)
    assert _steps(store, run) == {20}
    assert _states(store, run) == {10: "local", 20: "uploaded", 30: "local"}


def test_checkpoint_of_the_same_step_replaces(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A step that is saved again after a return to an earlier one is sent again, also by a new companion."""
    run = new_run()
    _save(run, 10, 1)
    _feed(run, store, fast)
    _save(run, 10, 2)
    _feed(run, store, fast)
    client = MlflowClient(tracking_uri=store)
    path = client.download_artifacts(run.state()["run_id"], "checkpoints/checkpoint_step_10.pt")
    assert Path(path).read_text() == "content of 10, 2"


def test_paths_outside_the_folder_are_left_alone(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """An event that names something else than a file of the checkpoint folder neither sends nor deletes anything."""
    run = new_run()
    _choose(run, "none")
    for path in ("checkpoints", "checkpoints/..", "../secret.pt", "logs/metrics.jsonl", ""):
        run.event("checkpoint", step=1, path=path, best=True)
    run.steps(1, 3)
    run.end()
    _feed(run, store, fast)
    found = {entry.path for entry in MlflowClient(tracking_uri=store).list_artifacts(run.state()["run_id"], "logs")}
    assert "logs/metrics.jsonl" in found
    assert not (run.directory / "stores" / "checkpoints.json").exists()


def test_store_whose_artifacts_cannot_be_listed(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A checkpoint that cannot be sent holds up neither the metrics nor the events behind it, nor the status."""
    client = MlflowClient(tracking_uri=store)
    client.create_experiment("spectral", artifact_location="unheard-of://bucket/runs")
    run = new_run()
    run.steps(1, 5)
    _save(run, 10)
    run.event("alert", step=11, severity="warning", kind="loss", message="too high", advice="wait")
    run.end()
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert not state.closed
    assert "unheard-of" in str(state.error)
    assert state.events_offset == RunView(run.directory).events_path.stat().st_size
    stored = client.get_run(run.state()["run_id"])
    assert stored.info.status == "FINISHED"
    assert "spectral.alert.loss" in stored.data.tags
    assert stored.data.metrics["loss"] == 3.0 / 5


def test_silent_store_is_not_taken_for_one_without_lists(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Where the store itself is silent, the checkpoint is not given up."""
    run = new_run()
    _feed(run, store, fast)
    _save(run, 10)
    sender = Artifacts(MlflowClient(tracking_uri=store), run.state()["run_id"], RunView(run.directory), 0, {})
    missing = Artifacts(MlflowClient(tracking_uri=store), "0" * 32, RunView(run.directory), 0, {})
    assert sender.keep_checkpoints() == []
    with pytest.raises(StoreError):
        missing.keep_checkpoints()


def test_wanted_by_policy() -> None:
    """Best is the last that was called so among those that exist, last the newest."""
    records = [CheckpointRecord(f"checkpoints/{n}.pt", n, best=n in (1, 3)) for n in range(1, 6)]
    assert wanted(records, frozenset({"best"})) == {"checkpoints/3.pt"}
    assert wanted(records[:2], frozenset({"best", "last"})) == {"checkpoints/1.pt", "checkpoints/2.pt"}
    assert wanted(records, frozenset({"all"})) == {record.path for record in records}
    assert wanted(records, frozenset()) == set()
    assert wanted([], frozenset({"best", "last", "all"})) == set()
