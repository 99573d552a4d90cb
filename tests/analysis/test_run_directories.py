"""Run directories give the frames that a store gives, with what it cannot hold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from tracking_store import TrackingStore

from spectral_mlflow import journal
from spectral_mlflow.analysis.directories import (
    load_directory_histories,
    load_run_directories,
    run_dir_of,
    with_directories,
)
from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.journal import Journal
from spectral_mlflow.settings import build
from spectral_mlflow.stores.sync import sync_to_mlflow

KEYS = ("loss", "val_loss")
LINES = [
    {"step": 1, "loss": 3.0},
    {"step": 2, "loss": math.inf, "val_loss": -math.inf, "grad/norm": math.nan},
    {"step": 3, "loss": math.nan},
    {"step": 4, "loss": 2.5, "val_loss": 2.4, "best_val_loss": 2.4},
    {"step": 2, "loss": 2.75},
]


def write_run(folder: Path, *, uri: str = "", ended: bool = True) -> Path:
    """A run directory as a training leaves it, with a step that was done twice."""
    (folder / "logs").mkdir(parents=True)
    facts = {"type": "wave", "num_parameters": 1000, "vocab_size": 65}
    config = {
        "experiment_id": folder.name, "config": build({"model": "wave", "seed": "7"}).to_dict(), "model": facts,
        "dataset": {"name": "text", "sha256": "ab" * 32, "num_tokens": 99}, "git": {"commit": "cd" * 20},
        "config_hash": "c0ffee", "hardware": {"device": "cpu", "threads": 2},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    events, metrics = (Journal(folder / "logs" / f"{name}.jsonl") for name in ("events", "metrics"))
    start = {"event": "start", "experiment_id": folder.name, "name": "wave", "stores": ["mlflow"], "tracking_uri": uri,
             "mlflow_experiment": "spectral", "mlflow_run_id": None, "tags": {"spectral.study": "main"},
             "format_version": 1}  # fmt: skip
    events.append({"timestamp": journal.now(), **start})
    for second, line in enumerate(LINES):
        metrics.append({"timestamp": f"2026-01-31T12:00:{second:02d}.000Z", **line})
    if ended:
        events.append({"timestamp": journal.now(), "event": "end", "status": "FINISHED", "step": 4})
    metrics.close()
    events.close()
    return folder


def test_a_directory_gives_the_frame_of_its_store(store: TrackingStore, tmp_path: Path) -> None:
    """Params, the tags that say what a run is, and metrics are those of the store; infinities are there besides."""
    folder = write_run(tmp_path / "experiments" / "wave_1", uri=store.uri)
    assert sync_to_mlflow(folder).complete
    stored, here = load_runs(store.uri), load_run_directories([folder])
    assert set(here.columns) <= set(stored.columns)
    pd.testing.assert_frame_equal(here.filter(regex="^(params|metrics)"), stored.filter(regex="^(params|metrics)"))
    shared = [name for name in here.columns if not name.startswith(("params", "metrics")) and "time" not in name]
    assert here[shared].iloc[0].to_dict() == stored[shared].iloc[0].to_dict()
    histories = load_histories(store.uri, stored["run_id"], KEYS)
    assert not histories["value"].abs().eq(math.inf).any()
    whole = load_directory_histories([folder], KEYS)
    assert whole["value"].fillna(9.0).tolist() == [3.0, 2.75, 9.0, 2.5, -math.inf, 2.4]
    pd.testing.assert_frame_equal(with_directories(histories, stored, KEYS), whole)


def test_a_run_that_no_store_has(tmp_path: Path) -> None:
    """Its own id stands for that of MLflow; without an end it was killed."""
    folder = write_run(tmp_path / "wave_1", ended=False)
    row = load_run_directories([folder]).iloc[0]
    assert (row["run_id"], row["status"], row["tags.spectral.study"]) == ("wave_1", "KILLED", "main")
    assert row["params.training.seed"] == 7
    assert pd.isna(row["end_time"])


def test_the_directory_of_a_run(tmp_path: Path) -> None:
    """It is found by its tag where it is there and of that run, and nothing else is taken for it."""
    folder = write_run(tmp_path / "wave_1")
    row = load_run_directories([folder]).to_dict("records")[0]
    assert run_dir_of(row) == folder
    assert run_dir_of({**row, "tags.spectral.key": "wave_2"}) is None
    assert run_dir_of({**row, "tags.spectral.run_dir": str(tmp_path / "gone")}) is None
    assert run_dir_of({"run_id": "x", "tags.spectral.run_dir": math.nan}) is None


def test_histories_without_a_directory_stay(store: TrackingStore) -> None:
    """What another machine has trained is what the store says."""
    store.train("wave", 0, {1: 2.0})
    runs = load_runs(store.uri)
    histories = load_histories(store.uri, runs["run_id"], KEYS)
    pd.testing.assert_frame_equal(with_directories(histories, runs, KEYS), histories)


@pytest.mark.parametrize("folders", [[]], ids=["none"])
def test_no_directories(folders: list[Path]) -> None:
    """An empty frame with the columns that every run has."""
    assert load_run_directories(folders).empty
    assert load_directory_histories(folders, KEYS).empty
