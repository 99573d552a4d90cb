"""What MLflow has of a run after the companion has seen it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from spectral_mlflow import journal
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.description import describe
from spectral_mlflow.stores.mlflow import MlflowStore
from spectral_mlflow.stores.state import StoreState

Rows = list[tuple[int, float, int]]


def _feed(run: Any, store: str, fast: Pace) -> StoreState:
    return Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()


def _stored(store: str, run: Any) -> Run:
    return MlflowClient(tracking_uri=store).get_run(run.state()["run_id"])


def _history(store: str, run_id: str, key: str) -> Rows:
    rows = MlflowClient(tracking_uri=store).get_metric_history(run_id, key)
    return sorted((row.step, row.value, row.timestamp) for row in rows)


def _journaled(run: Any, key: str) -> Rows:
    return sorted(
        (record["step"], record[key], journal.milliseconds(record["timestamp"]))
        for record in run.records()
        if key in record
    )


def _same_as_journal(store: str, run: Any) -> bool:
    keys = ("loss", "learning_rate", "grad/norm", "val_loss")
    run_id = run.state()["run_id"]
    return all(_history(store, run_id, key) == _journaled(run, key) != [] for key in keys)


def _artifacts(store: str, run: Any, folder: str | None = None) -> set[str]:
    listed = MlflowClient(tracking_uri=store).list_artifacts(run.state()["run_id"], folder)
    return {entry.path for entry in listed}


def test_every_row_is_its_journal_line(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Key, step, value and time of every metric are exactly those of the journal."""
    run = new_run()
    run.steps(1, 400)
    run.end()
    state = _feed(run, store, fast)
    assert state.closed
    assert _same_as_journal(store, run)
    assert _stored(store, run).data.tags["spectral.journal_offset"] == str(state.metrics_offset)
    assert state.metrics_offset == (run.directory / "logs" / "metrics.jsonl").stat().st_size


def test_replay_without_state_adds_nothing(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A companion that has lost its state file finds the run again and sends nothing twice."""
    run = new_run()
    run.steps(1, 120)
    first = _feed(run, store, fast)
    (run.directory / "stores" / "mlflow.json").unlink()
    run.steps(121, 140)
    run.end()
    second = _feed(run, store, fast)
    assert second.run_id == first.run_id
    assert _same_as_journal(store, run)


def test_replay_from_the_first_line_adds_nothing(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Rows that are in the store already are not stored again, NaN included."""
    run = new_run()
    run.steps(1, 80)
    run.lines({"step": 81, "loss": math.nan})
    state = _feed(run, store, fast)
    MlflowClient(tracking_uri=store).set_tag(state.run_id, "spectral.journal_offset", "0")
    run.steps(82, 90)
    (run.directory / "stores" / "mlflow.json").unlink()
    _feed(run, store, fast)
    assert len(MlflowClient(tracking_uri=store).get_metric_history(state.run_id, "loss")) == 90


def test_store_that_lost_the_run_gets_it_again(
    new_run: Callable[..., Any], store: str, template: Path, fast: Pace
) -> None:
    """With the database back at an empty one, the whole run is sent again whatever the state file says."""
    run = new_run()
    run.steps(1, 60)
    _feed(run, store, fast)
    other = run.directory.parent / "other.db"
    other.write_bytes(template.read_bytes())
    run.end()
    _feed(run, f"sqlite:///{other}", fast)
    assert _same_as_journal(f"sqlite:///{other}", run)


def test_nan_is_stored_and_infinity_is_named(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """NaN arrives as NaN; an infinite value is a tag that names its step, never a false number."""
    run = new_run()
    run.lines(
        {"step": 1, "loss": math.nan, "grad/norm": 1.0},
        {"step": 2, "loss": 2.0, "grad/norm": math.inf},
        {"step": 3, "loss": -math.inf, "grad/norm": 3.0},
    )
    state = _feed(run, store, fast)
    loss = MlflowClient(tracking_uri=store).get_metric_history(state.run_id, "loss")
    assert [row.step for row in loss] == [1, 2]
    assert math.isnan(loss[0].value)
    assert [row[:2] for row in _history(store, state.run_id, "grad/norm")] == [(1, 1.0), (3, 3.0)]
    tags = _stored(store, run).data.tags
    times = [record["timestamp"] for record in run.records()]
    assert tags["spectral.nonfinite.grad/norm"] == f"inf at step 2 ({times[1]})"
    assert tags["spectral.nonfinite.loss"] == f"-inf at step 3 ({times[2]})"


def test_params_are_settings_and_facts(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Each setting is a param under its dotted name, beside the facts of model and dataset."""
    run = new_run()
    _feed(run, store, fast)
    params = _stored(store, run).data.params
    assert params["model.d_model"] == "32"
    assert params["model.pure_wave"] == "false"
    assert params["training.lr"] == "0.001"
    assert params["dataset.num_tokens"] == "1000"
    assert params["model.num_parameters"] == "12345"


def test_many_and_long_params(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Hundreds of params are sent in several calls, and one too long for MLflow becomes a file."""
    run = new_run()
    settings = {f"option {n}": n for n in range(230)} | {"text": "x" * 7000, "odd?name": "", "nothing": None}
    run.file("config.json", json.dumps({"config": settings}))
    _feed(run, store, fast)
    params = _stored(store, run).data.params
    assert len(params) == 233
    assert params["odd_name"] == ""
    assert params["text"].endswith("params/text.txt")
    assert "params/text.txt" in _artifacts(store, run, "params")


def test_config_that_comes_late_is_sent(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Params appear once config.json does, however late."""
    run = new_run()
    text = (run.directory / "config.json").read_text(encoding="utf-8")
    (run.directory / "config.json").unlink()
    _feed(run, store, fast)
    assert _stored(store, run).data.params == {}
    run.file("config.json", text)
    run.event("artifact", path="config.json", kind="config", step=None)
    _feed(run, store, fast)
    assert _stored(store, run).data.params["model.type"] == "wave"


def test_tags_and_name(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The run carries its name, where it is, its seed, its code and its data."""
    run = new_run(tags={"spectral.study": "widths", "who?": "me"})
    _feed(run, store, fast)
    found = _stored(store, run)
    assert found.info.run_name == run.name
    wanted = {
        "spectral.kind": "train",
        "spectral.key": run.name,
        "spectral.run_dir": str(run.directory),
        "spectral.seed": "7",
        "spectral.config_hash": "c0ffee",
        "spectral.dataset_sha256": "0123456789abcdef" * 4,
        "spectral.study": "widths",
        "who_": "me",
        "mlflow.source.git.commit": "1a2b3c4d" * 5,
        "mlflow.source.git.branch": "main",
        "mlflow.source.type": "LOCAL",
    }
    assert wanted.items() <= found.data.tags.items()
    first = journal.records(run.directory / "logs" / "events.jsonl")[0]
    assert found.info.start_time == journal.milliseconds(first["timestamp"])


def test_dataset_column(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The dataset is an input of the run, with a digest of its hash and its source."""
    run = new_run()
    _feed(run, store, fast)
    (given,) = _stored(store, run).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("python-docs", "01234567")
    assert json.loads(given.dataset.source) == {"url": "https://example.org/docs.txt"}
    assert json.loads(given.dataset.profile) == {"num_tokens": 1000}
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "train")]


def test_description_tells_how_to_repeat_and_what_came_out(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The description has the command that repeats the run and, at the end, its result and a sample."""
    run = new_run()
    _feed(run, store, fast)
    note = _stored(store, run).data.tags["mlflow.note.content"]
    assert "python -m spectral_mlflow train \\" in note
    assert f"--config {run.directory / 'config.json'}" in note
    assert "12,345 parameters" in note
    assert "result" not in note
    run.file("results.json", json.dumps({"final_metrics": {"val_loss": 1.25, "best_step": 300}}))
    run.file("samples/sample_step_300.txt", "To be")
    run.event("sample", step=300, path="samples/sample_step_300.txt", text="To be\nor not")
    run.end()
    _feed(run, store, fast)
    note = _stored(store, run).data.tags["mlflow.note.content"]
    assert "- result: validation loss 1.2500, at step 300" in note
    assert "    To be\n    or not" in note
    assert "samples/sample_step_300.txt" in _artifacts(store, run, "samples")


def test_description_names_what_is_there(new_run: Callable[..., Any]) -> None:
    """A dry run is repeated as any training; a loop of its own names its archive of code only with one."""
    said = {}
    for kind in ("dry-run", "own-loop"):
        run = new_run(kind, tags={"spectral.kind": kind})
        said[kind] = describe(RunView(run.directory), RunView(run.directory).start() or {}, "id")
    assert "python -m spectral_mlflow train" in said["dry-run"]
    assert "A loop of its own" in said["own-loop"]
    assert "code.tar.gz" not in said["own-loop"]
    run.file("code_snapshot/code.tar.gz")
    assert "`code_snapshot/code.tar.gz`" in describe(RunView(run.directory), RunView(run.directory).start() or {}, "id")


def test_description_of_a_person_is_left_alone(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """What somebody wrote in the UI is not overwritten at the end of the run."""
    run = new_run()
    state = _feed(run, store, fast)
    MlflowClient(tracking_uri=store).set_tag(state.run_id, "mlflow.note.content", "My notes")
    run.end()
    _feed(run, store, fast)
    assert _stored(store, run).data.tags["mlflow.note.content"] == "My notes"


def test_files_of_the_run(new_run: Callable[..., Any], store: str, fast: Pace, trainer: Callable[[Path], Any]) -> None:
    """Files that events name and the best and the last checkpoint arrive at once, logs and results at the end."""
    run = new_run()
    trainer(run.directory)
    run.file("visualizations/loss_curve_step_10.png")
    run.event("artifact", path="visualizations/loss_curve_step_10.png", kind="plot", step=10)
    run.event("artifact", path="visualizations/gone.png", kind="plot", step=10)
    run.file("../secret.txt")
    run.event("artifact", path="../secret.txt", kind="file", step=None)
    for step in (10, 20, 30):
        run.file(f"checkpoints/checkpoint_step_{step}.pt")
        run.event("checkpoint", step=step, path=f"checkpoints/checkpoint_step_{step}.pt", best=step == 10)
    run.event("checkpoint", step=40, path="checkpoints/checkpoint_step_40.pt", best=True)
    run.file("code_snapshot/changes.diff")
    run.file("results.json", "{}")
    _feed(run, store, fast)
    assert _artifacts(store, run) == {"visualizations", "checkpoints", "checkpoints.json"}
    run.end()
    run.steps(1, 3)
    _feed(run, store, fast)
    assert _artifacts(store, run) == {
        "visualizations",
        "checkpoints",
        "checkpoints.json",
        "code_snapshot",
        "config.json",
        "logs",
        "results.json",
    }
    assert _artifacts(store, run, "visualizations") == {"visualizations/loss_curve_step_10.png"}
    assert _artifacts(store, run, "logs") == {"logs/events.jsonl", "logs/metrics.jsonl"}
    kept = {"checkpoints/checkpoint_step_10.pt", "checkpoints/checkpoint_step_30.pt"}
    assert _artifacts(store, run, "checkpoints") == kept


def test_artifacts_lie_beside_the_database(
    new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the companion runs, files go to mlruns in the folder of the sqlite store."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = new_run()
    run.event("artifact", path="config.json", kind="config", step=None)
    state = _feed(run, store, fast)
    assert list((tmp_path / "store" / "mlruns" / "spectral").glob(f"{state.run_id}/artifacts/config.json"))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_status_and_reason(new_run: Callable[..., Any], store: str, fast: Pace, status: str) -> None:
    """The run ends as its end event says, at that time and with its reason."""
    run = new_run()
    run.end(status, "out of memory\nsecond line" + "x" * 600)
    _feed(run, store, fast)
    found = _stored(store, run)
    assert found.info.status == status
    end = journal.records(run.directory / "logs" / "events.jsonl")[-1]
    assert found.info.end_time == journal.milliseconds(end["timestamp"])
    assert found.data.tags["spectral.reason"] == "out of memory"
    assert found.data.tags.get("spectral.error") == ("out of memory" if status == "FAILED" else None)


def test_error_event_gives_the_reason(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A failure whose end event has no reason is explained by its error event."""
    run = new_run()
    run.event("error", message="ValueError: nothing works", traceback="...")
    run.end("FAILED")
    _feed(run, store, fast)
    assert _stored(store, run).data.tags["spectral.error"] == "ValueError: nothing works"


def test_dead_without_end_event_is_killed(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A run whose trainer is gone was killed, at the time of its last line."""
    run = new_run()
    run.steps(1, 5)
    _feed(run, store, fast)
    found = _stored(store, run)
    assert found.info.status == "KILLED"
    assert found.info.end_time == journal.milliseconds(run.records()[-1]["timestamp"])
    assert "no end event" in found.data.tags["spectral.reason"]


def test_resumed_run_is_open_again(
    new_run: Callable[..., Any], store: str, fast: Pace, trainer: Callable[[Path], Any]
) -> None:
    """Resuming takes back the end of a run, in MLflow and in the state, and goes on with the same one."""
    run = new_run()
    run.steps(1, 20)
    run.end("FAILED", "disk full")
    first = _feed(run, store, fast)
    process = trainer(run.directory)
    run.event("resume", step=20, pid=process.pid)
    run.steps(21, 30)
    second = _feed(run, store, fast)
    assert (second.run_id, second.closed) == (first.run_id, False)
    found = _stored(store, run)
    assert found.info.status == "RUNNING"
    assert "spectral.error" not in found.data.tags
    run.end()
    _feed(run, store, fast)
    assert _stored(store, run).info.status == "FINISHED"
    assert _same_as_journal(store, run)


def test_alert_is_a_tag(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """An alert can be seen and searched for in MLflow."""
    run = new_run()
    run.event("alert", step=5, severity="warning", kind="spike", message="loss doubled", advice="lower the rate")
    _feed(run, store, fast)
    assert _stored(store, run).data.tags["spectral.alert.spike"] == "step 5 (warning): loss doubled; lower the rate"


def test_two_runs_of_one_name_stay_two(new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path) -> None:
    """Two directories with the same experiment id, from two machines, are two runs."""
    one = new_run()
    one.steps(1, 3)
    _feed(one, store, fast)
    one.directory.rename(tmp_path / "moved")
    other = new_run(host="elsewhere")
    other.steps(1, 5)
    one.directory = tmp_path / "moved"
    assert _feed(other, store, fast).run_id != one.state()["run_id"]


def _adopt(store: str, name: str | None = None) -> Run:
    """A run as `mlflow run` makes one."""
    client = MlflowClient(tracking_uri=store)
    made = client.create_run(
        client.create_experiment(
            "project", artifact_location=str(Path(store.removeprefix("sqlite:///")).parent / "project")
        ),
        tags={
            "mlflow.source.type": "PROJECT",
            "mlflow.source.name": "file:///project",
            "mlflow.source.git.commit": "aa",
        },
        run_name=name,
    )
    client.log_param(made.info.run_id, "steps", "300")
    client.log_param(made.info.run_id, "model.type", "as given")
    return made


def test_adopted_run_keeps_what_mlflow_run_wrote(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The run of `mlflow run` is used with its experiment, source, commit and params; its name becomes ours."""
    made = _adopt(store)
    run = new_run(mlflow_run_id=made.info.run_id)
    run.steps(1, 12)
    run.end()
    state = _feed(run, store, fast)
    assert (state.run_id, state.experiment_id) == (made.info.run_id, made.info.experiment_id)
    found = _stored(store, run)
    assert found.data.params["model.type"] == "as given"
    assert found.data.params["model.d_model"] == "32"
    assert found.data.tags["mlflow.source.type"] == "PROJECT"
    assert found.data.tags["mlflow.source.git.commit"] == "aa"
    assert found.data.tags["spectral.key"] == found.info.run_name == run.name
    assert MlflowClient(tracking_uri=store).get_experiment_by_name("spectral") is None
    assert _same_as_journal(store, run)


def test_adopted_run_keeps_the_name_of_its_user(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A name that was given with --run-name stays."""
    run = new_run(mlflow_run_id=_adopt(store, "My best run").info.run_id)
    _feed(run, store, fast)
    assert _stored(store, run).info.run_name == "My best run"


@pytest.mark.parametrize(("ours", "theirs"), [("KILLED", "FAILED"), ("FINISHED", "FAILED"), ("FAILED", "FINISHED")])
def test_status_of_an_adopted_run_is_corrected(
    new_run: Callable[..., Any], store: str, fast: Pace, ours: str, theirs: str
) -> None:
    """What `mlflow run` sets after the end of its child does not stand against what the run said."""
    made = _adopt(store)
    run = new_run(mlflow_run_id=made.info.run_id)
    run.end(ours)
    mirror = MlflowStore(store)
    Companion(RunView(run.directory), mirror, pace=fast).catch_up()
    client = MlflowClient(tracking_uri=store)
    client.set_terminated(made.info.run_id, theirs)
    assert mirror.confirm()
    assert client.get_run(made.info.run_id).info.status == ours


def test_deleted_experiment_is_named(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A run whose experiment was deleted in the UI is not sent, and the state says what to do."""
    client = MlflowClient(tracking_uri=store)
    client.delete_experiment(client.create_experiment("spectral", artifact_location=store.removesuffix(".db")))
    run = new_run()
    state = _feed(run, store, fast)
    assert not state.closed
    assert "restore it" in str(state.error)


def test_overview_of_a_run_that_was_killed(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """The companion draws up the overview that the trainer could not, and sends it."""
    run = new_run()
    run.steps(1, 5)
    _feed(run, store, fast)
    assert _stored(store, run).info.status == "KILLED"
    assert "overview.html" in _artifacts(store, run)


def test_overview_that_cannot_be_written(
    new_run: Callable[..., Any], store: str, fast: Pace, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a line in the log; the run is closed all the same."""
    run = new_run()
    (run.directory / "overview.html").mkdir()
    assert _feed(run, store, fast).closed
    assert "its overview is left as it was" in caplog.text
