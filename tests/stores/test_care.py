"""Deleting, exporting and importing whole runs, from the command line, with a real store."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from spectral_mlflow import cli, journal
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import companion_lock
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.sync import is_behind, sync


def run_id(run_dir: Path) -> str:
    """Of the run in MLflow."""
    found = StoreState.load(RunView(run_dir).state_path).run_id
    assert found is not None
    return found


@pytest.fixture
def sent(new_run: Callable[..., Any]) -> Any:
    """A finished run, in its store."""
    run = new_run()
    run.steps(1, 20)
    run.end()
    (result,) = sync([run.directory])
    assert result.complete
    return run


def test_delete_takes_both(sent: Any, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The directory is gone, the run in MLflow is in the trash; a second time there is nothing of that name."""
    stored = run_id(sent.directory)
    assert cli.main(["delete", sent.name, "--yes"]) == 0
    assert stored in capsys.readouterr().out
    assert not sent.directory.exists()
    assert MlflowClient(store).get_run(stored).info.lifecycle_stage == "deleted"
    assert cli.main(["delete", sent.name, "--yes"]) == 2


def test_delete_may_keep_the_record(sent: Any, store: str) -> None:
    """What MLflow has stays on request."""
    stored = run_id(sent.directory)
    assert cli.main(["delete", sent.name, "--yes", "--keep-mlflow"]) == 0
    assert MlflowClient(store).get_run(stored).info.lifecycle_stage == "active"


def test_delete_asks_first(sent: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody to ask, nothing is deleted without --yes."""
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert cli.main(["delete", sent.name]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert sent.directory.exists()


def test_a_run_at_work_is_not_deleted(
    sent: Any, store: str, trainer: Callable[[Path], subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither its directory nor its MLflow run is touched while a process writes it."""
    trainer(sent.directory)
    assert cli.main(["delete", sent.name, "--yes"]) == 2
    assert "is being written" in capsys.readouterr().err
    assert cli.main(["export", sent.name]) == 2
    assert cli.main(["gc", "--keep-newest", "0", "--yes"]) == 0
    assert MlflowClient(store).get_run(run_id(sent.directory)).info.lifecycle_stage == "active"
    assert sent.directory.exists()


def test_what_is_no_run_is_not_deleted(sent: Any, tmp_path: Path) -> None:
    """A folder of somebody's model has a config.json too; a link to a run is not the run."""
    model = tmp_path / "experiments" / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert cli.main(["delete", str(model), "--yes"]) == 2
    assert cli.main(["delete", "model", "--yes"]) == 2
    link = tmp_path / "experiments" / "zzz"
    link.symlink_to(sent.directory)
    assert cli.main(["delete", "zzz", "--yes"]) == 1
    assert (model / "config.json").exists()
    assert link.is_symlink()
    assert sent.directory.exists()


def test_a_run_that_is_being_sent_is_not_deleted(sent: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither while a companion holds it, nor, where MLflow is to keep it, before MLflow has it."""
    with companion_lock(sent.directory):
        assert cli.main(["delete", sent.name, "--yes", "--keep-mlflow"]) == 1
    assert "is being sent" in capsys.readouterr().err
    sent.steps(21, 22)
    assert cli.main(["delete", sent.name, "--yes", "--keep-mlflow"]) == 1
    assert f"spectral sync {sent.name}" in capsys.readouterr().err
    assert sent.directory.exists()


def test_a_store_that_does_not_answer_keeps_the_run(sent: Any, store: str) -> None:
    """A run that cannot be deleted in its store stays whole, so that it can be deleted later."""
    Path(store.removeprefix("sqlite:///")).write_text("no database")
    assert cli.main(["delete", sent.name, "--yes"]) == 1
    assert (sent.directory / "config.json").exists()


def test_gc_shows_before_it_deletes(new_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes the runs are only listed; with it those that the rules let go are deleted."""
    for number, status in enumerate(["FAILED", "FINISHED", "KILLED"]):
        new_run(f"wave_{number}").end(status)
    base = Path(os.environ["SPECTRAL_HOME"]) / "experiments"
    rules = ["gc", "--status", "failed,killed"]
    assert cli.main(rules) == 0
    shown = capsys.readouterr().out
    assert "wave_0" in shown
    assert "wave_1" not in shown
    assert "--yes" in shown
    assert len(list(base.iterdir())) == 3
    assert cli.main([*rules, "--yes"]) == 0
    assert [path.name for path in base.iterdir()] == ["wave_1"]
    assert cli.main(rules) == 0
    assert "no run to delete" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--older-than", "-1"], ["--keep-newest", "x"], ["--status", "DEAD"], [], ["--older-than", "nan"], ["--keep"]],
)
def test_mistakes_in_rules(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    assert cli.main(["gc", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("options", [[], ["--compress"]])
def test_a_run_moves_house(
    options: list[str],
    trained: Path,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Imported into another home and another store it is complete there, and can be continued."""
    before = journal.records(trained / "logs" / "metrics.jsonl")
    saved = {path.name: path.read_bytes() for path in (trained / "checkpoints").glob("*.pt")}
    assert cli.main(["export", trained.name, str(tmp_path), *options]) == 0
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("SPECTRAL_HOME", str(elsewhere))
    (file,) = tmp_path.glob("*.spectral.tar")
    assert cli.main(["import", str(file), "--tracking-uri", store]) == 0
    here = elsewhere / "experiments" / trained.name
    assert {path.name: path.read_bytes() for path in (here / "checkpoints").iterdir()} == saved
    client = MlflowClient(store)
    assert client.get_run(run_id(here)).info.status == "FINISHED"
    assert [m.value for m in client.get_metric_history(run_id(here), "loss")] == [line["loss"] for line in before]
    assert not is_behind(here)
    assert cli.main(["resume", trained.name, "--steps", "22"]) == 0
    assert [line["step"] for line in journal.records(here / "logs" / "metrics.jsonl")] == list(range(1, 23))
    assert sync([here])[0].complete
    assert len(client.get_metric_history(run_id(here), "loss")) == 22
    assert cli.main(["import", str(file), "--tracking-uri", store]) == 2
    assert "already" in capsys.readouterr().err
