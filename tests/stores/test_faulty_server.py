"""A tracking server that hangs, answers 500 or refuses costs nobody more than its time-outs, and no point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from mlflow import MlflowClient

from benchmarks.tracking_server import Mode, Proxy, TrackingServer
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.base import Outcome, RunView, StoreError
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.mlflow import MlflowStore
from spectral_mlflow.stores.state import StoreState

FAULTS = [mode for mode in get_args(Mode) if mode != "pass"]
PACE = Pace(poll=0.01, slowest_poll=0.05, interval=0.02, retry=0.05, longest_retry=0.2, patience=60.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A real one."""
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxy(server: TrackingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """In front of it; the client loses patience sooner than usual."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Proxy(server.port) as proxy:
        yield proxy


def _wait_for(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_point_after_a_fault(
    new_run: Callable[..., Any], proxy: Proxy, trainer: Callable[[Path], Any], fault: Mode
) -> None:
    """A run whose server fails in the middle is in MLflow in full, with its files, once the server is well again."""
    run = new_run(f"run_{fault}", tracking_uri=proxy.uri)
    process = trainer(run.directory)
    companion = Companion(RunView(run.directory), MlflowStore(proxy.uri), pace=PACE)
    thread = threading.Thread(target=companion.follow)
    thread.start()
    run.steps(1, 30)
    _wait_for(lambda: (run.directory / "stores" / "mlflow.json").exists() and run.state()["metrics_offset"] > 0)
    proxy.become(fault)
    run.steps(31, 60)
    for step in (1, 2):
        run.file(f"checkpoints/checkpoint_step_{step}.pt")
        run.event("checkpoint", step=step, path=f"checkpoints/checkpoint_step_{step}.pt", best=step == 2)
    _wait_for(lambda: run.state()["error"] is not None)
    proxy.become("pass")
    run.end()
    process.communicate("")
    thread.join()
    assert companion.state.closed
    assert run.is_exactly_in(proxy.uri)
    client = MlflowClient(tracking_uri=proxy.uri)
    assert client.get_run(companion.state.run_id).info.status == "FINISHED"
    listed = client.list_artifacts(companion.state.run_id, "checkpoints")
    assert [entry.path for entry in listed] == ["checkpoints/checkpoint_step_2.pt"]


def test_unwanted_checkpoint_is_deleted_from_a_server(new_run: Callable[..., Any], proxy: Proxy) -> None:
    """A server deletes an artifact too."""
    run = new_run("deleting", tracking_uri=proxy.uri)
    for step in (1, 2):
        run.file(f"checkpoints/checkpoint_step_{step}.pt")
        run.event("checkpoint", step=step, path=f"checkpoints/checkpoint_step_{step}.pt", best=True)
        (result,) = sync.sync([run.directory])
        assert result.complete, result
    listed = MlflowClient(tracking_uri=proxy.uri).list_artifacts(run.state()["run_id"], "checkpoints")
    assert [entry.path for entry in listed] == ["checkpoints/checkpoint_step_2.pt"]


def test_sync_gives_a_hanging_server_up(new_run: Callable[..., Any], proxy: Proxy) -> None:
    """A sync returns and says that the server does not answer; later it sends everything."""
    run = new_run("hanging", tracking_uri=proxy.uri)
    run.steps(1, 5)
    for n in range(40):
        run.file(f"visualizations/{n}.png")
        run.event("artifact", path=f"visualizations/{n}.png", kind="plot", step=n)
    proxy.become("hang")
    (result,) = sync.sync([run.directory], patience=0.1)
    assert not result.complete
    assert "does not answer" in result.message
    proxy.become("pass")
    (result,) = sync.sync([run.directory])
    assert result.complete


def test_uploads_to_a_hanging_server_end_at_the_first(new_run: Callable[..., Any], proxy: Proxy) -> None:
    """A server that falls silent during the uploads is found out at one file, not at each of them."""
    run = new_run("uploading", tracking_uri=proxy.uri)
    for n in range(40):
        run.file(f"visualizations/{n}.png")
        run.event("artifact", path=f"visualizations/{n}.png", kind="plot", step=n)
    store = MlflowStore(proxy.uri)
    store.open(RunView(run.directory), StoreState())
    proxy.become("hang")
    connections = proxy.accepted
    with pytest.raises(StoreError):
        store.event(RunView(run.directory).events("artifact")[0])
    with pytest.raises(StoreError):
        store.close(Outcome("FINISHED", None, 0))
    assert proxy.accepted - connections < 10
