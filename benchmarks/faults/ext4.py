"""A power cut of a true file system: an ext4 is shut down while a real run trains on it."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.home import NO_STORE, SMALL, STEPS, VARIANTS, events, line_count, lines
from benchmarks.faults.kills import go_on
from benchmarks.faults.mounts import ext4
from benchmarks.faults.preloaded import wait_for
from spectral_mlflow.monitoring.checkpoints import CheckpointManager

RESUMED = 0.2  # Share of trials in which training goes on afterwards, to its end.


def shutdown(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """What was acknowledged before the cut loads after it, and the journal covers it."""
    variant = random.choice(list(VARIANTS))
    with ext4(folder / "ext4") as disk:
        home = bench.home(disk.folder / "home", SMALL | VARIANTS[variant] | NO_STORE, outside=folder / "outside")
        process = home.train()
        step, extra = random.randint(1, STEPS), random.uniform(0, 0.05)
        wait_for(lambda: process.poll() is not None or _reached(home, step), f"step {step}")
        time.sleep(extra)
        acknowledged = [e["step"] for run_dir in home.run_dirs() for e in events(run_dir, "checkpoint")]
        truth = [line for run_dir in home.run_dirs() for line in lines(run_dir)]
        disk.cut_power()
        process.kill()
        home.end()
        disk.restart()
        newest = _prove(home, max(acknowledged, default=0), {line["step"]: line for line in truth})
        resumed = random.random() < RESUMED
        if resumed:
            _resume(bench, home, variant)
    return {"variant": variant, "cut": f"step {step}", "acknowledged": len(acknowledged), "newest": newest,
            "resumed": resumed}  # fmt: skip


def _reached(home: Any, step: int) -> bool:
    found = home.run_dirs()
    return bool(found) and line_count(found[-1]) >= step


def _prove(home: Any, acknowledged: int, truth: dict[int, dict[str, Any]]) -> int:
    found = home.run_dirs()
    require(found or not acknowledged, "the run directory is lost")
    if not found:
        return 0
    newest = CheckpointManager(str(found[-1])).load_latest_checkpoint()
    step = int(newest["step"]) if newest else 0
    require(
        step >= acknowledged, f"step {acknowledged} was acknowledged, but the newest checkpoint that loads is {step}"
    )
    written = {line["step"]: line for line in lines(found[-1])}
    lost = [n for n in range(1, step + 1) if n not in written or (n in truth and written[n] != truth[n])]
    require(not lost, f"the journal lacks steps {lost[:5]} before the checkpoint of step {step}")
    return step


def _resume(bench: Bench, home: Any, variant: str) -> None:
    process = go_on(home)
    if process is not None:
        require(process.wait() == 0, f"resume: exit code {process.poll()}: {process.printed()[-300:]}")
    checks.same_journal(home.run_dirs()[-1], bench.reference(variant))
    checks.same_parameters(home.run_dirs()[-1], bench.reference(variant))
