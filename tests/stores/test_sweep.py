"""What nobody follows any more is closed by the companion of the next run."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from spectral_mlflow.stores.companion import companion_lock
from spectral_mlflow.stores.sweep import Sweep, abandoned


def _status(store: str, run: Any) -> str:
    return str(MlflowClient(tracking_uri=store).get_run(run.state()["run_id"]).info.status)


def test_abandoned_runs(new_run: Callable[..., Any], trainer: Callable[[Path], Any]) -> None:
    """Those of this host whose trainer is gone; not those that live, want no store, or run on another machine."""
    dead, living, elsewhere, unwanted = (
        new_run("dead"), new_run("living"), new_run("elsewhere", host="another-machine"), new_run("unwanted", stores=[])
    )  # fmt: skip
    trainer(living.directory)
    assert abandoned(dead.directory.parent) == [dead.directory]
    assert elsewhere.directory.parent == unwanted.directory.parent


def test_next_run_closes_them(new_run: Callable[..., Any], store: str, trainer: Callable[[Path], Any]) -> None:
    """The companion of a new run closes a killed one as KILLED, and leaves one to the companion that holds it."""
    dead, held, new = new_run("dead"), new_run("held"), new_run("new")
    dead.steps(1, 30)
    held.steps(1, 3)
    process = trainer(new.directory)
    command = [sys.executable, "-m", "spectral_mlflow.stores", str(new.directory), "--follow", "--poll", "0.05"]
    with companion_lock(held.directory):
        follower = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
        new.steps(1, 3)
        new.end()
        process.communicate("")
        said = follower.communicate()[1]
    assert follower.returncode == 0, said
    assert _status(store, dead) == "KILLED"
    assert _status(store, new) == "FINISHED"
    rows = MlflowClient(tracking_uri=store).get_metric_history(dead.state()["run_id"], "loss")
    assert [row.step for row in rows] == list(range(1, 31))
    assert not (held.directory / "stores" / "mlflow.json").exists()


def test_sweep_that_is_stopped(new_run: Callable[..., Any]) -> None:
    """A signal ends it before the next run, and one that never began is not waited for."""
    dead = new_run("dead")
    stop = threading.Event()
    stop.set()
    sweep = Sweep(dead.directory.parent / "followed", stop)
    sweep.wait()
    sweep.start()
    sweep.wait()
    assert not (dead.directory / "stores" / "mlflow.json").exists()
