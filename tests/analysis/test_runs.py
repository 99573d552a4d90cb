"""Reading a store into frames."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Metric
from tracking_store import STARTED, TrackingStore, falling

from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.errors import UserError


def test_one_row_a_training_run_oldest_first(store: TrackingStore) -> None:
    """Training runs come in the order they started; wrapper and paper runs are left out."""
    first = store.train("wave", 0, falling(2.4))
    store.train("wave", 1, {}, kind="wrapper")
    store.train("wave", 1, {}, kind="paper")
    second = store.train("standard", 0, falling(2.3), status="FAILED")
    runs = load_runs(store.uri)
    assert runs["run_id"].tolist() == [first, second]
    assert runs["status"].tolist() == ["FINISHED", "FAILED"]
    assert runs["start_time"][0] == pd.Timestamp(STARTED, unit="ms", tz="UTC")
    assert set(load_runs(store.uri, kind=None)["tags.spectral.kind"]) == {"train", "wrapper", "paper"}


def test_parameters_have_the_type_of_their_setting(store: TrackingStore) -> None:
    """MLflow keeps strings; the frame has numbers, booleans and gaps, whatever the digits of a hash look like."""
    store.train("wave", 7, falling(2.4), facts={"dataset.sha256": "12" * 32})
    row = load_runs(store.uri).iloc[0]
    assert row["params.training.seed"] == 7
    assert row["params.training.lr"] == pytest.approx(2e-3)
    assert not row["params.model.pure_wave"]
    assert row["params.dataset.sha256"] == "12" * 32
    assert row["params.dataset.path"] is pd.NA
    assert row["params.model.num_parameters"] == 826_609
    assert row["metrics.best_val_loss"] == pytest.approx(2.4)


def test_an_empty_store_gives_an_empty_frame(store: TrackingStore) -> None:
    """No runs is an answer: a frame without rows, with the columns that every run has."""
    runs = load_runs(store.uri)
    assert runs.empty
    assert {"run_id", "name", "status", "start_time"} <= set(runs.columns)
    assert load_histories(store.uri, [], ["loss"]).empty


def test_one_experiment(store: TrackingStore) -> None:
    """Runs can be restricted to one MLflow experiment; one that is not there is a user's mistake."""
    store.train()
    assert len(load_runs(store.uri, experiment="spectral")) == 1
    assert load_runs(store.uri, experiment="Default").empty
    with pytest.raises(UserError, match="no MLflow experiment 'nothing'"):
        load_runs(store.uri, experiment="nothing")


def test_a_step_recorded_twice_counts_once_with_its_latest_value(store: TrackingStore) -> None:
    """After a resume the value with the later timestamp is the one, in whatever order they arrived."""
    run = store.train()
    points = [(1, 100, 3.0), (2, 900, 2.0), (2, 200, 2.5), (3, 950, 1.5)]
    store.client.log_batch(run, metrics=[Metric("loss", value, stamp, step) for step, stamp, value in points])
    history = load_histories(store.uri, [run], ["loss", "nothing"])
    assert history["step"].tolist() == [1, 2, 3]
    assert history["value"].tolist() == [3.0, 2.0, 1.5]
    assert history["value"].dtype == "float64"


def test_values_that_are_not_finite_come_back_as_they_were(store: TrackingStore) -> None:
    """MLflow keeps the largest double for an infinity; the frame has the infinity."""
    run = store.train()
    values = [math.inf, -math.inf, math.nan]
    store.client.log_batch(run, metrics=[Metric("loss", value, step, step) for step, value in enumerate(values)])
    found = load_histories(store.uri, [run], ["loss"])["value"].tolist()
    assert found[:2] == [math.inf, -math.inf]
    assert math.isnan(found[2])


def test_no_store_is_told_and_not_made(tmp_path: Path) -> None:
    """A missing database is named, with the command that makes runs, and is still missing afterwards."""
    file = tmp_path / "mlflow.db"
    with pytest.raises(
        UserError, match="no MLflow store at .*mlflow.db.*mlflow run . -P model=wave --env-manager local"
    ):
        load_runs(f"sqlite:///{file}")
    assert not file.exists()


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    """Neither a text file nor somebody else's database is taken for a store."""
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("not a database at all, but long enough to be one" * 100, encoding="utf-8")
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(UserError, match="cannot be read as an MLflow store"):
        load_runs(f"sqlite:///{text}")
    with pytest.raises(UserError, match="without MLflow's tables"):
        load_runs(f"sqlite:///{other}")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///somewhere/mlruns", "ftp://host/db"])
def test_an_unsupported_store(uri: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(UserError, match="allowed: sqlite:///FILE"):
        load_runs(uri)


def test_a_server_that_does_not_answer_keeps_its_password() -> None:
    """A dead server is told at once, in one line, without the password in its address."""
    with pytest.raises(UserError) as failure:
        load_runs("http://me:hunter2@127.0.0.1:9")
    assert "cannot be read" in str(failure.value)
    assert "hunter2" not in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("uri", "message"),
    [("http://", "names no host"), ("sqlite:///:memory:", "needs a file"), ("uc:catalog", "allowed: sqlite:///FILE")],
)
def test_an_address_that_no_run_could_go_to(uri: str, message: str) -> None:
    """What training refuses to write to is refused here in the same words."""
    with pytest.raises(UserError, match=message):
        load_runs(uri)


def test_the_default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty address is that of the store which runs go to by default."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(UserError, match=r"there is no MLflow store at .*none\.db"):
        load_runs("")
