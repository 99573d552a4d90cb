"""What was lost of a run comes back: lines of the journal, the run directory, the run in MLflow."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores import rebuild, sync
from spectral_mlflow.stores.base import RunView, StoreError


def _rows(store: str, run_id: str) -> dict[str, list[tuple[int, int, str]]]:
    client = MlflowClient(tracking_uri=store)
    return {
        key: sorted((row.timestamp, row.step, repr(row.value)) for row in client.get_metric_history(run_id, key))
        for key in client.get_run(run_id).data.metrics
    }


def _sync(run_dir: Path) -> None:
    (result,) = sync.sync([run_dir], patience=0.5)
    assert result.complete, result


@pytest.fixture
def sent(new_run: Callable[..., Any]) -> Any:
    """A killed run with values of every kind, all of it in its store."""
    run = new_run()
    run.steps(1, 40)
    run.lines(
        {"step": 41, "loss": math.nan, "learning_rate": 1e-3, "count": 3},
        {"step": 42, "loss": math.inf, "learning_rate": 0.1 + 0.2, "count": 4},
        {"step": 43, "loss": -math.inf},
        {"step": 44, "loss": math.inf, "count": 5},
    )
    _sync(run.directory)
    return run


def _cut(path: Path, lines: int, *, torn: bool = False) -> None:
    """Take the last lines from a journal, as a power cut does."""
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:-lines]) + (kept[-lines][:7] if torn else b""))


@pytest.mark.parametrize(("lines", "torn"), [(1, False), (3, True), (20, False), (44, False)])
def test_lost_lines_come_back_as_they_were(sent: Any, lines: int, torn: bool) -> None:
    """Lines that a power cut took are the same to the last bit again, NaN and infinities included."""
    before, path = sent.records(), RunView(sent.directory).metrics_path
    _cut(path, lines, torn=torn)
    assert rebuild.pull_back(sent.directory) == lines
    assert list(map(repr, map(_sorted, sent.records()))) == list(map(repr, map(_sorted, before)))
    assert rebuild.pull_back(sent.directory) == 0


def _sorted(record: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted((name, float(value) if isinstance(value, int) else value) for name, value in record.items())


def test_pulled_lines_are_stored_once(sent: Any, store: str) -> None:
    """After lines were pulled back and others came, each is in MLflow once."""
    run_id = sent.state()["run_id"]
    _cut(RunView(sent.directory).metrics_path, 5)
    rebuild.pull_back(sent.directory)
    before = _rows(store, run_id)
    sent.lines({"step": 45, "loss": 1.0})
    _sync(sent.directory)
    after = _rows(store, run_id)
    assert len(after["loss"]) == len(before["loss"]) + 1
    assert {name: rows for name, rows in after.items() if name != "loss"} == {
        name: rows for name, rows in before.items() if name != "loss"
    }


def test_nothing_is_asked_of_a_store_that_has_no_more(sent: Any, store: str) -> None:
    """A journal that has all that was sent needs no store, so a resume does not wait for one."""
    Path(store.removeprefix("sqlite:///")).write_bytes(b"no database" * 100)
    assert rebuild.pull_back(sent.directory) == 0


def test_store_that_does_not_answer_changes_nothing(sent: Any) -> None:
    """Lines that cannot be pulled back now can be later."""
    _cut(RunView(sent.directory).metrics_path, 5)
    before = sent.state()
    silent = sent.directory / "silent.db"
    silent.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        rebuild.pull_back(sent.directory, f"sqlite:///{silent}")
    assert sent.state() == before
    assert rebuild.pull_back(sent.directory) == 5


def test_directory_from_artifacts(trained: Path, store: str) -> None:
    """A lost directory comes back with its files, and syncing it adds nothing."""
    (result,) = sync.sync([trained], store)
    assert result.complete
    run_id = json.loads((trained / "stores" / "mlflow.json").read_text())["run_id"]
    before = _rows(store, run_id)
    lost = shutil.move(trained, trained.parent.parent / "lost")
    run_dir, notes = rebuild.from_store(run_id, trained.parent, store)
    assert run_dir == trained
    assert notes == []
    for name in ("config.json", "results.json", "tokenizer.json", "logs/metrics.jsonl"):
        assert (run_dir / name).read_bytes() == (Path(lost) / name).read_bytes()
    _sync(run_dir)
    assert _rows(store, run_id) == before
    assert MlflowClient(tracking_uri=store).get_run(run_id).info.status == "FINISHED"


def test_rebuilt_run_is_continued(trained: Path, store: str) -> None:
    """A rebuilt run goes on from the checkpoint that was among its artifacts, in the same MLflow run."""
    from spectral_mlflow.training import runner

    sync.sync([trained], store)
    run_id = json.loads((trained / "stores" / "mlflow.json").read_text())["run_id"]
    shutil.rmtree(trained)
    rebuild.from_store(trained.name, trained.parent, store)
    finished = runner.resume(trained, {"steps": "24"})
    assert finished.outcome.status == "completed"
    _sync(trained)
    steps = [row.step for row in MlflowClient(tracking_uri=store).get_metric_history(run_id, "loss")]
    assert steps == sorted(set(steps)) == list(range(1, 25))


def test_directory_from_metric_histories(sent: Any, store: str) -> None:
    """Without the logs among its artifacts, a journal is made from the histories and the tags."""
    run_id, before = sent.state()["run_id"], sent.records()
    artifacts = Path(MlflowClient(tracking_uri=store).get_run(run_id).info.artifact_uri.removeprefix("file://"))
    shutil.rmtree(artifacts / "logs")
    rows = _rows(store, run_id)
    shutil.rmtree(sent.directory)
    run_dir, _ = rebuild.from_store(sent.name, sent.directory.parent, store)
    assert list(map(repr, map(_sorted, sent.records()))) == list(map(repr, map(_sorted, before)))
    assert [event["event"] for event in RunView(run_dir).events("start", "end")] == ["start", "end"]
    _sync(run_dir)
    assert _rows(store, run_id) == rows
    assert MlflowClient(tracking_uri=store).get_run(run_id).info.status == "KILLED"
    assert len(MlflowClient(tracking_uri=store).search_runs(["1"])) == 1


def test_damaged_checkpoint_is_left_out(trained: Path, store: str) -> None:
    """A checkpoint in which the store has changed a bit is named and not kept."""
    sync.sync([trained], store)
    run_id = json.loads((trained / "stores" / "mlflow.json").read_text())["run_id"]
    artifacts = Path(MlflowClient(tracking_uri=store).get_run(run_id).info.artifact_uri.removeprefix("file://"))
    victim = next(iter(sorted(artifacts.glob("checkpoints/*.pt"))))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    shutil.rmtree(trained)
    run_dir, notes = rebuild.from_store(run_id, trained.parent, store)
    assert [victim.name in note for note in notes] == [True]
    assert not (run_dir / "checkpoints" / victim.name).exists()


def test_mlflow_run_from_the_directory(sent: Any, store: str, template: Path, tmp_path: Path) -> None:
    """A run that is sent again to a store that has it stays as it is, and one that has lost it gets it."""
    run_id = sent.state()["run_id"]
    before = _rows(store, run_id)
    assert rebuild.to_store(sent.directory).complete
    assert _rows(store, run_id) == before
    other = tmp_path / "empty.db"
    shutil.copy(template, other)
    assert rebuild.to_store(sent.directory, f"sqlite:///{other}").complete
    assert _rows(f"sqlite:///{other}", sent.state()["run_id"]) == before


def test_what_cannot_be_rebuilt_is_told(sent: Any, store: str, tmp_path: Path) -> None:
    """No run of that name, a run of another program and a directory in the way are one line each."""
    client = MlflowClient(tracking_uri=store)
    with pytest.raises(UserError, match="no run"):
        rebuild.from_store("nobody", tmp_path / "experiments", store)
    foreign = client.create_run("0").info.run_id
    with pytest.raises(UserError, match="none of this package"):
        rebuild.from_store(foreign, tmp_path / "experiments", store)
    client.set_tag(foreign, "spectral.key", "../outside")
    with pytest.raises(UserError, match="none of this package"):
        rebuild.from_store(foreign, tmp_path / "experiments", store)
    with pytest.raises(UserError, match="move it away"):
        rebuild.from_store(sent.name, tmp_path / "experiments", store)
    assert sorted(path.name for path in (tmp_path / "experiments").iterdir()) == [sent.name]


def test_timestamps_keep_every_millisecond() -> None:
    """Milliseconds to text and back is the same number."""
    from spectral_mlflow.stores.histories import written

    for milliseconds in range(1_770_000_000_000, 1_770_000_002_000, 7):
        assert journal.milliseconds(written(milliseconds)) == milliseconds
