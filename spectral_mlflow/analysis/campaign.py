"""Trains the cells of a study, each once, whatever happened before and whoever else is at it.

Each cell has a lock, which its training inherits: it is held as long as that lives, also when we are killed. So the
next call, or one beside us, waits for a cell that is being trained instead of training it twice.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from spectral_mlflow.analysis.cells import Cell, Found, find
from spectral_mlflow.analysis.jobs import Job, Launcher, LocalLauncher
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.settings import as_text, flatten

State = Literal["waiting", "running", "elsewhere", "finished", "failed"]

POLL_SECONDS = 0.2
REFUSED = 2  # Exit code of a program that was asked for what cannot be.
# The training makes a run of its own in the store, not that of the `mlflow run` around us.
_OURS_ALONE = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@dataclass(frozen=True)
class Status:
    """How far a cell is.

    Attributes:
        state: elsewhere: trained by a process that another call has started.
        run_dir: its run, if there is one.
        seconds: that its training took here.
        exit_code: of the training, where it failed.
    """

    state: State
    run_dir: Path | None = None
    seconds: float = 0.0
    exit_code: int | None = None


@dataclass
class _Running:
    cell: Cell
    job: Job
    lock: int
    began: float
    resumed: bool


# Called whenever the status of some cell has changed, and regularly in between.
Watch = Callable[[Mapping[Cell, Status]], None]


class Campaign:
    """The cells of some studies and what has become of each.

    Attributes:
        statuses: of every cell.
    """

    def __init__(self, cells: Sequence[Cell], base: Path, folder: Path, launcher: Launcher | None = None) -> None:
        """Look what is there already.

        Args:
            cells: in the order in which they are trained.
            base: the folder of run directories.
            folder: for the locks and what the trainings print, one folder in it for each study.
            launcher: starts the trainings; default: as processes of this machine.

        Raises:
            UserError: a study has a run of other settings under the name of one of the cells.
        """
        self._base, self._folder = base, folder
        self._launcher = launcher or LocalLauncher()
        self._running: list[_Running] = []
        found = _found(cells, base)
        self.statuses: dict[Cell, Status] = {cell: _status(found.get(cell)) for cell in cells}

    @property
    def failed(self) -> list[Cell]:
        """Cells whose training came to nothing."""
        return [cell for cell, status in self.statuses.items() if status.state == "failed"]

    def log(self, cell: Cell) -> Path:
        """What the training of a cell has printed."""
        return self._folder / cell.study / f"{cell.slug}.log"

    def train(self, jobs: int, watch: Watch) -> None:
        """Train what is not finished. Whatever ends this stops the trainings first, whole.

        Args:
            jobs: trainings at a time.
            watch: shown how far it is.
        """
        try:
            while self._unfinished() or self._running:
                self._fill(jobs)
                watch(self.statuses)
                time.sleep(POLL_SECONDS)
                self._reap()
            watch(self.statuses)
        finally:
            self._stop()

    def _unfinished(self) -> list[Cell]:
        return [cell for cell, status in self.statuses.items() if status.state in ("waiting", "elsewhere")]

    def _fill(self, jobs: int) -> None:
        for cell in self._unfinished():
            if len(self._running) >= jobs:
                return
            lock = self._lock(cell)
            if lock is None:
                self.statuses[cell] = replace(self.statuses[cell], state="elsewhere")
                continue
            # Only now, as somebody else may have trained it until a moment ago.
            found = _found([cell], self._base).get(cell)
            self.statuses[cell] = _status(found)
            if found is not None and not found.finished and is_running(found.run_dir):  # By `spectral resume`, say.
                self.statuses[cell] = replace(self.statuses[cell], state="elsewhere")
                os.close(lock)
            elif found is not None and found.finished:
                os.close(lock)
            else:
                self._start(cell, found, lock)

    def _lock(self, cell: Cell) -> int | None:
        path = self._folder / cell.study / f"{cell.slug}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def _start(self, cell: Cell, found: Found | None, lock: int) -> None:
        resumed = found is not None and found.resumable
        command = _resume(cell, found.run_dir) if found is not None and resumed else _train(cell)
        try:
            job = self._launcher.start(command, _environment(cell), self.log(cell), lock)
        except BaseException:
            os.close(lock)
            raise
        self.statuses[cell] = replace(self.statuses[cell], state="running")
        self._running.append(_Running(cell, job, lock, time.monotonic(), resumed))

    def _reap(self) -> None:
        for running in [running for running in self._running if running.job.poll() is not None]:
            self._running.remove(running)
            cell, code = running.cell, running.job.wait()
            found = _found([cell], self._base).get(cell)
            seconds = self.statuses[cell].seconds + time.monotonic() - running.began
            if found is not None and found.finished:
                self.statuses[cell] = Status("finished", found.run_dir, seconds)
            elif running.resumed and code == REFUSED:  # No checkpoint of it is whole: from the start.
                self._start(cell, None, running.lock)
                continue
            else:
                self.statuses[cell] = Status("failed", found.run_dir if found else None, seconds, code)
            os.close(running.lock)

    def _stop(self) -> None:
        for running in self._running:
            running.job.stop()
        for running in self._running:
            running.job.wait()
            os.close(running.lock)
        self._running.clear()


def _found(cells: Sequence[Cell], base: Path) -> dict[Cell, Found]:
    found: dict[Cell, Found] = {}
    for study in dict.fromkeys(cell.study for cell in cells):
        mine = {(cell.name, cell.seed): cell for cell in cells if cell.study == study}
        found |= {mine[place]: run for place, run in find(mine, base).items()}
    return found


def _status(found: Found | None) -> Status:
    if found is None:
        return Status("waiting")
    return Status("finished" if found.finished else "waiting", found.run_dir)


def _environment(cell: Cell) -> dict[str, str]:
    threads = cell.config.runtime.threads
    more = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return {name: value for name, value in os.environ.items() if name not in _OURS_ALONE} | more


def _train(cell: Cell) -> list[str]:
    settings = {name: value for name, value in flatten(cell.config.to_dict()).items() if value is not None}
    given = [part for name, value in settings.items() for part in (f"--{name}", as_text(value))]
    tags = [part for name, value in cell.tags.items() for part in ("--tag", f"{name}={value}")]
    return [sys.executable, "-m", "spectral_mlflow", "train", *given, *tags]


def _resume(cell: Cell, run_dir: Path) -> list[str]:
    threads = str(cell.config.runtime.threads)
    return [sys.executable, "-m", "spectral_mlflow", "resume", str(run_dir), "--runtime.threads", threads]
