"""Several stores of one run: one companion feeds them all, and none waits for another."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")

from spectral_mlflow import cli
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.companion_process import CompanionProcess, stores_lacking_a_package
from spectral_mlflow.monitoring.run_lock import run_lock
from spectral_mlflow.stores import doctor, sync
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace, companion_lock
from spectral_mlflow.stores.destinations import STORES, opened
from spectral_mlflow.stores.mlflow import MlflowStore
from spectral_mlflow.stores.removal import undisturbed
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.tensorboard import TensorBoardStore

DEADLINE = 240.0
WITHOUT_WANDB = "import sys; sys.modules['wandb'] = None"
HANGING = """
import contextlib, sys, threading
from spectral_mlflow.stores import __main__, destinations

class Hanging:
    name, size = "tensorboard", 0
    def open(self, run, state):
        print("hanging", flush=True)
        while not stop.wait(0.01):
            pass
        print("heard", flush=True)
        threading.Event().wait()

stop = __main__._stop_on_signals()
__main__._stop_on_signals = lambda: stop
destinations.STORES = {"tensorboard": lambda _: contextlib.nullcontext(Hanging())}
sys.exit(__main__.main([sys.argv[1]]))
"""


def _wait_for(true: Callable[[], bool]) -> None:
    pause, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        pause.wait(0.02)


def _state(run: Any, store: str) -> StoreState:
    return StoreState.load(RunView(run.directory).state_of(store))


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_one_that_does_not_answer_holds_up_no_other(
    full_run: Callable[..., Any], store: str, companion: Callable[..., Any], trainer: Callable[[Path], Any]
) -> None:
    """With no MLflow server there, TensorBoard is fed while the run goes on, and closed; sync completes the other."""
    run = full_run("mlflow", "tensorboard", tracking_uri=f"http://127.0.0.1:{_closed_port()}")
    process = trainer(run.directory)
    follower = companion(run.directory, "--follow")
    _wait_for(lambda: _state(run, "mlflow").error is not None)
    run.steps(1, 30)
    size = RunView(run.directory).metrics_path.stat().st_size
    _wait_for(lambda: _state(run, "tensorboard").metrics_offset == size)
    assert not _state(run, "tensorboard").closed
    assert follower.poll() is None
    run.end()
    _wait_for(lambda: _state(run, "tensorboard").closed)
    process.communicate("")
    assert follower.wait(DEADLINE) == 1
    assert sync.is_behind(run.directory)
    (result,) = sync.sync([run.directory], store)
    assert result.complete
    assert str(result).startswith(f"{run.name}: mlflow: sent (MLflow run ")
    assert str(result).endswith("; tensorboard: is in the store already")
    assert not sync.is_behind(run.directory)
    assert MlflowClient(tracking_uri=store).get_run(_state(run, "mlflow").run_id).info.status == "FINISHED"
    assert run.is_exactly_in(store)


class _Broken(TensorBoardStore):
    """Raises what no store should."""

    def metrics(self, _batch: Any) -> None:
        raise ZeroDivisionError


def test_store_with_a_mistake_of_its_own_stops_no_other(
    new_run: Callable[..., Any], store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that no store should raise is told, with its trace, when the others have been fed."""
    from spectral_mlflow.stores import __main__, destinations

    broken = {**STORES, "tensorboard": lambda _: contextlib.nullcontext(_Broken())}
    monkeypatch.setattr(destinations, "STORES", broken)
    run = new_run(stores=["tensorboard", "mlflow"])
    run.steps(1, 5)
    run.end()
    assert __main__.main([str(run.directory)]) == 1
    assert "ZeroDivisionError" in caplog.text
    assert _state(run, "mlflow").closed
    assert run.is_exactly_in(store)


def test_mistake_with_one_run_stops_no_other_run(
    new_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that cannot even be made for one run is told, with its trace, and the next run is sent."""
    from spectral_mlflow.stores import destinations

    def broken(_address: str) -> contextlib.AbstractContextManager[Any]:
        raise ZeroDivisionError("no such package")

    first, second = new_run("first", stores=["wandb"]), new_run("second", stores=["tensorboard"])
    monkeypatch.setattr(destinations, "STORES", {**STORES, "wandb": broken})
    monkeypatch.setattr(destinations, "stores_lacking_a_package", lambda _: [])
    second.end()
    one, other = sync.sync([first.directory, second.directory])
    assert (one.complete, one.message) == (False, "not sent: ZeroDivisionError: no such package")
    assert other.complete
    assert "ZeroDivisionError" in caplog.text


def test_stores_that_a_continuation_has_changed(new_run: Callable[..., Any], companion: Callable[..., Any]) -> None:
    """The companion feeds those of the last resume or import, so that the trainer does not wait for others."""
    run = new_run(stores=["tensorboard"])
    view = RunView(run.directory)
    run.event("resume", step=0, settings={"training.steps": 30, "monitoring.stores": ["tensorboard", "mlflow"]})
    assert view.stores() == ("tensorboard", "mlflow")
    run.steps(1, 3)
    run.end()
    assert companion(run.directory).wait(DEADLINE) == 0
    assert _state(run, "mlflow").closed
    assert _state(run, "tensorboard").closed
    run.event("import", stores=["mlflow"], tracking_uri="sqlite:///new.db", mlflow_run_id=None)
    assert view.stores() == ("mlflow",)
    run.event("resume", step=3, settings={"monitoring.stores": []})
    assert view.stores() == ()


def test_other_stores_that_are_behind_are_no_matter_to_mlflow(
    new_run: Callable[..., Any], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeping the run in MLflow asks of the directory's deletion that MLflow has it, if it ever goes there."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    both, neither = new_run("both", stores=["mlflow", "wandb"]), new_run("neither", stores=["tensorboard"])
    both.end()
    neither.end()
    assert not sync.sync([both.directory])[0].complete
    assert sync.sync_to_mlflow(both.directory, store).complete
    for run in (both, neither):
        assert cli.main(["delete", run.name, "--yes", "--keep-mlflow"]) == 0
        assert not run.directory.exists()


def test_second_signal_ends_a_companion_that_hangs(new_run: Callable[..., Any], tmp_path: Path) -> None:
    """A store that never returns keeps the process from ending at the first SIGTERM, not at the second."""
    run = new_run(stores=["tensorboard"])
    program = tmp_path / "hanging.py"
    program.write_text(HANGING)
    process = subprocess.Popen([sys.executable, str(program), str(run.directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "heard\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 1


def test_missing_package_is_one_message_and_the_others_are_fed(
    full_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trainer is told once what to install; the companion feeds what it can, and waiting is for that alone."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_WANDB)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    monkeypatch.setitem(sys.modules, "wandb", None)
    (tmp_path / "wandb").mkdir()  # As `wandb` makes one in the current folder: not the package.
    monkeypatch.chdir(tmp_path)
    run = full_run("tensorboard", "wandb")
    run.steps(1, 5)
    run.end()
    process = CompanionProcess(run.directory, None, ("tensorboard", "wandb"))
    (alert,) = process.start()
    assert (alert.kind, alert.severity) == ("stores", "warning")
    assert "pip install 'spectral-mlflow[wandb]'" in alert.advice
    pause = threading.Event()
    shares: list[float] = []
    assert process.wait(DEADLINE, stop=lambda: False, tell=shares.append, sleep=pause.wait)
    assert list(process.states()) == ["tensorboard"]
    assert _state(run, "tensorboard").closed
    _wait_for(lambda: process._process is not None and process._process.poll() is not None)
    said = (run.directory / "logs" / "companion.log").read_text()
    assert said.count("pip install 'spectral-mlflow[wandb]'") == 1
    (result,) = sync.sync([run.directory])
    assert not result.complete
    assert "wandb: the package of wandb is not installed" in result.message


def test_without_any_package_nothing_is_started(full_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose only store lacks its package has no companion, and its end waits for nobody."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = full_run("wandb")
    process = CompanionProcess(run.directory, None, ["wandb"])
    assert len(process.start()) == 1
    assert not (run.directory / "logs" / "companion.log").exists()
    assert not process.wait(DEADLINE, stop=lambda: False, tell=lambda _: None, sleep=lambda _: None)


def test_finding_out_what_is_missing_imports_nothing() -> None:
    """The trainer asks for packages without loading them."""
    code = (
        "import sys; from spectral_mlflow.monitoring.companion_process import stores_lacking_a_package as lacking;"
        "lacking(('mlflow', 'tensorboard', 'wandb')); print({'mlflow', 'tensorboard', 'wandb'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_each_store_has_a_lock_of_its_own(full_run: Callable[..., Any]) -> None:
    """A store that another companion feeds is left to it, the others are caught up, and no run is removed meanwhile."""
    run = full_run("mlflow", "tensorboard")
    run.steps(1, 3)
    run.end()
    with companion_lock(run.directory, store="mlflow"):
        (result,) = sync.sync([run.directory])
    assert "mlflow: is being sent by its companion; tensorboard: sent" in str(result)
    assert not (run.directory / "stores" / "mlflow.json").exists()
    with (
        companion_lock(run.directory, store="tensorboard"),
        pytest.raises(UserError, match="is being sent"),
        undisturbed(run.directory),
    ):
        pass


def test_wait_is_for_the_slowest(full_run: Callable[..., Any], store: str, fast: Pace) -> None:
    """A run is complete when every store has closed it."""
    run = full_run("mlflow", "tensorboard")
    run.steps(1, 3)
    run.end()
    process, told = CompanionProcess(run.directory, None, ("mlflow", "tensorboard")), list[float]()
    Companion(RunView(run.directory), TensorBoardStore(), pace=fast).catch_up()
    assert not process.wait(DEADLINE, stop=lambda: True, tell=told.append, sleep=lambda _: None)
    Companion(RunView(run.directory), MlflowStore(store), pace=fast).catch_up()
    assert process.wait(DEADLINE, stop=lambda: True, tell=told.append, sleep=lambda _: None)


def test_doctor_names_a_store_that_is_behind(full_run: Callable[..., Any], store: str) -> None:
    """A run that only MLflow has in full is named, with the sync that mends it."""
    run = full_run("mlflow")
    run.end()
    assert sync.sync([run.directory])[0].complete
    run.event("import", stores=["mlflow", "tensorboard"])
    run.end()
    assert sync.sync([run.directory])[0].complete
    RunView(run.directory).state_of("tensorboard").unlink()
    fixes = [finding.fix for finding in doctor.examine(run.directory.parent, store) if finding.fix]
    assert fixes == [f"spectral sync {run.directory}"]


def test_unknown_store_is_named() -> None:
    """A name that a later version may know is told with those that are known here."""
    with pytest.raises(UserError, match="'cloud'; allowed: mlflow, tensorboard, wandb"):
        opened("cloud", "")


def test_installed_packages_are_not_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow is always there; the others are as far as they can be imported."""
    assert stores_lacking_a_package(["mlflow", "tensorboard"]) == []
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert stores_lacking_a_package(STORES)[:1] == ["tensorboard"]


def test_lines_that_come_between_two_looks_are_there_when_the_run_is_closed(full_run: Callable[..., Any]) -> None:
    """A trainer that writes its last lines and its end while others are sent is not waited for again."""
    run = full_run("tensorboard")
    run.steps(1, 1000)

    class Overtaken(TensorBoardStore):
        """Sees the run go on and end while its events are sent."""

        def event(self, record: dict[str, Any], offset: int, /) -> None:
            super().event(record, offset)
            if record["event"] == "start":
                run.steps(1001, 1010)
                run.end()

    with run_lock(run.directory):  # The trainer waits for its stores.
        state = Companion(RunView(run.directory), Overtaken()).follow()
    assert state.closed
    assert state.metrics_offset == (run.directory / "logs" / "metrics.jsonl").stat().st_size
