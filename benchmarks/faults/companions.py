"""kill -9 of the companion, of companion and trainer, and of the companion while MLflow is slow."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.home import SMALL, VARIANTS, Home, events, is_gone, line_count, query
from benchmarks.faults.preloaded import Process, wait_for

COMPANION = "spectral_mlflow.stores"
STEPS = 300  # A run long enough to be met by several kills.
POINTS = 3600  # About as many as such a run has.
REAL = 0.1
SETTINGS = {**SMALL, **VARIANTS["standard"], "training.steps": str(STEPS), "monitoring.checkpoint_interval": "50",
            "monitoring.eval_interval": "50"}  # fmt: skip


def companion(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """The companion is killed, perhaps again after it was started again; the trainer does not notice."""
    home, process = _start(bench, random, folder)
    try:
        kills = _kill_companions(home, random, process, random.choice((1, 1, 2, 3)))
        require(process.wait() == 0, f"the trainer: exit code {process.poll()}: {process.printed()[-300:]}")
        return {"stored": kills} | _prove(home, "FINISHED")
    finally:
        home.end()


def both(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """Both are killed at the same moment."""
    home, process = _start(bench, random, folder)
    try:
        sent = _kill_companion(home, random, process, first=process if random.random() < 0.5 else None)
        process.kill()
        return {"stored": sent} | _prove(home, "KILLED", "FINISHED")
    finally:
        home.end()


def slow(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """The companion is killed while it waits for a database that others hold locked most of the time."""
    home, process = _start(bench, random, folder)
    try:
        with locked(home, random.choice((0.05, 0.3, 1.0))):
            kills = _kill_companions(home, random, process, random.choice((1, 2)))
            require(process.wait() == 0, f"the trainer: exit code {process.poll()}: {process.printed()[-300:]}")
        return {"stored": kills} | _prove(home, "FINISHED")
    finally:
        home.end()


@contextmanager
def locked(home: Home, seconds: float) -> Iterator[None]:
    """Another process holds the database's write lock for periods of up to so many seconds."""
    locker = home.run("benchmarks.faults.locker", str(home.store), str(seconds), output="locker.txt")
    try:
        yield
    finally:
        locker.kill()


def _start(bench: Bench, random: Random, folder: Path) -> tuple[Home, Process]:
    home = bench.home(folder / "home", SETTINGS, real=random.random() < REAL)
    return home, home.train()


def _kill_companions(home: Home, random: Random, trainer: Process, number: int) -> list[int]:
    """Kill the companion, and each that is started in its place; perhaps nobody is in place of the last one."""
    kills = []
    for left in reversed(range(number)):
        kills.append(_kill_companion(home, random, trainer))
        if left or random.random() < 0.5:
            home.run(COMPANION, str(home.run_dirs()[0]), "--follow", output="again.txt")
    return kills


def _kill_companion(home: Home, random: Random, trainer: Process, *, first: Process | None = None) -> int:
    """Kill the companion at a random moment; returns how many points the store had then.

    Args:
        home: where it works.
        random: draws the moment: any step of the trainer, or any progress of the companion.
        trainer: whose companion it is.
        first: what is killed right before.
    """
    wait_for(lambda: home.forks(COMPANION) or trainer.poll() is not None, "the companion runs")
    (run_dir,) = home.run_dirs()
    step, extra = random.randint(0, STEPS), random.choice((0.0, random.uniform(0, 0.1), random.uniform(0, 1.0)))
    if random.random() < 0.5:
        wait_for(lambda: line_count(run_dir) >= step or not home.forks(COMPANION), f"step {step}")
    else:
        points = random.randint(0, POINTS)
        wait_for(
            lambda: _stored(home) >= points or not home.forks(COMPANION), f"{points} points are stored", pause=0.02
        )
    time.sleep(extra)
    if first is not None:
        first.kill()
    killed = home.forks(COMPANION)
    for pid in killed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, killed)), "the companion is gone")
    return _stored(home)


def _stored(home: Home) -> int:
    """How many points are in the store."""
    return int(query(home.store, "SELECT count(*) FROM metrics")[0][0])


def _prove(home: Home, *statuses: str) -> dict[str, Any]:
    """After a sync every line is in MLflow exactly once, and the status is true."""
    home.quiet()
    (run_dir,) = home.run_dirs()
    lines = line_count(run_dir)
    synced = home.sync()
    require(synced.poll() == 0, f"sync: exit code {synced.poll()}: {synced.printed()[-300:]}")
    if events(run_dir, "start"):
        checks.same_store(home, run_dir)
        ended = [event["status"] for event in events(run_dir, "end")]
        require(not ended or ended[-1] in statuses, f"ended as {ended}")
        checks.status_is(home, run_dir, ended[-1] if ended else "KILLED")
    return {"lines": lines, "real": home.real}
