"""Many at once: eight runs on one fresh store, two processes on one run."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.home import NO_STORE, SMALL, VARIANTS, Home, events, line_count
from benchmarks.faults.preloaded import wait_for

RUNS = 8
USER_ERROR = 2


def eight(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """Eight runs begin at once on a store that does not exist yet."""
    return together(bench, random, folder, RUNS)


def together(bench: Bench, random: Random, folder: Path, runs: int) -> dict[str, Any]:
    """So many runs begin at once; each has exactly its own points in the end."""
    home = Home(folder / "home", bench.python, SMALL | VARIANTS["standard"])
    seeds = [str(random.randrange(1000)) for _ in range(runs)]
    try:
        processes = [home.train("--seed", seed, output=f"output{n}.txt") for n, seed in enumerate(seeds)]
        for process in processes:
            require(process.wait() == 0, f"exit code {process.poll()}: {process.printed()[-300:]}")
        home.quiet()
        synced = home.sync()
        require(synced.poll() == 0, f"sync: exit code {synced.poll()}: {synced.printed()[-300:]}")
    finally:
        home.end()
    run_dirs = home.run_dirs()
    require(len(run_dirs) == runs, f"{len(run_dirs)} run directories")
    for run_dir in run_dirs:
        checks.columns(run_dir)
        checks.same_store(home, run_dir)
        checks.status_is(home, run_dir, "FINISHED")
    return {"behind": "already" not in synced.printed()}


def two(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """A second process on the directory of a run that is being trained is refused in one line."""
    home = bench.home(folder / "home", SMALL | VARIANTS["standard"] | NO_STORE | {"training.steps": "400"})
    first = home.train()
    try:
        step = random.randint(5, 200)
        wait_for(lambda: home.run_dirs() and line_count(home.run_dirs()[0]) >= step, f"step {step}")
        (run_dir,) = home.run_dirs()
        second = home.spectral("resume", str(run_dir), "--steps", "500", output="second.txt")
        require(first.poll() is None or second.poll() is not None, "the first ended too early to tell")
        code, said = second.wait(), second.printed().strip()
        require(code == USER_ERROR, f"the second process: exit code {code}: {said[-300:]}")
        require("\n" not in said and "is being written by process" in said, f"the second process said: {said}")
        require(first.wait() == 0, f"the first process: exit code {first.poll()}: {first.printed()[-300:]}")
    finally:
        home.end()
    found = checks.columns(run_dir)
    require(sorted(found["loss"]) == list(range(1, 401)), "the journal does not have each step once")
    require(not events(run_dir, "resume"), "the second process wrote into the run")
    return {"step": step}
