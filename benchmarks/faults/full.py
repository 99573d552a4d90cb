"""A small disk that fills up while a checkpoint, metrics, a plot or the code snapshot are written."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.home import SMALL, VARIANTS, Home, events, line_count, lines
from benchmarks.faults.mounts import fill, tmpfs
from benchmarks.faults.preloaded import Process, wait_for

SIZE = 8 << 20
STEPS = 400
PLOT_STEP = 200
SETTINGS = {**SMALL, **VARIANTS["standard"], "training.steps": str(STEPS), "monitoring.checkpoint_interval": "50",
            "monitoring.eval_interval": "50"}  # fmt: skip


def checkpoint(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """No room for a checkpoint: it is skipped, told of, and later ones are saved."""
    with _home(bench, folder, SETTINGS) as home:
        process = home.train()
        _until_step(home, process, random.randint(1, 300))
        filler = fill(home.folder, leave=300_000)
        _until(process, lambda: _alerts(home, "checkpoint"), "a checkpoint is skipped")
        filler.unlink()
        run_dir = _prove(home, process, "checkpoint")
        require(_alerts(home, "checkpoint"), "no alert of the skipped checkpoint")
        require(checks.last_checkpoint(run_dir)["step"] == STEPS, "the last checkpoint is not there")
        return {"skipped": len(_alerts(home, "checkpoint"))}


def metrics(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """No room for a line of metrics: it waits in memory."""
    with _home(bench, folder, SETTINGS) as home:
        process = home.train()
        _until_step(home, process, random.randint(1, 300))
        filler = fill(home.folder)
        _until(process, lambda: "in memory" in process.printed(), "a line is kept in memory")
        time.sleep(random.uniform(0, 0.2))
        full_at = line_count(home.run_dirs()[0])
        filler.unlink()
        _prove(home, process, "kept in memory")
        return {"full_at": full_at}


def plot(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """No room for a plot: it is told of, and no half of it stays."""
    settings = SETTINGS | {"monitoring.viz_interval": str(PLOT_STEP), "monitoring.checkpoint_interval": "1000"}
    with _home(bench, folder, settings) as home:
        process = home.train()
        _until_step(home, process, PLOT_STEP - random.randint(2, 20))
        filler = fill(home.folder, leave=random.choice((0, 16_384)))
        _until(process, lambda: _told_of_plots(home), "a plot is told to have failed")
        filler.unlink()
        run_dir = _prove(home, process, "")
        drawn = list((run_dir / "visualizations").glob("*.png"))
        require(drawn, "no plots at the end")
        broken = [path.name for path in drawn if not path.read_bytes().endswith(b"IEND\xaeB`\x82")]
        require(not broken, f"half a plot stayed: {broken}")
        return {"drawn": len(drawn)}


def snapshot(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """No room for the code snapshot: the run begins without it, and says so."""
    with _home(bench, folder, SETTINGS | {"monitoring.code_snapshot": "true"}) as home:
        _repository(home.aside)
        filler = fill(home.folder, leave=random.randint(250_000, 600_000))
        process = home.train()
        _until(process, lambda: _has_begun(home, process), "the first step")
        filler.unlink()
        _prove(home, process, "snapshot")
        return {}


@contextmanager
def _home(bench: Bench, folder: Path, settings: dict[str, str]) -> Iterator[Home]:
    """A home on a small disk, its store on another one."""
    with tmpfs(folder / "disk", SIZE) as disk:
        home = bench.home(disk / "home", settings, outside=folder / "outside")
        try:
            yield home
        finally:
            home.end()


def _repository(folder: Path) -> None:
    """A working tree with an uncommitted change of a megabyte."""
    big = folder / "big.txt"
    big.write_text("one\n")
    git = ("git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@example.org")
    for command in (("init", "-q"), ("add", "big.txt"), ("commit", "-q", "-m", "one")):
        subprocess.run([*git, *command], check=True, capture_output=True)
    big.write_text("two and more\n" * 80_000)


def _has_begun(home: Home, process: Process) -> bool:
    """The first line is written, or waits in memory."""
    return "in memory" in process.printed() or any(line_count(run_dir) for run_dir in home.run_dirs())


def _until_step(home: Home, process: Process, step: int) -> None:
    _until(process, lambda: home.run_dirs() and line_count(home.run_dirs()[0]) >= step, f"step {step}")


def _until(process: Process, true: Callable[[], Any], what: str) -> None:
    wait_for(lambda: true() or process.poll() is not None, what)
    require(true(), f"the run ended (exit code {process.poll()}) before this: {what}: {process.printed()[-500:]}")


def _alerts(home: Home, kind: str) -> list[dict[str, Any]]:
    return [event for run_dir in home.run_dirs() for event in events(run_dir, "alert") if event["kind"] == kind]


def _log(home: Home) -> str:
    return "".join(
        path.read_text(errors="replace") for path in (home.folder / "experiments").glob("*/logs/training.log")
    )


def _told_of_plots(home: Home) -> bool:
    """In the log, or, while there is no room for that either, on the terminal."""
    told = _log(home) + (home.aside / "output.txt").read_text()
    return any(f"{name}" in told for name in ("loss_curve", "training_dynamics", "plot"))


def _prove(home: Home, process: Process, message: str) -> Path:
    """The run was finished, the message came, and every line is in the journal and in MLflow."""
    require(process.wait() == 0, f"exit code {process.poll()}: {process.printed()[-500:]}")
    (run_dir,) = home.run_dirs()
    told = process.printed() + _log(home)
    require(message in told, f"nobody was told of the {message}")
    steps = sorted(line["step"] for line in lines(run_dir) if "loss" in line)
    require(steps == list(range(1, STEPS + 1)), f"{STEPS - len(set(steps))} lines are missing")
    home.quiet()
    synced = home.sync()
    require(synced.poll() == 0, f"sync: exit code {synced.poll()}: {synced.printed()[-300:]}")
    checks.same_store(home, run_dir)
    checks.status_is(home, run_dir, "FINISHED")
    return run_dir
