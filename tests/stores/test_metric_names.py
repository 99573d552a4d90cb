"""Metrics under names that MLflow refuses: sent under others, and back under their own."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from spectral_mlflow.stores import rebuild, sync
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.facts import valid_name
from spectral_mlflow.stores.histories import missing
from spectral_mlflow.stores.points import MARK, mark_name

LONG = "a" * 240


@pytest.mark.parametrize(
    "name", ["a" * 249 + "/b", LONG + "/" * 20, "..hidden", ".../x", "/a", "a//b", ".", "..", "", "x\n", "\ud800"]
)
def test_every_name_is_made_one_that_mlflow_takes(name: str) -> None:
    """Also one whose cut would end in a slash, and one that begins with two dots."""
    _validate_metric_name(valid_name(name))
    assert valid_name(valid_name(name)) == valid_name(name)
    assert len(valid_name(name)) <= 250


@given(st.lists(st.text("a@%/. ", max_size=6), unique=True, max_size=20))
def test_names_stay_apart(names: list[str]) -> None:
    """No two names become one."""
    assert len({valid_name(name) for name in names}) == len(names)
    assert len({mark_name(name) for name in names}) == len(names)


def _sync(run: Any) -> None:
    (result,) = sync.sync([run.directory], patience=0.5)
    assert result.complete, result


def test_metrics_of_like_names_are_two(new_run: Callable[..., Any], store: str) -> None:
    """What differs only in signs that MLflow refuses has a history each, and the lines behind them arrive."""
    run = new_run()
    run.lines({"step": 1, "acc@1": 1.0, "acc%1": 2.0, "a" * 249 + "/b": 3.0}, {"step": 2, "loss": 4.0})
    _sync(run)
    stored = MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).data.metrics
    assert sorted(stored.values()) == [1.0, 2.0, 3.0, 4.0]
    assert stored[valid_name("acc@1")] == 1.0


def test_lost_lines_come_back_under_their_own_names(new_run: Callable[..., Any]) -> None:
    """The journal gets back what it had written, infinities included, and is then whole."""
    run = new_run()
    names = ("acc@1", "p<0.5", LONG)
    run.lines(*({"step": n, **dict.fromkeys(names, 0.1 + n if n < 6 else math.inf)} for n in range(1, 8)))
    _sync(run)
    path, before = RunView(run.directory).metrics_path, run.records()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    assert rebuild.pull_back(run.directory) == 4
    assert run.records() == before
    assert rebuild.pull_back(run.directory) == 0


def test_without_the_journal_the_names_are_those_of_the_store(new_run: Callable[..., Any], store: str) -> None:
    """A value and an infinite one of one metric then are of one name too."""
    run = new_run()
    run.event("artifact", path="config.json", kind="config", step=None)
    run.lines({"step": 1, "acc@1": 1.0}, {"step": 2, "acc@1": math.inf})
    _sync(run)
    run_id = run.state()["run_id"]
    location = MlflowClient(tracking_uri=store).get_run(run_id).info.artifact_uri
    shutil.rmtree(Path(location.removeprefix("file://")) / "logs")
    shutil.rmtree(run.directory)
    rebuild.from_store(run_id, run.directory.parent, store)
    name = valid_name("acc@1")
    assert [record[name] for record in run.records()] == [1.0, math.inf]


def test_a_line_that_has_the_name_of_the_store_is_there() -> None:
    """What was brought back under the name of the store before the journal knew another one is not brought again."""
    stamp = "2026-01-31T12:00:00.000Z"
    stored = {(1769860800000, 1): {valid_name("acc@1"): 1.0}, (1769860800000, 2): {valid_name("acc@1"): 2.0}}
    lines = [{"step": 1, "timestamp": stamp, valid_name("acc@1"): 1.0}]
    known = {"step": 3, "timestamp": stamp, "acc@1": 3.0}
    assert missing(stored, [*lines, known]) == [{"step": 2, "timestamp": stamp, "acc@1": 2.0}]
    assert mark_name("acc@1") == MARK + valid_name("acc@1")
