"""What retention keeps: tables of checkpoints in, kept steps out."""

import math
import tempfile
from pathlib import Path

import pytest
import torch
from checkpointing import save, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import CheckpointManager, CheckpointStrategy
from spectral_mlflow.monitoring.checkpoint_list import Checkpoint
from spectral_mlflow.monitoring.retention import (
    Policy,
    at_most,
    best,
    every,
    everything,
    hourly,
    last,
    nothing,
    ranked,
    spread,
)


def record(step: int, sequence: int, loss: float | None = None, minutes: int | None = None) -> Checkpoint:
    """A checkpoint, saved so many minutes after noon."""
    timestamp = "" if minutes is None else f"2026-01-31T{12 + minutes // 60:02d}:{minutes % 60:02d}:00.000Z"
    metrics = {} if loss is None else {"val_loss": loss}
    return Checkpoint(Path(f"{step}.pt"), step, sequence, 0, "", timestamp=timestamp, metrics=metrics)


LOSSES = {100: 3.0, 200: 1.0, 300: math.nan, 400: 2.0, 500: None, 600: 1.0}
RUN = [record(step, step // 100, loss, minutes=step // 100 * 10) for step, loss in LOSSES.items()][::-1]


@pytest.mark.parametrize(("policy", "kept"), [
    (last(2), [600, 500]),
    (last(9), [600, 500, 400, 300, 200, 100]),
    (best(1), [200]),
    (best(2), [600, 200]),
    (best(9), [600, 400, 200, 100]),
    (best(1, maximize=True), [100]),
    (best(1, "accuracy"), []),
    (every(300), [600, 300]),
    (every(0), []),
    (hourly(0.5), [400, 100]),
    (hourly(1 / 6), [600, 500, 400, 300, 200, 100]),
    (hourly(24), [100]),
    (hourly(0), []),
    (spread(100, 3), [500, 400, 200]),
    (spread(10, 2), [600]),
    (last(1) | best(1) | every(300), [600, 300, 200]),
    (at_most(3, best(1)), [600, 500, 200]),
    (at_most(1, last(1) | best(1)), [600, 200]),
    (nothing, []),
    (everything, [600, 500, 400, 300, 200, 100]),
])  # fmt: skip
def test_what_is_kept(policy: Policy, kept: list[int]) -> None:
    """Each policy keeps the steps that it promises."""
    assert [known.step for known, keep in zip(RUN, policy(RUN), strict=True) if keep] == kept


def test_newest_goes_by_the_order_of_writing() -> None:
    """After a run went back, an older step that was written later is the newer one."""
    records = [record(200, 3), record(300, 2), record(100, 1)]
    assert last(1)(records) == [True, False, False]


def test_clock_that_was_set_back_does_not_stop_the_hours() -> None:
    """A checkpoint from before the last kept one counts as due once it is far enough away, either way."""
    records = [record(3, 3, minutes=10), record(2, 2, minutes=100), record(1, 1, minutes=90)]
    assert hourly(1)(records) == [True, False, True]


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 9) | st.none() | st.just(math.nan)), max_size=12))
def test_or_keeps_what_either_keeps(saves: list[tuple[int, float | None]]) -> None:
    """Policies combine like sets, and none depends on files that others would remove."""
    records = [record(step, place, loss) for place, (step, loss) in enumerate(saves, 1)][::-1]
    one, other = last(2) | every(5), best(2)
    assert (one | other)(records) == [a or b for a, b in zip(one(records), other(records), strict=True)]
    survivors = [known for known, keep in zip(records, (one | other)(records), strict=True) if keep]
    assert all((one | other)(survivors))
    assert ranked(records, "val_loss")[:2] == ranked(survivors, "val_loss")[:2]


# The manager


@settings(max_examples=15)
@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, math.nan]), min_size=1, max_size=7), st.booleans(), st.integers(1, 3))
def test_strategy_keeps_the_newest_the_best_and_no_more(losses: list[float], restart: bool, most: int) -> None:
    """After any run, also in several processes, the newest and the best are there, and at most so many files."""
    strategy = CheckpointStrategy(max_checkpoints=most)
    with tempfile.TemporaryDirectory() as folder:
        manager = CheckpointManager(folder, strategy=strategy)
        for step, loss in enumerate(losses, 1):
            save(manager, step, metrics={"val_loss": loss})
            manager = CheckpointManager(folder, strategy=strategy) if restart else manager
        finite = [loss for loss in losses if math.isfinite(loss)]
        kept = steps(manager)
        assert kept[0] == len(losses)
        assert len(kept) <= max(most, 2 if finite else 1)
        if finite:
            first_best = losses.index(min(finite)) + 1
            assert first_best in kept
            loaded = manager.load_best_checkpoint("val_loss", maximize=False)
            assert loaded is not None
            assert loaded["step"] == first_best


def test_every_field_of_the_strategy_has_an_effect(tmp_path: Path) -> None:
    """Interval, best, latest, metric, number and cleaning up do what they say."""
    strategy = CheckpointStrategy(
        save_interval=10, save_best=True, save_latest=False, best_metric="accuracy", max_checkpoints=2, maximize=True
    )
    manager = CheckpointManager(str(tmp_path / "a"), strategy=strategy)
    assert [step for step in range(31) if manager.should_checkpoint(step)] == [10, 20, 30]
    assert manager.should_checkpoint(3, {"accuracy": 0.5})
    for step, accuracy in enumerate((0.5, 0.9, 0.7, 0.6), 1):
        save(manager, step, metrics={"accuracy": accuracy, "val_loss": accuracy})
    assert steps(manager) == [4, 2]
    assert not manager.should_checkpoint(5, {"accuracy": 0.8})
    assert manager.should_checkpoint(5, {"accuracy": 0.95})
    assert not manager.should_checkpoint(5, {"accuracy": math.nan})
    best_path = manager.best_path()
    assert best_path is not None
    assert Path(best_path).name == "checkpoint_step_2.pt"
    assert not (manager.directory / "checkpoint_latest.pt").exists()

    strategy = CheckpointStrategy(save_best=False, max_checkpoints=1, cleanup_old=False)
    manager = CheckpointManager(str(tmp_path / "b"), strategy=strategy)
    for step in (1, 2, 3):
        save(manager, step, metrics={"val_loss": float(step)})
    assert steps(manager) == [3, 2, 1]
    assert manager.best_path() is None
    assert not manager.should_checkpoint(5, {"val_loss": 0.1})
    assert (manager.directory / "checkpoint_latest.pt").readlink() == Path("checkpoint_step_3.pt")


@pytest.mark.parametrize("bad", [{"save_interval": 0}, {"max_checkpoints": 0}])
def test_strategy_refuses_numbers_below_one(bad: dict[str, int]) -> None:
    """With the name of the field."""
    with pytest.raises(UserError, match=f"{next(iter(bad))}: given 0; allowed: 1 or more"):
        CheckpointStrategy(**bad)  # type: ignore[arg-type]


def test_further_policy_survives_a_restart(tmp_path: Path) -> None:
    """What was kept besides the newest is kept by a manager that comes later, which knows it from the files alone."""
    keep = best(2) | every(4)
    for step, loss in enumerate((3.0, 1.0, 2.0, 5.0, 6.0, 7.0), 1):
        save(CheckpointManager(str(tmp_path), keep_last_n=1, keep=keep), step, metrics={"val_loss": loss})
    assert steps(CheckpointManager(str(tmp_path))) == [6, 4, 3, 2]


def test_best_by_any_metric_passes_over_damage(tmp_path: Path) -> None:
    """The best that is whole is loaded, by whichever metric and direction; None where no file has the metric."""
    manager = CheckpointManager(str(tmp_path), keep_last_n=9)
    for step, loss in enumerate((3.0, 1.0, 2.0), 1):
        path = Path(save(manager, step, metrics={"val_loss": loss, "accuracy": -loss}))
        if step == 2:
            path.write_bytes(path.read_bytes()[:-200])
    for found, step in (
        (manager.load_best_checkpoint(), 3),
        (manager.load_best_checkpoint("val_loss", maximize=True), 1),
        (manager.load_best_checkpoint("accuracy", maximize=True), 3),
    ):
        assert found is not None
        assert found["step"] == step
    assert manager.load_best_checkpoint("bleu") is None


def test_metrics_may_be_tensors_and_many(tmp_path: Path) -> None:
    """What decides which is the best is known after a restart, also as a tensor and after two hundred others."""
    strategy = CheckpointStrategy(max_checkpoints=2)
    for step, value in enumerate((0.1, 0.5, 0.9, 0.95), start=1):
        manager = CheckpointManager(str(tmp_path), strategy=strategy)
        others = {f"layer.{number}.attention.gradient_norm": 1.0 for number in range(300)}
        save(manager, step, metrics={**others, "val_loss": torch.tensor(value)})
    assert steps(manager) == [4, 1]
    best_one = manager.load_best_checkpoint("val_loss")
    assert best_one is not None
    assert best_one["step"] == 1
