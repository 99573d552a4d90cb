"""CheckpointManager: completeness, resuming, retention and order."""

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpointing import save, steps, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import CheckpointManager

SPEC_KEYS = {"step", "model_state_dict", "optimizer_state_dict", "loss_history", "config", "timestamp", "git_hash"}

LOSSES = st.lists(st.floats(), max_size=20)
CONFIGS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(step=st.integers(0, 10**9), losses=LOSSES, config=CONFIGS, seed=st.integers(0, 99))
def test_what_is_saved_is_loaded(step: int, losses: list[float], config: dict[str, Any], seed: int) -> None:
    """Property 1: a checkpoint has exactly the documented keys and gives back every bit of the state."""
    model, optimizer = trained(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = CheckpointManager(folder).save_checkpoint(step, model, optimizer, losses, config)
        loaded = CheckpointManager(folder).load_latest_checkpoint()
    assert path == f"{folder}/checkpoints/checkpoint_step_{step}.pt"
    assert loaded is not None
    assert set(loaded) == SPEC_KEYS
    assert loaded["step"] == step
    assert [str(loss) for loss in loaded["loss_history"]] == [str(loss) for loss in losses]
    assert loaded["config"] == config
    torch.testing.assert_close(loaded["model_state_dict"], model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded["optimizer_state_dict"], optimizer.state_dict(), rtol=0, atol=0)


def test_resumed_training_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    """Property 2: the first loss after loading equals, to the bit, that of uninterrupted training."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        optimizer.zero_grad()
        loss = model(torch.arange(6.0).view(2, 3)).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    model, optimizer = trained()
    CheckpointManager(str(tmp_path)).save_checkpoint(1, model, optimizer, [], {})
    expected = [step(model, optimizer) for _ in range(3)]
    model, optimizer = trained(seed=5)
    loaded = CheckpointManager(str(tmp_path)).load_latest_checkpoint()
    assert loaded is not None
    model.load_state_dict(loaded["model_state_dict"])
    optimizer.load_state_dict(loaded["optimizer_state_dict"])
    assert [step(model, optimizer) for _ in range(3)] == expected


def test_scheduler_metrics_and_state_are_kept_when_given(tmp_path: Path) -> None:
    """What is given besides is found under its own key."""
    model, optimizer = trained()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: 1 / (step + 1)])
    manager = CheckpointManager(str(tmp_path))
    state = {"rng": torch.get_rng_state(), "python": random.getstate()}
    manager.save_checkpoint(
        1, model, optimizer, [], {}, scheduler=scheduler, state=state, metrics={"val_loss": np.float64(2.5)}
    )
    loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    assert set(loaded) == SPEC_KEYS | {"scheduler_state_dict", "metrics", "state"}
    assert loaded["scheduler_state_dict"]["last_epoch"] == 0
    assert loaded["metrics"] == {"val_loss": 2.5}
    assert torch.equal(loaded["state"]["rng"], state["rng"])
    assert loaded["state"]["python"] == random.getstate()


@given(interval=st.integers(1, 50), step=st.integers(0, 500))
def test_checkpoints_are_due_at_multiples_of_the_interval(interval: int, step: int) -> None:
    """Every multiple of the interval but 0 is due, nothing else is."""
    with tempfile.TemporaryDirectory() as folder:
        due = CheckpointManager(folder, interval).should_checkpoint(step)
    assert due == (step in range(interval, 501, interval))


@pytest.mark.parametrize("bad", [{"save_interval": 0}, {"keep_last_n": 0}, {"keep_last_n": -1}])
def test_numbers_below_one_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    """An interval or retention limit below 1 is a user's mistake."""
    with pytest.raises(UserError, match=f"{next(iter(bad))}: given"):
        CheckpointManager(str(tmp_path), **bad)


# Retention and order


@settings(max_examples=20, deadline=None)
@given(keep=st.integers(1, 4), saves=st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_only_the_newest_are_kept(keep: int, saves: list[int]) -> None:
    """Property 4: after any sequence of saves, also of old steps again, the newest N files exist and no other."""
    with tempfile.TemporaryDirectory() as folder:
        manager = CheckpointManager(folder, keep_last_n=keep)
        for step in saves:
            save(manager, step)
        newest_first = list(dict.fromkeys(reversed(saves)))
        # A file that was removed and saved again counts from its last save on, as the reversed list does.
        assert set(steps(manager)) <= set(newest_first[:keep])
        assert steps(manager)[0] == saves[-1]
        assert {path.name for path in manager.directory.iterdir()} == {
            "checkpoint_latest.pt", *(f"checkpoint_step_{step}.pt" for step in steps(manager))
        }  # fmt: skip
        if len(set(saves)) == len(saves):
            assert steps(manager) == newest_first[:keep]


def test_best_is_spared_until_another_one_is_better(tmp_path: Path) -> None:
    """The best checkpoint outlives the retention limit, also for a manager that comes later."""
    manager = CheckpointManager(str(tmp_path), keep_last_n=1)
    save(manager, 1, best=True)
    save(manager, 2)
    assert steps(manager) == [2, 1]
    manager = CheckpointManager(str(tmp_path), keep_last_n=1)
    save(manager, 3)
    assert steps(manager) == [3, 1]
    assert (manager.directory / "checkpoint_best.pt").readlink() == Path("checkpoint_step_1.pt")
    best = manager.load_best_checkpoint()
    assert best is not None
    assert best["step"] == 1
    manager.mark_best(save(manager, 4))
    save(manager, 5)
    assert steps(manager) == [5, 4]
    assert manager.best_path() == str(manager.directory / "checkpoint_step_4.pt")


def test_only_a_checkpoint_of_the_run_can_be_the_best(tmp_path: Path) -> None:
    """Marking anything else is a user's mistake; without a mark there is no best one."""
    manager = CheckpointManager(str(tmp_path))
    save(manager, 1)
    assert (manager.best_path(), manager.load_best_checkpoint()) == (None, None)
    with pytest.raises(UserError, match=r"to call the best; .* has checkpoint_step_1.pt"):
        manager.mark_best("checkpoint_step_2.pt")


def test_latest_link_is_relative_and_moves_with_the_folder(tmp_path: Path) -> None:
    """The link for people leads to the newest file, also after the run directory was moved."""
    manager = CheckpointManager(str(tmp_path / "a"))
    save(manager, 1)
    save(manager, 2)
    (tmp_path / "a").rename(tmp_path / "b")
    link = tmp_path / "b" / "checkpoints" / "checkpoint_latest.pt"
    assert torch.load(link, weights_only=True)["step"] == 2


def test_loading_does_not_trust_links(tmp_path: Path) -> None:
    """A link that was turned to another file changes nothing."""
    manager = CheckpointManager(str(tmp_path))
    save(manager, 1)
    save(manager, 2)
    for name in ("checkpoint_latest.pt", "checkpoint_best.pt"):
        (manager.directory / name).unlink(missing_ok=True)
        (manager.directory / name).symlink_to("/etc/hostname")
    loaded = CheckpointManager(str(tmp_path)).load_latest_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 2
    assert CheckpointManager(str(tmp_path)).best_path() is None


def test_newest_is_the_one_written_last_not_the_highest_step(tmp_path: Path) -> None:
    """After a run went back, the older step that was saved later is the one to resume from."""
    manager = CheckpointManager(str(tmp_path))
    for step in (100, 200, 100):
        save(manager, step)
    assert [(c.step, c.sequence) for c in manager.list_checkpoints()] == [(100, 3), (200, 2)]
    os.utime(manager.directory / "checkpoint_step_200.pt")
    loaded = manager.load_latest_checkpoint()
    assert loaded is not None
    assert loaded["step"] == 100
    assert manager.latest_path() == str(manager.directory / "checkpoint_step_100.pt")
