"""Which runs may go, and how they go."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import cleanup
from spectral_mlflow.monitoring.cleanup import Candidate
from spectral_mlflow.monitoring.run_lock import run_lock
from spectral_mlflow.monitoring.runs import run_directories

NOW = datetime(2026, 1, 31, tzinfo=UTC)

candidates = st.lists(
    st.builds(
        Candidate,
        run_dir=st.integers(0, 10**6).map(lambda number: Path(f"run_{number}")),
        model=st.sampled_from(["wave", "standard"]),
        status=st.sampled_from(["FINISHED", "FAILED", "KILLED", "RUNNING"]),
        last_written=st.integers(0, 100).map(lambda days: NOW - timedelta(days=days)),
        best_val_loss=st.none() | st.floats(0, 5),
        bytes=st.integers(0, 10**9),
    ),
    unique_by=lambda run: run.run_dir,
)


def some(number: int = 4) -> list[Candidate]:
    """Runs of 0, 1, 2 ... days ago, the older the better."""
    return [
        Candidate(Path(f"run_{n}"), "wave", "FINISHED", NOW - timedelta(days=n), 2.0 - n / 10, 100)
        for n in range(number)
    ]


def names(runs: list[Candidate]) -> list[str]:
    """Of the directories."""
    return [run.run_dir.name for run in runs]


def test_each_rule_alone() -> None:
    """Age, number, quality and status choose what they say."""
    runs = some()
    assert names(cleanup.expendable(runs, [cleanup.older_than(1.5, NOW)])) == ["run_2", "run_3"]
    assert names(cleanup.expendable(runs, [cleanup.all_but_newest(1)])) == ["run_1", "run_2", "run_3"]
    assert names(cleanup.expendable(runs, [cleanup.all_but_newest(9)])) == []
    assert names(cleanup.expendable(runs, [cleanup.all_but_best(1)])) == ["run_0", "run_1", "run_2"]
    assert names(cleanup.expendable(runs, [cleanup.with_status("KILLED")])) == []


@given(candidates, st.integers(0, 5), st.integers(0, 5), st.floats(0, 100))
def test_what_any_rule_keeps_stays(runs: list[Candidate], newest: int, best: int, days: float) -> None:
    """Several rules let go only what each of them lets go; running ones stay; without a rule all do."""
    rules = [cleanup.all_but_newest(newest), cleanup.all_but_best(best), cleanup.older_than(days, NOW)]
    going = cleanup.expendable(runs, rules)
    assert all(run in cleanup.expendable(runs, [rule]) for rule in rules for run in going)
    assert all(run.status != "RUNNING" for run in going)
    assert cleanup.expendable(runs, []) == []
    assert len(runs) - len(cleanup.expendable(runs, rules[:1])) >= min(newest, len(runs))
    for model in ("wave", "standard"):
        measured = [run.best_val_loss for run in runs if run.model == model and run.best_val_loss is not None]
        kept = [run.best_val_loss for run in runs if run.model == model and run not in going]
        assert not measured or not best or min(measured) in kept


def test_removal_is_whole(tmp_path: Path) -> None:
    """A run that is written stays; one that is not is gone, also when the removal before was interrupted."""
    run = tmp_path / "wave_1"
    (run / "logs").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with run_lock(run), pytest.raises(UserError, match="is being written"):
        cleanup.remove(run)
    run.rename(tmp_path / f"{cleanup.REMOVED}wave_1")
    assert run_directories(tmp_path) == []
    cleanup.finish_removals(tmp_path)
    assert list(tmp_path.iterdir()) == []
