"""Golden loss curves: a refactoring leaves them as they are.

``python tests/models/test_golden.py`` writes them anew, for a change that is meant to change them.
"""

import json
from pathlib import Path

import pytest
import torch

from spectral_mlflow.config import ModelConfig, TrainingConfig
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models.gpt import build
from spectral_mlflow.optim import build_optimizer, learning_rate

GOLDEN = Path(__file__).with_name("golden.json")
RUNS = {
    "standard": {"type": "standard"},
    "wave": {"type": "wave"},
}


def stream(length: int) -> torch.Tensor:
    """Powers of two modulo 11: something to learn."""
    return torch.tensor([pow(2, exponent, 11) for exponent in range(length)])


def curve(name: str, **training: object) -> list[float]:
    """Loss of the first 20 steps."""
    config = TrainingConfig(**{"steps": 20, "lr": 1e-2, "warmup_steps": 5, **training})
    model = build(ModelConfig(d_model=16, num_layers=2, num_heads=2, block_size=16, **RUNS[name]), 11, seed=0)
    optimizer, loss = build_optimizer(model, config), build_loss(config, 11)
    tokens = stream(20 * 4 * 16 + 1)
    losses = []
    for step in range(1, 21):
        window = slice((step - 1) * 64, step * 64)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.zero_grad()
        parts = loss(model(tokens[:-1][window].view(4, 16)), tokens[1:][window].view(4, 16))
        parts.objective.backward()
        optimizer.step()
        losses.append(parts.loss.item())
    return losses


@pytest.mark.parametrize("name", RUNS)
def test_loss_curve_is_the_golden_one(name: str) -> None:
    """The first 20 losses of each model are those on record."""
    losses = curve(name)
    assert losses == pytest.approx(json.loads(GOLDEN.read_text())[name], abs=1e-4)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("training", [{}, {"optimizer": "RGD"}, {"loss": "QFE"}], ids=str)
def test_training_repeats_to_the_last_bit(training: dict[str, str]) -> None:
    """Training twice from one seed on a CPU gives the same losses exactly."""
    assert curve("wave", **training) == curve("wave", **training)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: curve(name) for name in RUNS}, indent=1) + "\n")
