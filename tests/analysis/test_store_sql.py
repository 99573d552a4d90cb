"""The read-only SQL path gives what MLflow's own client gives."""

from __future__ import annotations

import logging
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag
from tracking_store import STARTED, TrackingStore, falling

from spectral_mlflow.analysis import sql
from spectral_mlflow.analysis.fingerprint import fingerprint
from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.errors import UserError

KEYS = ("loss", "val_loss", "nothing")


def odd_store(store: TrackingStore) -> list[str]:
    """Runs with whatever a store can hold; returns their ids."""
    ids = [store.train("wave", seed, falling(2.4)) for seed in range(3)]
    odd = [(1, 5, math.inf), (2, 6, -math.inf), (3, 7, math.nan), (4, 9, 2.0), (4, 8, 3.0), (5, 9, 1.0), (5, 9, 1.5)]
    points = [Metric("loss", value, STARTED + stamp, 1000 + step) for step, stamp, value in odd]
    store.client.log_batch(
        ids[0], metrics=[*points, Metric("last", math.inf, STARTED, 1), Metric("nan", math.nan, 1, 1)]
    )
    store.client.log_batch(
        ids[1],
        params=[Param("free text", "None"), Param("ü", "1e3")],
        tags=[RunTag("odd name: 1/2", 'a "tag"'), RunTag("x", "it's")],
    )
    store.client.delete_run(ids[2])
    other = store.client.create_experiment("other")
    for experiment in (other, store.client.create_experiment("gone")):
        tags = {"spectral.kind": "train", "mlflow.runName": "second"}
        ids.append(store.client.create_run(experiment, start_time=STARTED, tags=tags).info.run_id)
    store.client.delete_experiment(store.client.get_experiment_by_name("gone").experiment_id)
    ids.append(store.train("standard", 0, falling(2.3), kind="paper", status="RUNNING"))
    return ids


@pytest.fixture
def through_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Whatever is read in this context is read through MLflow."""
    with monkeypatch.context() as patched:
        patched.setattr("spectral_mlflow.analysis.api.PAGE", 2)
        yield patched


SELECTIONS: tuple[dict[str, Any], ...] = (
    {}, {"kind": None}, {"experiment": "other"}, {"tags": {"x": "it's"}}, {"tags": {"x": "nothing"}},
    {"tags": {"odd name: 1/2": 'a "tag"'}, "kind": None}, {"run_ids": []},
)  # fmt: skip


def test_both_ways_give_one_frame(
    store: TrackingStore, through_mlflow: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs and histories are equal to the last bit, also where the store has several pages, a trash and odd values."""
    ids = odd_store(store)
    selections = [*SELECTIONS, {"run_ids": ids[:1], "kind": None}]
    runs, histories = [load_runs(store.uri, **chosen) for chosen in selections], load_histories(store.uri, ids, KEYS)
    assert [len(frame) for frame in runs] == [3, 4, 1, 1, 0, 1, 0, 1]
    assert {math.inf, -math.inf} <= set(histories["value"])
    assert not caplog.records
    through_mlflow.setattr(sql, "SCHEMAS", frozenset())
    with caplog.at_level(logging.WARNING):
        for chosen, frame in zip(selections, runs, strict=True):
            pd.testing.assert_frame_equal(frame, load_runs(store.uri, **chosen))
        pd.testing.assert_frame_equal(histories, load_histories(store.uri, ids, KEYS))
    assert "is read through MLflow" in caplog.text


def test_reading_needs_no_mlflow(store: TrackingStore) -> None:
    """Two seconds of import are left out, and pandas' where a digest is all that is asked for."""
    store.train("wave", 0, falling(2.4))
    program = (
        "import sys; from spectral_mlflow.analysis.fingerprint import fingerprint;"
        f"fingerprint({store.uri!r}, keys=['loss']); print({{'mlflow', 'pandas'}} & set(sys.modules));"
        f"from spectral_mlflow.analysis.runs import load_runs; load_runs({store.uri!r}); print('mlflow' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[:2] == ["set()", "False"]


def test_reading_leaves_the_file_as_it_was(store: TrackingStore) -> None:
    """Nobody who reads needs to be able to write."""
    store.train("wave", 0, falling(2.4))
    before = store.file.read_bytes()
    with sql.opened(store.uri) as source:
        assert isinstance(source, sql.SqlSource)
        with pytest.raises(Exception, match="readonly database"):
            source._connection.exec_driver_sql("DELETE FROM runs")
    assert store.file.read_bytes() == before


@pytest.mark.parametrize("mlflow", [False, True], ids=["sql", "api"])
def test_the_fingerprint_follows_what_is_read(
    store: TrackingStore, monkeypatch: pytest.MonkeyPatch, mlflow: bool
) -> None:
    """It stays while nothing changes, and any change of a run or of a history that counts makes another one."""
    if mlflow:
        monkeypatch.setattr(sql, "SCHEMAS", frozenset())
    run = store.train("wave", 0, falling(2.4))
    other = store.train("wave", 1, falling(2.4), kind="paper")

    def now() -> str:
        return fingerprint(store.uri, keys=["loss", "nothing"])

    seen = [now()]
    store.client.log_metric(other, "loss", 1.0)
    store.client.set_tag(other, "x", "y")
    assert now() == seen[0]
    for change in (
        lambda: store.client.log_batch(run, metrics=[Metric("loss", 9.0, STARTED, 1)]),
        lambda: store.client.log_batch(run, metrics=[Metric("loss", math.nan, STARTED, 1)]),
        lambda: store.client.log_param(run, "x", "1"),
        lambda: store.client.set_tag(run, "x", "1"),
        lambda: store.client.log_metric(run, "x", 1.0),
        lambda: store.client.update_run(run, name="x"),
        lambda: store.client.delete_run(run),
    ):
        change()
        assert now() not in seen
        seen.append(now())


def test_one_value_that_somebody_changed(store: TrackingStore) -> None:
    """A value in the middle of a history, or two that changed places, are seen."""
    run = store.train("wave", 0, falling(2.4))
    before = fingerprint(store.uri, keys=["val_loss"])
    values = load_histories(store.uri, [run], ["val_loss"])["value"].tolist()
    set_value(store, run, "val_loss", values[1], values[2], new=(values[2], values[1]))
    assert fingerprint(store.uri, keys=["val_loss"]) != before
    set_value(store, run, "val_loss", values[2], values[1], new=(values[1], values[2]))
    assert fingerprint(store.uri, keys=["val_loss"]) == before
    with closing(sqlite3.connect(store.file)) as database, database:  # Count and sums stay, also those by step.
        database.execute("UPDATE metrics SET value = value + CASE step WHEN 50 THEN 0.1 WHEN 100 THEN -0.2 "
                         "WHEN 150 THEN 0.1 ELSE 0 END WHERE key = 'val_loss'")  # fmt: skip
    assert fingerprint(store.uri, keys=["val_loss"]) != before


@pytest.mark.parametrize("change", ["value = -value WHERE step = 1", "timestamp = timestamp + 9 WHERE step = 50"])
@pytest.mark.parametrize("mlflow", [False, True], ids=["sql", "api"])
def test_what_sums_of_values_do_not_show(
    store: TrackingStore, monkeypatch: pytest.MonkeyPatch, mlflow: bool, change: str
) -> None:
    """An infinity that turns around, and a time in the middle of a history."""
    if mlflow:
        monkeypatch.setattr(sql, "SCHEMAS", frozenset())
    store.train("wave", 0, {1: math.inf} | falling(2.4))
    before = fingerprint(store.uri, keys=["val_loss"])
    with closing(sqlite3.connect(store.file)) as database, database:
        database.execute(f"UPDATE metrics SET {change} AND key = 'val_loss'")  # noqa: S608
    assert fingerprint(store.uri, keys=["val_loss"]) != before


def set_value(store: TrackingStore, run: str, key: str, *old: float, new: tuple[float, ...]) -> None:
    """Write values over others, which differ in their steps, behind MLflow's back."""
    with closing(sqlite3.connect(store.file)) as database, database:
        where = "WHERE run_uuid = ? AND key = ? AND value = ?"
        steps = [database.execute(f"SELECT step FROM metrics {where}", (run, key, v)).fetchone()[0] for v in old]  # noqa: S608
        for step, value in zip(steps, new, strict=True):
            database.execute(
                "UPDATE metrics SET value = ? WHERE run_uuid = ? AND key = ? AND step = ?", (value, run, key, step)
            )


def test_a_tag_that_mlflow_cannot_search_for(store: TrackingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow has to be asked, a text with both quotation marks is a user's mistake."""
    monkeypatch.setattr(sql, "SCHEMAS", frozenset())
    with pytest.raises(UserError, match="which MLflow cannot search for"):
        load_runs(store.uri, tags={"x": "'\""})
