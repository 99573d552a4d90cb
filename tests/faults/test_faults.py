"""The fault bench with small counts: the same trials as `python -m benchmarks.faults`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.faults import companions, crowd, damage, ext4, full, kills, power
from benchmarks.faults.__main__ import main
from benchmarks.faults.bench import Bench, Trial, run_trial
from benchmarks.faults.cases import CASES

Run = Callable[[Trial, int], dict[str, Any]]


@pytest.mark.parametrize("seed", [4, 5])
def test_killed_trainer_is_the_same_run(run: Run, seed: int) -> None:
    """Killed at a random moment and resumed until done, a run equals an uninterrupted one to the last bit."""
    assert run(kills.trainer, seed)["kills"] > 0


@pytest.mark.parametrize("trial", [companions.companion, companions.both, companions.slow])
def test_killed_companion_loses_nothing(run: Run, trial: Trial) -> None:
    """Killed alone, with its trainer or before a slow store: every line is in MLflow exactly once after a sync."""
    assert run(trial, 0)["lines"] > 0


def test_power_cuts_lose_nothing_acknowledged(run: Run) -> None:
    """Of everything that POSIX lets a power cut drop, no acknowledged checkpoint and no line before it is lost."""
    trials = [run(power.cut, seed) for seed in range(12)]
    assert sum(trial["acknowledged"] for trial in trials) > 0
    assert sum(trial["plain_lost"] for trial in trials) > 0, "cuts that lose nothing anywhere prove nothing"


def test_true_file_system_loses_nothing_acknowledged(run: Run) -> None:
    """An ext4 that is shut down under a run gives back every acknowledged checkpoint."""
    for seed in range(2):
        trial = run(ext4.shutdown, seed)
        assert trial["newest"] <= 40


@pytest.mark.parametrize(("trial", "count"), [(damage.bit, 40), (damage.block, 10), (damage.end, 10)])
def test_damage_is_noticed(run: Run, trial: Trial, count: int) -> None:
    """A flipped bit, a block of zeros, a cut end: never read as if nothing was, and the checkpoint before is taken."""
    accepted = [run(trial, seed)["torch_load_accepts"] for seed in range(count)]
    assert trial is not damage.bit or any(accepted), "damage that everybody notices proves nothing"


@pytest.mark.parametrize("trial", [full.checkpoint, full.metrics, full.plot, full.snapshot])
def test_full_disk_stops_nothing(run: Run, trial: Trial) -> None:
    """Training finishes, somebody is told, and every line is there once there is space again."""
    run(trial, 0)


def test_runs_that_begin_together_stay_apart(bench: Bench, tmp_path: Path) -> None:
    """Several runs on a store that does not exist yet: no error, and each has exactly its own points."""
    crowd.together(bench, Random(0), tmp_path / "crowd", runs=2)


def test_second_process_is_refused(run: Run) -> None:
    """A run directory that is being written refuses another writer in one line."""
    assert run(crowd.two, 0)["step"] > 0


def test_long_form_goes_on_where_it_was(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Started again, the bench skips the trials that are done, and its table has them all."""
    command = ["--out", str(tmp_path / "out"), "--only", "end", "--trials"]
    assert main([*command, "2"], bench) == 0
    assert main([*command, "3"], bench) == 0
    first, again = capsys.readouterr().out.split("**What holds after a fault**")[1:]
    assert "| a checkpoint truncated | 2 | 2 | 0 | 0 |" in first
    assert "| a checkpoint truncated | 3 | 3 | 0 | 0 |" in again
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 3


def test_failure_is_told_and_kept(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trial in which something does not hold fails the bench, names its seed, and leaves its folder."""
    result = run_trial(bench, replace(CASES["end"], trial=_fails), 7, 3, tmp_path / "out" / "failed" / "end-7")
    (tmp_path / "out" / "results.jsonl").write_text(result.line())
    assert main(["--out", str(tmp_path / "out"), "--only", "end", "--trials", "8", "--jobs", "1"], bench) == 1
    told = capsys.readouterr().out
    assert "| a checkpoint truncated | 8 | 7 | 1 | 0 |" in told
    assert "--seed 3 --only end --trial 7" in told
    assert "a line is lost" in (tmp_path / "out" / "failed" / "end-7" / "failure.txt").read_text()


def _fails(*_: object) -> dict[str, Any]:
    raise AssertionError("a line is lost")
