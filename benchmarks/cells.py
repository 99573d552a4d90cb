"""The cells of a study: training runs of the product, found in a store by their settings, and trained as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import runs
from spectral_mlflow.monitoring.json_text import decode
from spectral_mlflow.settings import build, load


@dataclass(frozen=True)
class Cell:
    """One training run of a study."""

    label: str
    seed: int
    settings: Mapping[str, str]

    @cached_property
    def config(self) -> ExperimentConfig:
        """All its settings."""
        return build(self.settings)

    @cached_property
    def hash(self) -> str:
        """Of what decides its result."""
        return self.config.hash()

    def __str__(self) -> str:
        return f"{self.label}, seed {self.seed}"


# What the store has


def stored(store: Path) -> dict[str, Path]:
    """The run directory of each hash of settings: a finished one if there is one, else the newest."""
    found: dict[str, Path] = {}
    for run_dir in runs.run_directories(store / "experiments"):
        try:
            key = load(run_dir / "config.json").hash()
        except UserError:  # Settings of another version of the code: no cell has them.
            continue
        prolonged = "training.steps" in runs.changed_settings(journal.records(run_dir / "logs" / "events.jsonl"))
        if not prolonged and not (key in found and is_finished(found[key])):
            found[key] = run_dir
    return found


def is_finished(run_dir: Path) -> bool:
    """Whether a run was completed and has its results."""
    ends = [e["status"] for e in journal.records(run_dir / "logs" / "events.jsonl") if e["event"] == "end"]
    return ends[-1:] == ["FINISHED"] and (run_dir / "results.json").is_file()


def results(run_dir: Path) -> dict[str, Any]:
    """Final metrics and number of parameters of a finished run."""
    content = decode((run_dir / "results.json").read_bytes())
    return {"num_parameters": content["num_parameters"], **content["final_metrics"]}


# Training


def command(cell: Cell, run_dir: Path | None) -> list[str]:
    """What trains a cell: from the start, or from the checkpoint that a stopped run has left."""
    program = [sys.executable, "-m", "spectral_mlflow"]
    if run_dir and runs.summary(run_dir)["status"] == "KILLED" and any((run_dir / "checkpoints").glob("*.pt")):
        return [*program, "resume", str(run_dir), "--runtime.threads", cell.settings["runtime.threads"]]
    return [*program, "train", *(part for name, value in cell.settings.items() for part in (f"--{name}", value))]


def start(cell: Cell, run_dir: Path | None, store: Path) -> subprocess.Popen[bytes]:
    """Start the process of a cell, in a session of its own, so that only we stop it; it writes to a log beside."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")}
    environment |= {"SPECTRAL_HOME": str(store), "OMP_NUM_THREADS": cell.settings["runtime.threads"]}
    with log_path(cell, store).open("wb") as log:
        return subprocess.Popen(
            command(cell, run_dir), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def log_path(cell: Cell, store: Path) -> Path:
    """Where the process of a cell writes what it prints."""
    return store / "logs" / f"{cell.settings['name']}.log"


def train(waiting: list[Cell], store: Path, lanes: int, tell: Callable[[Cell, int, float], None]) -> None:
    """Train cells, some at a time; whatever ends this ends the processes first, whole.

    Args:
        waiting: the cells, in this order.
        store: their SPECTRAL_HOME.
        lanes: processes at a time.
        tell: called with each cell, the exit code of its process and its seconds.
    """
    (store / "logs").mkdir(parents=True, exist_ok=True)
    running: dict[subprocess.Popen[bytes], tuple[Cell, float]] = {}
    known = stored(store)
    waiting = list(waiting)
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                cell = waiting.pop(0)
                running[start(cell, known.get(cell.hash), store)] = cell, time.monotonic()
            for process in [process for process in running if process.poll() is not None]:
                cell, started = running.pop(process)
                tell(cell, process.returncode, time.monotonic() - started)
            time.sleep(0.1)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
