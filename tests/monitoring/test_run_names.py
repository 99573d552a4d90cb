"""Finding a run by whatever name a person has at hand, and writing it alone."""

import json
from pathlib import Path

import pytest

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Journal
from spectral_mlflow.monitoring.run_lock import is_running, run_lock
from spectral_mlflow.monitoring.runs import find_run, summary
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.settings import build


def make_run(base: Path, name: str, hour: int, run_id: str) -> Path:
    """A run directory with a start, one evaluated step and a state of its store."""
    run = base / name
    for folder in ("logs", "stores"):
        (run / folder).mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"model": {"type": "wave"}, "training": {"steps": 9}}))
    (run / "stores" / "mlflow.json").write_text(json.dumps({"run_id": run_id}))
    for file, record in (
        ("events.jsonl", {"event": "start", "timestamp": f"2026-01-31T{hour:02}:00:00.000Z"}),
        ("metrics.jsonl", {"step": 3, "timestamp": journal.now(), "loss": 2.0, "best_val_loss": 1.5}),
    ):
        writer = Journal(run / "logs" / file)
        writer.append(record)
        writer.close()
    return run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Three runs; the one that started last has the first name."""
    make_run(tmp_path, "wave_2", 1, "aaa")
    make_run(tmp_path, "wave_3", 2, "bbb")
    make_run(tmp_path, "standard_1", 3, "ccc")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [("wave_2", "wave_2"), ("stand", "standard_1"), ("bbb", "wave_3"), ("latest", "standard_1")],
)
def test_every_name_of_a_run_finds_it(base: Path, name: str, found: str) -> None:
    """Experiment id, its beginning, MLflow run id, and the one that started last."""
    assert find_run(name, base) == base / found
    assert find_run(str(base / found), Path("elsewhere")) == base / found


@pytest.mark.parametrize(("name", "message"), [("wave", "the beginning of 2 runs"), ("x", "no run 'x'")])
def test_a_name_of_none_or_several_is_a_mistake(base: Path, name: str, message: str) -> None:
    """The message says what to give instead."""
    with pytest.raises(UserError, match=message):
        find_run(name, base)


def test_a_damaged_run_hides_no_other(base: Path) -> None:
    """A run whose config.json is damaged is listed as such; an empty name finds nothing."""
    (base / "wave_2" / "config.json").write_text("{")
    assert summary(base / "wave_2")["model"] == "(config.json is damaged)"
    with pytest.raises(UserError, match="RUN: given nothing"):
        find_run("", base)


def test_latest_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    """Before the first run there is no latest one."""
    with pytest.raises(UserError, match="no run 'latest'"):
        find_run("latest", tmp_path)


def test_a_run_without_an_end_is_running_or_was_killed(base: Path) -> None:
    """As long as somebody holds its lock it runs; then it was killed."""
    run = base / "wave_2"
    with run_lock(run):
        assert is_running(run)
        assert summary(run)["status"] == "RUNNING"
    assert summary(run) == {
        "run": "wave_2", "model": "wave", "status": "KILLED", "step": 3, "steps": 9, "best_val_loss": 1.5,
        "started": "2026-01-31T01:00:00.000Z",
    }  # fmt: skip


def test_the_second_writer_of_a_run_refuses(tmp_path: Path) -> None:
    """Two processes on one run directory: the second one says who has it."""
    config = build({"monitoring.stores": "none", "monitoring.code_snapshot": "false"})
    first = ExperimentTracker(config)
    first.start_experiment()
    with pytest.raises(UserError, match=r"is being written by process \d+ on "):
        ExperimentTracker(config, run_dir=first.run_dir)
    first.end_experiment("completed", step=0)
    first.close()
    ExperimentTracker(config, run_dir=first.run_dir).close()
    assert first.run_dir.is_relative_to(tmp_path)
