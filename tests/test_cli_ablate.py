"""``spectral ablate`` as a user meets it: real processes, each cell once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from spectral_mlflow.analysis.campaign import Campaign, Status
from spectral_mlflow.analysis.cells import Cell
from spectral_mlflow.analysis.design import PRESETS
from spectral_mlflow.cli import main
from spectral_mlflow.cli.campaign_progress import shown
from spectral_mlflow.monitoring.run_lock import run_lock

TINY = [
    "--model.d_model", "16", "--model.num_layers", "1", "--model.num_heads", "2", "--model.block_size", "16",
    "--steps", "30", "--batch-size", "4", "--training.warmup_steps", "2", "--dataset", "text", "--device", "cpu",
    "--monitoring.eval_interval", "10", "--monitoring.checkpoint_interval", "5", "--monitoring.code_snapshot", "false",
    "--monitoring.viz_interval", "0",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a text to train on."""
    (tmp_path / "text.txt").write_text("the wave and the phase and the beat\n" * 60)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPECTRAL_HOME", str(tmp_path))
    return tmp_path


def ablate(home: Path, *more: str) -> list[str]:
    """The command of a study of two cells."""
    command = [sys.executable, "-m", "spectral_mlflow", "ablate", "--components", "qfe", "--seeds", "1", "--jobs", "1"]
    return [*command, *TINY, "--dataset.path", str(home / "text.txt"), *more]


def finished(home: Path) -> Counter[str]:
    """Finished runs by the cell that they say they are of."""
    found: Counter[str] = Counter()
    for path in (home / "experiments").glob("*/logs/events.jsonl"):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        found[events[0]["tags"]["spectral.cell"]] += events[-1].get("status") == "FINISHED"
    return found


def test_a_killed_study_ends_with_each_cell_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its training lives on; the next call waits for it, trains the rest and logs the means; settings cannot change."""
    first = subprocess.Popen(ablate(home), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not any(path.stat().st_size for path in (home / "experiments").glob("*/logs/metrics.jsonl")):
        assert first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    again = subprocess.run(ablate(home), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert finished(home) == Counter({"none": 1, "qfe": 1})
    assert "[2/2]" in again.stderr
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        means = {key for (key,) in store.execute("SELECT DISTINCT key FROM metrics WHERE key LIKE 'val_loss/%'")}
        parents = store.execute("SELECT COUNT(*) FROM tags WHERE key = 'mlflow.parentRunId'").fetchone()
        (note,) = store.execute(
            "SELECT value FROM tags WHERE key = 'mlflow.note.content' AND value LIKE '**St%'"
        ).fetchone()
    assert means == {"val_loss/none", "val_loss/qfe"}
    assert parents == (2,)
    assert "qfe against none: undecided: a difference of" in note
    assert main(ablate(home, "--dry-run")[3:]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 2 runs to train"
    assert main([*ablate(home, "--steps", "40")[3:]]) == 2
    assert "training.steps=30, and now training.steps=40" in capsys.readouterr().err


def test_a_cell_of_another_process_is_told_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has no grid to look at knows what is waited for."""
    cell = PRESETS["seeds"].plan()[0]
    with shown(Campaign([cell], home / "experiments", home / "studies"), 1) as watch:
        for _ in range(2):
            watch({cell: Status("elsewhere")})
    assert capsys.readouterr().err.count("seeds: standard, seed 0: trained by another process") == 1


def test_a_run_that_a_person_goes_on_with_is_waited_for(home: Path) -> None:
    """It is not trained a second time, though nobody holds the lock of its cell."""
    cell = PRESETS["seeds"].plan()[0]
    run_dir = home / "experiments" / "a"
    (run_dir / "logs").mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps({"config": cell.config.to_dict()}))
    start = {"event": "start", "timestamp": "2026-01-01T00:00:00.000Z", "tags": cell.tags}
    (run_dir / "logs" / "events.jsonl").write_text(json.dumps(start) + "\n")
    campaign = Campaign([cell], home / "experiments", home / "studies")

    def watch(statuses: Mapping[Cell, Status]) -> None:
        assert statuses[cell].state == "elsewhere"
        raise KeyboardInterrupt

    with run_lock(run_dir), pytest.raises(KeyboardInterrupt):
        campaign.train(1, watch)


def test_a_result_that_cannot_be_read_stops_no_study(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cell is finished, whatever has become of its file."""
    cell = PRESETS["seeds"].plan()[0]
    (home / "results.json").write_text("{")
    with shown(Campaign([cell], home / "experiments", home / "studies"), 1) as watch:
        watch({cell: Status("finished", home)})
    assert "seed 0: finished" in capsys.readouterr().err


def test_a_cell_that_fails_is_named_with_its_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are trained all the same; the exit code says that something is missing."""
    command = [*ablate(home, "--stores", "none")[3:], "--dataset.path", str(home / "none.txt")]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said.count("failed: ablation") == 2
    assert "none.txt" in said
    assert (home / "studies" / "ablation" / "none-seed0.log").is_file()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "one of the four"),
        (["component"], "PRESET: given 'component'"),
        (["full", "--seeds", "x"], "--seeds: given 'x'"),
        (["full", "--seeds", "0"], "--seeds: given 0"),
        (["full", "--jobs", "0"], "--jobs: given 0"),
        (["full", "--study", "a/b"], "--study: given 'a/b'"),
        (["full", "seeds", "--study", "a"], "several presets"),
        (["--grid", "lr"], "--grid: given 'lr'"),
        (["--grid", "lrr=1,2"], "unknown setting lrr"),
        (["--grid", "lr=1e-3,0.001"], "cells 'lr=1e-3' and 'lr=0.001' have the same settings"),
        (["--grid", "lr=1e-3", "--grid", "lr=2e-3"], "--grid: lr is given twice"),
        (["--grid", "dataset.path=/a.txt,/b.txt"], "cell 'path=/a.txt': allowed"),
        (["--components", "wave"], "components: given"),
        (["full", "--steps", "many"], "training.steps: given 'many'"),
        (["--file", "none.toml"], "--file: none.toml cannot be read"),
        (["full", "--seed", "3"], "training.seed: given for a study"),
        (["seeds", "--model", "wave"], "model.type: given for all cells"),
        (["components", "--training.optimizer", "RGD"], "training.optimizer: given for all cells"),
    ],
    ids=range(18),
)
def test_a_mistake_is_told_before_any_work(
    home: Path, capsys: pytest.CaptureFixture[str], given: list[str], reason: str
) -> None:
    """One line, exit code 2, and nothing is made."""
    assert main(["ablate", *given]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not (home / "experiments").exists()
