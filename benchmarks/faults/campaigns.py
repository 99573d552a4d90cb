"""kill -9 of ``spectral ablate`` at a random moment, given again until it is done."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import Reference, require
from benchmarks.faults.home import NO_STORE, SMALL, STEPS, Home, lines
from benchmarks.faults.preloaded import wait_for
from spectral_mlflow import journal
from spectral_mlflow.monitoring.runs import is_finished

CELLS = {"none", "embedding", "qfe", "embedding+qfe"}
LONGEST = 20.0  # Seconds in which a kill comes; a training takes some of them.
MOST_KILLS = 3


def ablate(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """Killed up to three times, alone or with its trainings, a study ends with one whole run of each cell."""
    home = Home(folder, bench.python, SMALL | NO_STORE, real=True)
    moments = []
    try:
        for _ in range(random.randint(1, MOST_KILLS)):
            process = start(home)
            delay, trainings_too = random.uniform(0, LONGEST), random.random() < 0.5
            began = time.monotonic()
            wait_for(lambda: time.monotonic() - began > delay or process.poll() is not None, "the moment")  # noqa: B023
            if process.poll() is not None:
                break
            process.kill()
            for training in trainings(home) if trainings_too else ():
                training.kill()
            moments.append(f"after {delay:.1f} s{', with its trainings' if trainings_too else ''}")
        process = start(home)
        require(process.wait() == 0, f"exit code {process.poll()} after {moments}: {process.printed()[-300:]}")
        prove(home, bench.reference("standard"))
        return {"kills": len(moments), "moments": "; ".join(moments), "runs": len(home.run_dirs())}
    finally:
        for training in trainings(home):
            training.kill()


def start(home: Home) -> Any:
    """The command, as it is given again and again."""
    settings = [part for name, value in home.settings.items() for part in (f"--{name}", value)]
    return home.spectral(
        "ablate", "--components", "embedding,qfe", "--seeds", "1", "--jobs", "2", "--study", "trial",
        "--monitoring.log_interval", "1", *settings, "--dataset.path", str(home.corpus),
    )  # fmt: skip


def trainings(home: Home) -> list[psutil.Process]:
    """Trainings of this home that live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        try:
            if {"train", "resume"} & set(line[:5]) and process.environ().get("SPECTRAL_HOME") == str(home.folder):
                found.append(process)
        except psutil.Error:  # It has just ended.
            continue
    return found


def prove(home: Home, reference: Reference) -> None:
    """Each cell has one finished run, whose steps are those of a run that nobody has killed."""
    finished = [run_dir for run_dir in home.run_dirs() if is_finished(run_dir)]
    cells = Counter(_cell(run_dir) for run_dir in finished)
    require(cells == Counter(CELLS), f"finished runs by cell: {dict(cells)}")
    for run_dir in finished:
        steps = [line["step"] for line in lines(run_dir) if "loss" in line]
        require(steps == list(range(1, STEPS + 1)), f"{run_dir.name} has the steps {steps}")
    (plain,) = (run_dir for run_dir in finished if _cell(run_dir) == "none")
    checks.same_journal(plain, reference)


def _cell(run_dir: Path) -> str:
    (start, *_) = journal.records(run_dir / "logs" / "events.jsonl")
    return str(start["tags"]["spectral.cell"])
