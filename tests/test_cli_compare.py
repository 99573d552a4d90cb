"""``spectral compare``, from the words to the files."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from spectral_mlflow import cli

sys.path.append(str(Path(__file__).parent / "analysis"))

from test_run_directories import write_run
from tracking_store import TrackingStore, empty_store, falling, store

__all__ = ["empty_store", "store"]


def train_study(store: TrackingStore, seeds: int = 2) -> list[str]:
    """Two models of one study; their MLflow runs."""
    made = []
    for model, loss in (("wave", 2.3), ("standard", 2.4)):
        for seed in range(seeds):
            made.append(store.train(model, seed, falling(loss + 0.01 * seed)))
            store.client.set_tag(made[-1], "spectral.study", "main")
    return made


def test_a_study_with_files(store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables and verdicts on the screen, and in the folder Markdown, one page, CSV and plots, also in the study."""
    made = train_study(store)
    parent = store.client.create_run(store.experiment, tags={"spectral.kind": "study", "spectral.study": "main"})
    for run in made:
        store.client.set_tag(run, "mlflow.parentRunId", parent.info.run_id)
    out = tmp_path / "deep" / "out"
    assert cli.main(["compare", "--study", "main", "--output", str(out), "--mlflow"]) == 0
    said = capsys.readouterr().out
    assert "standard  0, 1   2.4050 [" in said
    assert "wave against standard: undecided: a difference of" in said
    with (out / "variants.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["standard", "wave"]
    with (out / "verdicts.csv").open() as file:
        assert [(row["test"], row["outcome"]) for row in csv.DictReader(file)] == [
            ("wave against standard", "undecided")
        ]
    page = (out / "comparison.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == len(list(out.glob("*.svg"))) == 3
    assert "http" not in page.replace("http-equiv", "")
    stored = MlflowClient(tracking_uri=store.uri).list_artifacts(parent.info.run_id, "comparison")
    assert {Path(file.path).name for file in stored} == {path.name for path in out.iterdir()}


def test_runs_by_name(store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run directory needs no store; a run of the store is meant by its MLflow id or its name."""
    run = store.train("standard", 0, falling(2.4), name="far_away")
    write_run(tmp_path / "experiments" / "wave_1")
    assert cli.main(["compare", "wave_", run]) == 0
    said = capsys.readouterr().out
    assert "Group 2" in said
    assert cli.main(["compare", "far_away"]) == 0
    assert "one variant: nothing to compare it with" in capsys.readouterr().out
    store.file.unlink()
    assert cli.main(["compare", "wave_1"]) == 0
    assert "wave" in capsys.readouterr().out


def test_no_result_yet(store: TrackingStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs without a result are no mistake: they are named, and that is all."""
    store.client.set_tag(store.train("wave", 0, status="RUNNING"), "spectral.study", "main")
    assert cli.main(["compare", "--tag", "study=main"]) == 0
    said = capsys.readouterr().out
    assert "its status is RUNNING" in said
    assert "nothing to compare" in said


def test_a_comparison_outside_of_a_study(store: TrackingStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Files have no place in MLflow where the runs have no common parent; the message says how to make one."""
    train_study(store, seeds=1)
    assert cli.main(["compare", "--study", "main", "--mlflow"]) == 2
    assert "spectral study NAME RUN..." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "allowed: RUN..., or --study NAME"),
        (["run", "--study", "main"], "one of the two ways"),
        (["--study", "nothing"], "has spectral.study=nothing"),
        (["--tag", "nothing"], "allowed: KEY=VALUE"),
        (["nothing"], "no run 'nothing'"),
        (["--study", "main", "--target", "nan"], "--target"),
        (["--study", "main", "--output", "mlflow.db"], "no folder"),
    ],
    ids=["nothing", "both", "study", "tag", "run", "target", "output"],
)
def test_mistakes(
    store: TrackingStore, given: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each is told in one line, before any work."""
    monkeypatch.chdir(store.file.parent)
    assert cli.main(["compare", *given]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_without_a_store(store: TrackingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study needs one."""
    shutil.move(store.file, tmp_path / "elsewhere.db")
    assert cli.main(["compare", "--study", "main"]) == 2
    assert "there is no MLflow store" in capsys.readouterr().err
