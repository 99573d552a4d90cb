"""Trials: their seeds, folders, results, and what they share."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

from benchmarks.faults import checks
from benchmarks.faults.checks import Reference
from benchmarks.faults.home import NO_STORE, SMALL, VARIANTS, Home
from benchmarks.faults.preloaded import Preloaded


class NotHereError(Exception):
    """This machine does not permit the trial; the text says why."""


class Bench:
    """What trials share: preloaded Python, an empty store, and the uninterrupted runs they are compared with."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="faults-bench-")
        self.folder = Path(self._folder.name)
        self.python = Preloaded()
        self._shared: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.python.close()
        self._folder.cleanup()

    def home(self, folder: Path, settings: Mapping[str, str] = SMALL, **further: Any) -> Home:
        """A home for a trial, with an empty store if its runs have one."""
        home = Home(folder, self.python, settings, **further)
        if "monitoring.stores" not in settings:
            home.copy_store(self.template())
        return home

    def template(self) -> Path:
        """An empty database of MLflow, whose tables take seconds to make."""
        path = self.folder / "template" / "mlflow.db"
        with self._lock:
            if not path.exists():
                home = Home(path.parent, self.python)
                code = home.run("benchmarks.faults.empty_store", f"sqlite:///{path}.new").wait()
                checks.require(code == 0, f"no store could be made: {(home.aside / 'output.txt').read_text()}")
                with closing(sqlite3.connect(f"{path}.new")) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                Path(f"{path}.new").rename(path)
            return path

    def shared(self, name: str, make: Callable[[Bench], Any]) -> Any:
        """Something that is made once for all trials."""
        with self._lock:
            if name not in self._shared:
                self._shared[name] = make(self)
            return self._shared[name]

    def reference(self, variant: str) -> Reference:
        """What the uninterrupted run of a variant came to."""
        reference: Reference = self.shared(f"reference {variant}", lambda _: self._reference(variant))
        return reference

    def _reference(self, variant: str) -> Reference:
        home = Home(self.folder / variant.replace(" ", "-"), self.python, SMALL | VARIANTS[variant] | NO_STORE)
        started = time.monotonic()
        process = home.train()
        checks.require(process.wait() == 0, process.printed())
        seconds = time.monotonic() - started
        (run_dir,) = home.run_dirs()
        return Reference(checks.columns(run_dir), checks.last_checkpoint(run_dir), seconds)


Trial = Callable[[Bench, Random, Path], dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """What one trial came to."""

    case: str
    trial: int
    seed: int
    outcome: str  # held, failed or skipped
    why: str
    seconds: float
    facts: dict[str, Any]

    def line(self) -> str:
        """As a line of the results file."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: on the command line.
        fault: what is done, in words.
        trials: how many the long form has.
        trial: one of them; raises AssertionError where something does not hold, `NotHereError` where it cannot be done.
        compared: sentences on what became of other ways to do it, in the same trials.
    """

    name: str
    fault: str
    trials: int
    trial: Trial
    compared: Callable[[Sequence[Result]], list[str]]


def run_trial(bench: Bench, case: Case, trial: int, seed: int, folder: Path) -> Result:
    """Do one trial; its folder stays only where it failed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started, facts, why, outcome = time.monotonic(), {}, "", "held"
    try:
        random = Random(f"{seed} {case.name} {trial}")  # noqa: S311 - moments, not secrets
        facts = case.trial(bench, random, folder)
    except NotHereError as reason:
        outcome, why = "skipped", str(reason)
    except Exception as failure:
        outcome, why = "failed", f"{type(failure).__name__}: {failure}"
        (folder / "failure.txt").write_text(traceback.format_exc())
    if outcome != "failed":
        shutil.rmtree(folder, ignore_errors=True)
    return Result(case.name, trial, seed, outcome, why, round(time.monotonic() - started, 3), facts)
