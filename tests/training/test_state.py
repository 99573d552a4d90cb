"""Random generators continue where they were."""

import random
from pathlib import Path

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
