"""The companion as a real process, beside trainers that live, end and are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from spectral_mlflow.stores import failures, sync
from spectral_mlflow.stores.__main__ import main
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.mlflow import MlflowStore

Start = Callable[..., "subprocess.Popen[str]"]
DEADLINE = 240.0


def _wait_for(true: Callable[[], bool]) -> None:
    """Poll a condition that another process brings about."""
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        pause.wait(0.02)


def _sent(run: Any) -> int:
    state = run.directory / "stores" / "mlflow.json"
    return int(run.state()["metrics_offset"]) if state.exists() else 0


def _status(store: str, run: Any) -> str:
    return str(MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).info.status)


def test_follows_to_the_end(
    new_run: Callable[..., Any], store: str, companion: Start, trainer: Callable[[Path], Any]
) -> None:
    """Lines appear in MLflow while the trainer lives; the end event closes the run before the trainer is gone."""
    run = new_run()
    process = trainer(run.directory)
    follower = companion(run.directory, "--follow")
    run.steps(1, 30)
    _wait_for(lambda: _sent(run) > 0)
    assert _status(store, run) == "RUNNING"
    run.steps(31, 60)
    run.end()
    assert follower.wait(DEADLINE) == 0
    assert process.poll() is None
    assert run.state()["closed"]
    assert run.state()["error"] is None
    assert _status(store, run) == "FINISHED"
    assert run.is_exactly_in(store)


def test_killed_trainer_is_seen_in_seconds(
    new_run: Callable[..., Any], store: str, companion: Start, trainer: Callable[[Path], Any]
) -> None:
    """After kill -9 of the trainer the run is KILLED in MLflow, with every line it had written."""
    run = new_run()
    process = trainer(run.directory)
    follower = companion(run.directory, "--follow")
    run.steps(1, 40)
    _wait_for(lambda: _sent(run) > 0)
    process.kill()
    killed = time.monotonic()
    assert follower.wait(DEADLINE) == 0
    assert time.monotonic() - killed < 30
    assert _status(store, run) == "KILLED"
    assert run.is_exactly_in(store)


def test_killed_companion_leaves_nothing_twice(
    new_run: Callable[..., Any], store: str, companion: Start, trainer: Callable[[Path], Any]
) -> None:
    """After kill -9 of the companion in the middle of its work, the next one makes it exact."""
    run = new_run()
    process = trainer(run.directory)
    run.steps(1, 3000)
    follower = companion(run.directory, "--follow")
    _wait_for(lambda: _sent(run) > 0)
    follower.kill()
    follower.wait()
    assert _sent(run) < run.directory.joinpath("logs", "metrics.jsonl").stat().st_size
    run.end()
    process.communicate("")
    assert companion(run.directory).wait(DEADLINE) == 0
    assert _status(store, run) == "FINISHED"
    assert run.is_exactly_in(store)


def test_terminated_companion_ends_whole(
    new_run: Callable[..., Any], store: str, companion: Start, trainer: Callable[[Path], Any]
) -> None:
    """SIGTERM ends the companion without an error, and the run goes on for the next one."""
    run = new_run()
    trainer(run.directory)
    run.steps(1, 20)
    follower = companion(run.directory, "--follow")
    _wait_for(lambda: _sent(run) > 0)
    follower.send_signal(signal.SIGTERM)
    assert follower.wait(DEADLINE) == 0
    assert not run.state()["closed"]
    assert _status(store, run) == "RUNNING"
    assert run.is_exactly_in(store)


def test_second_companion_refuses(new_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """One companion per run: a second pass is told so in one line, and a sync leaves it to the first."""
    run = new_run()
    with companion_lock(run.directory):
        assert main([str(run.directory)]) == 2
        assert "another companion follows" in capsys.readouterr().err
        (result,) = sync.sync([run.directory])
    assert result.complete
    assert not (run.directory / "stores" / "mlflow.json").exists()


def test_mlflow_run_that_sets_failed_is_corrected(
    new_run: Callable[..., Any], store: str, companion: Start, trainer: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A killed run that `mlflow run` calls FAILED right after is KILLED again a moment later."""
    client = MlflowClient(tracking_uri=store)
    made = client.create_run(client.create_experiment("project", artifact_location=str(tmp_path / "project")))
    run = new_run(mlflow_run_id=made.info.run_id)
    process = trainer(run.directory)
    follower = companion(run.directory, "--follow")
    run.steps(1, 5)
    run.end("KILLED", "SIGTERM")
    _wait_for(lambda: _sent(run) > 0 and run.state()["closed"])
    client.set_terminated(made.info.run_id, "FAILED")
    process.communicate("")
    assert follower.wait(DEADLINE) == 0
    assert _status(store, run) == "KILLED"


def test_resumed_while_the_last_companion_still_watches(
    new_run: Callable[..., Any], store: str, fast: Pace, trainer: Callable[[Path], Any], tmp_path: Path
) -> None:
    """A companion that watches an ended run notices that it goes on, and follows it to its second end."""
    client = MlflowClient(tracking_uri=store)
    run = new_run(
        mlflow_run_id=client.create_run(
            client.create_experiment("project", artifact_location=str(tmp_path / "project"))
        ).info.run_id
    )
    process = trainer(run.directory)
    run.steps(1, 5)
    run.end()
    follower = Companion(RunView(run.directory), MlflowStore(store), pace=fast)
    thread = threading.Thread(target=follower.follow)
    thread.start()
    _wait_for(lambda: _sent(run) > 0 and run.state()["closed"])
    run.event("resume", step=5, pid=process.pid)
    _wait_for(lambda: not run.state()["closed"])
    run.steps(6, 9)
    run.end()
    process.communicate("")
    thread.join(DEADLINE)
    assert _status(store, run) == "FINISHED"
    assert run.is_exactly_in(store)


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_unreachable_store_costs_a_bounded_time_and_sync_completes(
    new_run: Callable[..., Any], store: str, companion: Start, trainer: Callable[[Path], Any]
) -> None:
    """With no server there, the companion of a dead trainer gives up and says why; sync sends everything later."""
    run = new_run(tracking_uri=f"http://127.0.0.1:{_closed_port()}")
    process = trainer(run.directory)
    follower = companion(run.directory, "--follow")
    run.steps(1, 30)
    _wait_for(lambda: (run.directory / "stores" / "mlflow.json").exists() and run.state()["error"] is not None)
    assert follower.poll() is None
    run.end()
    process.communicate("")
    assert follower.wait(DEADLINE) == 1
    assert follower.stderr is not None
    assert "spectral sync" in follower.stderr.read()
    assert run.state()["error"] == f"{run.start['tracking_uri']} does not answer ([Errno 111] Connection refused)"
    assert sync.is_behind(run.directory)
    (result,) = sync.sync([run.directory], store)
    assert result.complete
    assert run.state()["error"] is None
    assert _status(store, run) == "FINISHED"
    assert run.is_exactly_in(store)


def test_locked_database_is_waited_for(new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path) -> None:
    """A database that refuses for a while gets everything once it takes it."""
    run = new_run()
    run.steps(1, 20)
    database = tmp_path / "store" / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(b"not a database at all" * 100)
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert state.error is not None
    assert not state.closed
    database.write_bytes(whole)
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert (state.error, state.closed) == (None, True)
    assert run.is_exactly_in(store)


def test_artifacts_that_cannot_be_sent_hold_up_nothing_else(
    new_run: Callable[..., Any], store: str, fast: Pace, tmp_path: Path
) -> None:
    """Metrics and status arrive when files are refused; the files follow with the next sync."""
    run = new_run()
    run.event("artifact", path="config.json", kind="config", step=None)
    run.steps(1, 10)
    run.end()
    obstacle = tmp_path / "store" / "mlruns"
    obstacle.write_text("a file where the folder of artifacts should be", encoding="utf-8")
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert "artifact" in str(state.error)
    assert _status(store, run) == "FINISHED"
    assert run.is_exactly_in(store)
    obstacle.unlink()
    (result,) = sync.sync([run.directory])
    assert result.complete
    names = {entry.path for entry in MlflowClient(tracking_uri=store).list_artifacts(state.run_id)}
    assert names == {"config.json", "logs"}


def test_first_use_of_a_store_by_several_at_once(new_run: Callable[..., Any], companion: Start, tmp_path: Path) -> None:
    """Companions that start together on a database that does not exist yet all arrive in one experiment."""
    fresh = f"sqlite:///{tmp_path}/new folder/mlflow.db"
    runs = [new_run(f"run_{n}", tracking_uri=fresh) for n in range(3)]
    for run in runs:
        run.steps(1, 3)
    companions = [companion(run.directory) for run in runs]
    assert [process.wait(DEADLINE) for process in companions] == [0, 0, 0]
    assert len({run.state()["experiment_id"] for run in runs}) == 1
    assert all(run.is_exactly_in(fresh) for run in runs)


def test_bad_scheme_ends_with_code_2(new_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A URI that no store answers to is the user's mistake: one line, exit code 2."""
    run = new_run()
    assert main([str(run.directory), "--tracking-uri", "ftp://host"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main([str(run.directory / "none")]) == 2


def test_run_on_another_machine_is_alive_while_it_writes(new_run: Callable[..., Any]) -> None:
    """Where locks cannot be seen across machines, a run that wrote lately is not called dead."""
    run = new_run(host="another-machine")
    view = RunView(run.directory)
    assert view.is_alive()
    for path in (view.metrics_path, view.events_path):
        path.touch()
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert not view.is_alive()


def test_is_behind(new_run: Callable[..., Any], store: str, tmp_path: Path) -> None:
    """A run is behind until all of it is in the store; one without a store, or of another store, never or always is."""
    run = new_run()
    run.steps(1, 5)
    run.end()
    assert sync.is_behind(run.directory)
    results = sync.sync([run.directory, run.directory])
    assert [result.complete for result in results] == [True, True]
    assert str(results[1]).endswith("is in the store already")
    assert not sync.is_behind(run.directory)
    assert not sync.is_behind(run.directory, store)
    assert sync.is_behind(run.directory, f"sqlite:///{tmp_path}/other.db")
    run.steps(6, 7)
    assert sync.is_behind(run.directory)
    unwanted = new_run("unwanted", stores=[])
    assert not sync.is_behind(unwanted.directory)
    assert not sync.is_behind(tmp_path)


def test_one_bad_run_does_not_stop_the_others(new_run: Callable[..., Any], store: str) -> None:
    """Each run of a sync has its own result."""
    bad = new_run("bad", tracking_uri="postgresql://me:***@host/db")
    good = new_run("good")
    results = sync.sync([bad.directory, good.directory])
    assert [result.complete for result in results] == [False, True]
    assert "password" in results[0].message
    assert _status(store, good) == "KILLED"


def test_failure_under_mlflow_run_is_tagged(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's mistake is on the page of the run that `mlflow run` made, and a wrapper is marked as one."""
    client = MlflowClient(tracking_uri=store)
    run_id = client.create_run("0").info.run_id
    failures.tag_failure("nobody is there")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    failures.tag_failure("training.lr: given 'x'; allowed: number\nmore")
    tags = client.get_run(run_id).data.tags
    assert tags["spectral.error"] == "training.lr: given 'x'; allowed: number"
    assert tags["spectral.kind"] == "refused"
    failures.mark_wrapper("wrapper", **{"spectral.resumes": "wave_1"})
    tags = client.get_run(run_id).data.tags
    assert (tags["spectral.kind"], tags["spectral.resumes"]) == ("wrapper", "wave_1")


def test_failure_that_cannot_be_tagged_is_logged(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store without that run costs a line in the log, not the command."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    failures.tag_failure("a mistake")
    assert "left without its tags" in caplog.text
