"""kill -9 of the trainer at a random moment, resumed until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults import checks
from benchmarks.faults.bench import Bench
from benchmarks.faults.checks import require
from benchmarks.faults.home import SMALL, STEPS, VARIANTS, Home, events, line_count
from benchmarks.faults.preloaded import Process
from spectral_mlflow.monitoring.runs import is_finished

LIVES = 30  # More than any trial needs.
REAL = 0.1  # Share of trials whose companions are true new interpreters.


def trainer(bench: Bench, random: Random, folder: Path) -> dict[str, Any]:
    """One run, killed up to three times, equals an uninterrupted one in every deterministic respect."""
    variant = random.choice(list(VARIANTS))
    wanted = random.choice((1, 1, 2, 3))
    reference = bench.reference(variant)
    for attempt in range(LIVES):  # A moment that comes after the end kills nothing: the trial is drawn again.
        home = bench.home(folder / f"attempt{attempt}", SMALL | VARIANTS[variant], real=random.random() < REAL)
        try:
            moments = live(home, random, reference.seconds, wanted)
            if moments:
                home.end() if random.random() < 0.5 else home.quiet()
                prove(home, reference)
                return {"variant": variant, "kills": len(moments), "moments": "; ".join(moments)}
        finally:
            home.end()
    raise AssertionError(f"in {LIVES} runs no moment came before the end")


def live(home: Home, random: Random, seconds: float, wanted: int) -> list[str]:
    """Train, kill, resume until done; returns the moments of the kills."""
    moments: list[str] = []
    for _ in range(LIVES):
        process = go_on(home)
        if process is None:
            return moments
        if len(moments) < wanted:
            what, strike = moment(random, seconds)
            if strike(home, process):
                moments.append(what)
                continue
        code = process.wait()
        require(code == 0, f"exit code {code} after {moments}: {process.printed()[-300:]}")
    raise AssertionError(f"not done after {LIVES} lives")


def go_on(home: Home) -> Process | None:
    """Continue the newest run, or start one where there is nothing to continue; None when it is done."""
    newest = next(reversed(home.run_dirs()), None)
    if newest is not None and is_finished(newest):
        return None
    if newest is not None and any((newest / "checkpoints").glob("checkpoint_step_*.pt")):
        return home.spectral("resume", str(newest))
    return home.train()


def moment(random: Random, seconds: float) -> tuple[str, Callable[[Home, Process], bool]]:
    """A moment of a run's life, in words, and what waits for it and kills. Half by time, half by progress."""
    kind = random.choice(("time", "time", "time", "step", "writing", "event"))
    if kind == "time":
        delay = random.uniform(0, seconds)
        return f"after {delay:.3f} s", _when(lambda _, started: time.monotonic() - started > delay)
    extra = random.uniform(0, 0.02)
    if kind == "step":
        step = random.randint(1, STEPS)
        return f"at step {step}", _when(lambda home, _: line_count(home.run_dirs()[-1]) >= step, extra)
    if kind == "writing":
        nth = random.randint(1, STEPS // 5)
        return f"while checkpoint {nth} is written", _when(_writes(nth), extra / 10)
    nth = random.randint(1, 25)
    return f"at event {nth}", _when(lambda home, _: len(events(home.run_dirs()[-1])) >= nth, extra)


Condition = Callable[[Home, float], bool]


def _when(condition: Condition, extra: float = 0.0) -> Callable[[Home, Process], bool]:
    def strike(home: Home, process: Process) -> bool:
        """Kill when the condition is true, and a little later; whether the process was still there."""
        started = time.monotonic()
        while process.poll() is None:
            if (condition(home, started) if home.run_dirs() else False) or _overdue(condition, home, started):
                time.sleep(extra)
                return not_yet_ended(process)
            time.sleep(0.001)
        return False

    return strike


def _overdue(condition: Condition, home: Home, started: float) -> bool:
    """A moment by time may come before there is a run directory."""
    try:
        return condition(home, started)
    except IndexError:
        return False


def not_yet_ended(process: Process) -> bool:
    """Kill it, and tell whether that is what ended it."""
    process.kill()
    return process.poll() == -9


def _writes(nth: int) -> Condition:
    """The n-th temporary file of a checkpoint is there."""
    seen: set[str] = set()

    def condition(home: Home, _: float) -> bool:
        folder = home.run_dirs()[-1] / "checkpoints"
        seen.update(path.name for path in folder.glob(".checkpoint*"))
        return len(seen) >= nth

    return condition


def prove(home: Home, reference: checks.Reference) -> None:
    """Everything that must hold of the run that was killed and resumed, and of those that could not be resumed."""
    synced = home.sync()
    require(synced.poll() == 0, f"sync: exit code {synced.poll()}: {synced.printed()[-300:]}")
    *abandoned, finished = home.run_dirs()
    checks.same_journal(finished, reference)
    checks.same_parameters(finished, reference)
    checks.no_surprise(finished)
    require((finished / "results.json").is_file(), "no results.json")
    checks.same_store(home, finished)
    checks.same_history(home, finished, reference)
    checks.status_is(home, finished, "FINISHED")
    for run_dir in abandoned:
        if events(run_dir, "start"):
            checks.same_store(home, run_dir)
            checks.status_is(home, run_dir, "KILLED")
