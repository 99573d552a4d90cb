"""A companion beside what happens to a run: resumes, power cuts, full disks, other companions."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Record
from spectral_mlflow.stores import rebuild, sync
from spectral_mlflow.stores.__main__ import _turn, _work, main
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.client import open_client, store_errors
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.mlflow import MlflowStore
from spectral_mlflow.stores.reader import Batch
from spectral_mlflow.stores.run_page import RunPage
from spectral_mlflow.stores.sweep import Sweep


def _sync(run: Any, uri: str | None = None) -> sync.SyncResult:
    (result,) = sync.sync([run.directory], uri, patience=0.2)
    return result


def _status(store: str, run: Any) -> str:
    return str(MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).info.status)


def _cut(run: Any, *, zeros: bool = False) -> None:
    """Take the second half of the metrics, as a power cut does."""
    path = RunView(run.directory).metrics_path
    content = path.read_bytes()
    kept = content[: content.index(b"\n", len(content) // 2) + 1]
    path.write_bytes(kept + b"\0" * (len(content) - len(kept) if zeros else 0))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("send", [_sync, lambda run: rebuild.to_store(run.directory)])
def test_lost_lines_come_back_before_anything_is_sent(
    new_run: Callable[..., Any], send: Callable[[Any], sync.SyncResult], zeros: bool
) -> None:
    """After a power cut a sync or a rebuild leaves a journal in which a resume finds every step that is stored."""
    run = new_run()
    run.steps(1, 40)
    assert _sync(run).complete
    before = run.records()
    _cut(run, zeros=zeros)
    assert len(run.records()) < 40
    assert send(run).complete
    assert sorted(record["step"] for record in run.records()) == [record["step"] for record in before]
    assert rebuild.pull_back(run.directory) == 0


def test_lost_lines_are_left_to_the_trainer_that_writes(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """Nothing is appended to the journal of a run that somebody writes."""
    run = new_run()
    run.steps(1, 40)
    _sync(run)
    _cut(run)
    lines = len(run.records())
    with FileLock(run.directory / ".run.lock"):
        Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert len(run.records()) == lines


class _Resuming(MlflowStore):
    """Somebody resumes the run while its backlog is sent."""

    def __init__(self, uri: str, resume: Callable[[], None]) -> None:
        super().__init__(uri)
        self._resume = resume

    def metrics(self, batch: Batch) -> None:
        super().metrics(batch)
        self._resume()


def test_run_that_is_resumed_during_a_pass_stays_open(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A run that was dead before its backlog was sent and lives after that is not called killed."""
    run = new_run()
    run.steps(1, 40)
    lock = FileLock(run.directory / ".run.lock")

    def resume() -> None:
        lock.acquire()
        run.event("resume", step=40, settings={}, pid=os.getpid())

    state = Companion(RunView(run.directory), _Resuming(store, resume), pace=fast).catch_up()
    assert not state.closed
    assert _status(store, run) == "RUNNING"
    lock.release()


class _Slow(MlflowStore):
    """Each event takes three seconds by its clock, in which the training writes a line of metrics."""

    def __init__(self, uri: str, run: Any) -> None:
        super().__init__(uri)
        self.calls: list[str] = []
        self._written = run

    def clock(self) -> float:
        return 3.0 * self.calls.count("event")

    def metrics(self, batch: Batch) -> None:
        super().metrics(batch)
        self.calls.append("metrics")

    def event(self, record: Record, offset: int = 0, /) -> None:
        super().event(record, offset)
        self.calls.append("event")
        self._written.steps(len(self.calls), len(self.calls))


def test_metrics_go_on_among_many_events(new_run: Callable[..., Any], store: str) -> None:
    """However long the events take, such as uploads of plots, metrics never wait longer than their interval."""
    run = new_run()
    for step in range(4):
        run.event("alert", step=step, kind="test")
    slow = _Slow(store, run)
    with FileLock(run.directory / ".run.lock"):
        Companion(RunView(run.directory), slow, pace=Pace(interval=5.0, patience=0.0), clock=slow.clock).catch_up()
    assert slow.calls == ["event", "event", "metrics", "event", "event", "metrics", "event"]


def test_status_of_an_ended_run_waits_for_no_files(
    new_run: Callable[..., Any], store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a run has told its end, its files come behind its status, and all of them do."""
    run = new_run()
    for name in ("one.txt", "two.txt"):
        run.file(name)
        run.event("artifact", kind="file", path=name, step=None)
    run.end()
    statuses, upload = [], MlflowClient.log_artifact

    def told(client: MlflowClient, run_id: str, *rest: Any) -> None:
        statuses.append(client.get_run(run_id).info.status)
        upload(client, run_id, *rest)

    monkeypatch.setattr(MlflowClient, "log_artifact", told)
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert state.closed
    assert set(statuses) == {"FINISHED"}
    names = {entry.path for entry in MlflowClient(tracking_uri=store).list_artifacts(state.run_id)}
    assert {"one.txt", "two.txt"} <= names


def test_refused_upload_is_the_last_for_a_while(
    new_run: Callable[..., Any], store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that time out one by one would hold up a running run: after the first they wait for its end."""
    run, tries = new_run(), []

    def refuse(*arguments: Any) -> None:
        tries.append(arguments)
        raise TimeoutError("timed out")

    for name in ("a.txt", "b.txt", "c.txt"):
        run.file(name)
        run.event("artifact", kind="file", path=name, step=None)
    with FileLock(run.directory / ".run.lock"), monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", refuse)
        state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert (len(tries), state.error) == (1, None)
    run.end()
    assert _sync(run).complete
    names = {entry.path for entry in MlflowClient(tracking_uri=store).list_artifacts(state.run_id)}
    assert {"a.txt", "b.txt", "c.txt"} <= names


def test_second_end_takes_back_the_reason_of_the_first(new_run: Callable[..., Any], store: str) -> None:
    """A run that was called killed and then ends well has no reason of a failure left."""
    run = new_run()
    run.steps(1, 3)
    _sync(run)
    assert _status(store, run) == "KILLED"
    run.end()
    _sync(run)
    tags = MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).data.tags
    assert _status(store, run) == "FINISHED"
    assert "spectral.reason" not in tags


def test_follower_takes_over_after_a_sync(new_run: Callable[..., Any], store: str) -> None:
    """A companion that finds the run held waits as long as the run goes on, and then follows it to its end."""
    run = new_run()
    run.steps(1, 3)
    codes: list[int] = []
    turned = threading.Event()
    view_lock, run_lock = companion_lock(run.directory), FileLock(run.directory / ".run.lock", thread_local=False)

    class Held(RunView):
        """Tells that the companion has looked for the first time."""

        def goes_on(self) -> bool:
            turned.set()
            return super().goes_on()

    stop = threading.Event()
    with run_lock, view_lock:

        def wait() -> None:
            held = _turn(Held(run.directory), store, 0.05, stop)
            assert held is not None
            with held:
                codes.append(0)

        thread = threading.Thread(target=wait)
        thread.start()
        assert turned.wait(60)
        assert codes == []
    thread.join(60)
    assert codes == [0]


def test_follower_leaves_a_run_that_is_done(new_run: Callable[..., Any]) -> None:
    """A companion that finds an ended run held, of which nothing is left to send, ends."""
    run = new_run()
    run.end()
    _sync(run)
    with companion_lock(run.directory):
        assert main([str(run.directory), "--follow", "--handover", "0.01"]) == 0


def test_full_disk_costs_the_state_alone(
    new_run: Callable[..., Any],
    store: str,
    fast: Pace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A state that cannot be written is kept in memory and told once; the run arrives."""
    from spectral_mlflow.stores import state as states

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(states, "replace_file", full)
    run = new_run()
    run.steps(1, 5)
    run.end()
    mirror = Companion(RunView(run.directory), MlflowStore(store), pace=fast)
    assert mirror.catch_up().closed
    assert caplog.text.count("cannot be kept") == 1
    assert MlflowClient(tracking_uri=store).get_run(mirror.state.run_id).info.status == "FINISHED"


def test_unusable_directory_stops_nobody_else(new_run: Callable[..., Any], store: str) -> None:
    """A run whose lock cannot be made has a result of its own, in a sync and in a sweep."""
    bad, good = new_run("bad"), new_run("good")
    bad.file("stores", "a file where a folder should be")
    results = sync.sync([bad.directory], patience=0.2)
    assert [result.complete for result in results] == [False]
    sweep = Sweep(good.directory.parent / "followed", threading.Event())
    sweep.start()
    sweep.wait()
    assert _status(store, good) == "KILLED"
    assert main([str(bad.directory)]) == 1


def test_run_of_another_training_is_not_adopted(new_run: Callable[..., Any], store: str, tmp_path: Path) -> None:
    """Of two trainings with the same MLFLOW_RUN_ID the first adopts the run, the second gets its own."""
    client = MlflowClient(tracking_uri=store)
    experiment = client.create_experiment("project", artifact_location=str(tmp_path / "project"))
    given = client.create_run(experiment).info.run_id
    first, second = new_run("first", mlflow_run_id=given), new_run("second", mlflow_run_id=given)
    for run in (first, second):
        run.steps(1, 3)
        run.end()
        assert _sync(run).complete
    assert first.state()["run_id"] == given != second.state()["run_id"]
    assert len(client.get_metric_history(given, "loss")) == 3


def test_run_that_was_resumed_into_another_store_stays_there(
    new_run: Callable[..., Any], template: Path, tmp_path: Path
) -> None:
    """A sync without a store goes where the run went last, not where it began."""
    run = new_run()
    run.steps(1, 3)
    _sync(run)
    other = f"sqlite:///{tmp_path}/other.db"
    (tmp_path / "other.db").write_bytes(template.read_bytes())
    run.event("resume", step=3, settings={})
    _sync(run, other)
    run.steps(4, 5)
    _sync(run)
    assert run.state()["tracking_uri"] == other
    assert len(MlflowClient(tracking_uri=other).get_metric_history(run.state()["run_id"], "loss")) == 5


def test_imported_run_is_of_this_host(new_run: Callable[..., Any]) -> None:
    """A run that another machine wrote and this one imported is nobody's to wait for."""
    run = new_run(host="another-machine")
    view = RunView(run.directory)
    assert (view.is_of_this_host(), view.is_alive()) == (False, True)
    run.event("import", archive="a.tar", host=socket.gethostname())
    assert (view.is_of_this_host(), view.is_alive()) == (True, False)


def _refuse(*_: object) -> None:
    raise ValueError("no")


def test_status_comes_before_everything_else_of_the_end(
    new_run: Callable[..., Any], store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Params that are refused leave the run open for the next companion, with its status and its metrics."""
    run = new_run()
    monkeypatch.setattr(RunPage, "send", _refuse)
    run.steps(1, 3)
    run.end()
    state = Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert not state.closed
    assert state.error == "ValueError: no"
    assert _status(store, run) == "FINISHED"
    assert len(MlflowClient(tracking_uri=store).get_metric_history(state.run_id, "loss")) == 3


def test_password_is_not_told(monkeypatch: pytest.MonkeyPatch, store: str, tmp_path: Path) -> None:
    """A run that is looked for in vain names its store without the password."""
    from spectral_mlflow.stores import client as clients

    monkeypatch.setattr(clients, "open_client", lambda _: open_client(store))
    with pytest.raises(UserError, match=r"\*\*\*@host") as told:
        rebuild.from_store("nobody", tmp_path, "http://me:SECRET@host:5000")
    assert "SECRET" not in str(told.value)


def test_mistakes_stay_mistakes() -> None:
    """What the user can mend is not called a failure of the store."""
    with pytest.raises(UserError), store_errors():
        raise UserError("run: given 'x'")


def test_database_that_another_program_holds(
    new_run: Callable[..., Any], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked sqlite file is told as such after its one waiting time, in which MLflow is not asked at all."""
    from spectral_mlflow.stores import client as clients

    monkeypatch.setattr(clients, "LOCKED_SECONDS", 0.1)
    run = new_run()
    run.steps(1, 3)
    holder = sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(clients, "MlflowClient", None)
    assert _sync(run).message == "not sent: OperationalError: database is locked"
    monkeypatch.undo()
    holder.execute("ROLLBACK")
    holder.close()
    assert _sync(run).complete


def test_told_to_end_with_something_left(new_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A companion that is stopped before it has sent what is there ends with another code than one that is done."""
    run = new_run()
    run.steps(1, 3)
    stopped = threading.Event()
    stopped.set()
    assert _work(Companion(RunView(run.directory), MlflowStore(store), pace=fast, stop=stopped), follow=True) == 1
    assert _work(Companion(RunView(run.directory), MlflowStore(store), pace=fast), follow=True) == 0


def test_run_in_the_trash(new_run: Callable[..., Any], store: str) -> None:
    """A run that was deleted in MLflow is named by a sync, with what restores it; a rebuild does."""
    run = new_run()
    run.steps(1, 3)
    run.end()
    _sync(run)
    client, run_id = MlflowClient(tracking_uri=store), run.state()["run_id"]
    client.delete_run(run_id)
    result = _sync(run)
    assert not result.complete
    assert "spectral rebuild" in result.message
    assert rebuild.to_store(run.directory).complete
    assert client.get_run(run_id).info.lifecycle_stage == "active"
