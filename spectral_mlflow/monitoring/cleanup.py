"""Which runs may go, and how a run directory goes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import Timeout

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.run_lock import run_lock
from spectral_mlflow.monitoring.runs import summary

# What is being removed no longer counts as a run; the next clean-up finishes what a crash has left.
REMOVED = ".removed."


@dataclass(frozen=True)
class Candidate:
    """A run, as far as its keeping depends on it.

    Attributes:
        run_dir: its directory.
        model: wave, standard, or the name of a foreign model.
        status: FINISHED, FAILED, KILLED or RUNNING.
        last_written: when its journal was last written.
        best_val_loss: nats per token; None where it was never measured.
        bytes: on disk.
    """

    run_dir: Path
    model: str
    status: str
    last_written: datetime
    best_val_loss: float | None
    bytes: int


Rule = Callable[[Sequence[Candidate]], set[Path]]


def candidate(run_dir: Path) -> Candidate:
    """What is known of a run."""
    known = summary(run_dir)
    events = journal.records(run_dir / "logs" / "events.jsonl")
    last = events[-1]["timestamp"] if events else None
    written = datetime.fromisoformat(last) if last else datetime.fromtimestamp(run_dir.stat().st_mtime).astimezone()
    return Candidate(
        run_dir, str(known["model"]), known["status"], written, known["best_val_loss"], disk_usage(run_dir)
    )


def older_than(days: float, now: datetime) -> Rule:
    """Runs that nobody has written for so many days."""
    return lambda runs: {run.run_dir for run in runs if (now - run.last_written).total_seconds() > days * 86400}


def with_status(*statuses: str) -> Rule:
    """Runs that ended so."""
    return lambda runs: {run.run_dir for run in runs if run.status in statuses}


def all_but_newest(number: int) -> Rule:
    """All but the runs that were written last."""
    return lambda runs: {run.run_dir for run in sorted(runs, key=lambda run: run.last_written, reverse=True)[number:]}


def all_but_best(number: int) -> Rule:
    """All but those of the lowest validation loss among the runs of the same model."""

    def chosen(runs: Sequence[Candidate]) -> set[Path]:
        spared: set[Path] = set()
        for model in {run.model for run in runs}:
            measured = [run for run in runs if run.model == model and run.best_val_loss is not None]
            spared |= {run.run_dir for run in sorted(measured, key=lambda run: run.best_val_loss or 0.0)[:number]}
        return {run.run_dir for run in runs} - spared

    return chosen


def expendable(runs: Sequence[Candidate], rules: Sequence[Rule]) -> list[Candidate]:
    """The runs that every rule lets go; never one that is running, and none without a rule."""
    if not rules:
        return []
    going = set.intersection(*(rule(runs) for rule in rules))
    return [run for run in runs if run.run_dir in going and run.status != "RUNNING"]


def disk_usage(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def check_removable(run_dir: Path) -> None:
    """Refuse what `remove` could not remove whole.

    Raises:
        UserError: the directory is a link.
    """
    if run_dir.is_symlink():
        raise UserError(
            f"run {run_dir.name} is a link to {run_dir.resolve()}; give that directory, and remove the link"
        )


def remove(run_dir: Path) -> None:
    """Remove a run directory; at no moment is half a run left under its name.

    Raises:
        UserError: a process writes it.
        OSError: the disk refuses.
    """
    lock = run_lock(run_dir)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"run {run_dir.name} is being written; wait until it ends, or stop it") from None
    try:
        going = run_dir.with_name(REMOVED + run_dir.name)
        run_dir.rename(going)
    finally:
        lock.release()
    shutil.rmtree(going)


def finish_removals(base: Path) -> None:
    """Remove what an interrupted `remove` has left."""
    for path in base.glob(f"{REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)
