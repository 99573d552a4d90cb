"""Random generators continue where they were."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_mlflow.losses import build_loss
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.optim import build_optimizer
from spectral_mlflow.settings import build
from spectral_mlflow.training.state import TrainState


def state() -> TrainState:
    """A small state of its own."""
    config = build({"model.d_model": "8", "model.num_heads": "2", "model.num_layers": "1", "model.block_size": "4"})
    model = gpt.build(config.model, 5, 0)
    return TrainState(model, build_optimizer(model, config.training), build_loss(config.training, 5))


def draws() -> list[float]:
    """The next number of each generator."""
    return [random.random(), float(np.random.random()), torch.rand(()).item()]


def test_every_generator_continues(tmp_path: Path) -> None:
    """Through a checkpoint file, python, numpy and torch draw what they would have drawn."""
    before = state()
    before.best_val_loss, before.step, before.loss_history = 1.5, 3, [3.0, 2.0, 1.0]
    path = CheckpointManager(str(tmp_path)).save_checkpoint(
        3, before.model, before.optimizer, before.loss_history, {}, state=before.extra()
    )
    expected = draws()
    draws()
    after = state()
    after.restore(CheckpointManager(str(tmp_path)).load_checkpoint(path))
    assert draws() == expected
    assert (after.best_val_loss, after.step, after.loss_history) == (1.5, 3, [3.0, 2.0, 1.0])


class Broken:
    """A monitor that cannot be saved, or cannot go on."""

    def __init__(self, *, saves: bool) -> None:
        self.saves, self.seen = saves, 7

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, or an error."""
        if not self.saves:
            raise RuntimeError("no room")
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a part of it, and then raise where that is not from here."""
        self.seen = state_dict["seen"]
        if self.seen != 7:
            raise RuntimeError("from elsewhere")


def test_a_monitor_that_cannot_be_saved_is_left_out() -> None:
    """Which is told once; the others are saved."""
    run = state()
    run.monitors = {"bad": Broken(saves=False), "good": Broken(saves=True)}
    assert run.extra()["monitors"] == {"good": {"seen": 7}}
    assert run.extra()["monitors"] == {"good": {"seen": 7}}
    assert [alert.message for alert in run.take_complaints()] == [
        "monitor bad is left out of checkpoints: RuntimeError: no room"
    ]
    assert run.take_complaints() == []


def test_a_monitor_that_cannot_go_on_begins_anew(tmp_path: Path) -> None:
    """As it was before it tried; the run goes on."""
    before, after, other = state(), state(), Broken(saves=True)
    before.monitors, other.seen = {"bad": other}, 5
    path = CheckpointManager(str(tmp_path)).save_checkpoint(
        0, before.model, before.optimizer, [], {}, state=before.extra()
    )
    after.monitors = {"bad": Broken(saves=True)}
    after.restore(CheckpointManager(str(tmp_path)).load_checkpoint(path))
    assert after.monitors["bad"].state_dict() == {"seen": 7}
    assert ["begins anew" in alert.message for alert in after.take_complaints()] == [True]
