"""Golden loss curves of every combination of layers, optimizer and loss: a refactoring leaves them as they are.

``python tests/models/test_golden.py`` writes them anew, for a change that is meant to change them.
"""

import itertools
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from spectral_mlflow.config import ModelConfig, TrainingConfig
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models.gpt import build
from spectral_mlflow.optim import build_optimizer, learning_rate

GOLDEN = Path(__file__).with_name("golden.json")
KINDS = ("standard", "wave")
# Embedding, attention, feed-forward, optimizer, loss.
NAMES = [" ".join(parts) for parts in itertools.product(KINDS, KINDS, KINDS, ("AdamW", "RGD"), ("CE", "QFE"))]
ACROSS_MACHINES = 1e-4

# Deep gates and a heavy coherence, so that no two of the curves are alike.
TRAINING = {"steps": 20, "lr": 1e-2, "warmup_steps": 5, "rgd_strength": 0.9, "rgd_warmup": 5, "qfe_lambda": 1.0}


def stream(length: int) -> torch.Tensor:
    """Powers of two modulo 11: something to learn."""
    return torch.tensor([pow(2, exponent, 11) for exponent in range(length)])


def train(name: str) -> list[float]:
    """Cross-entropy of the first 20 steps of a combination."""
    embedding, attention, feedforward, optimizer_name, loss_name = name.split()
    config = TrainingConfig(optimizer=optimizer_name, loss=loss_name, **TRAINING)
    sizes = ModelConfig(
        embedding=embedding, attention=attention, feedforward=feedforward, d_model=16, num_layers=2, num_heads=2,
        block_size=16,
    )  # fmt: skip
    model = build(sizes, 11, seed=0)
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


once = cache(train)


@pytest.mark.parametrize("name", NAMES)
def test_loss_curve_is_the_golden_one(name: str) -> None:
    """The first 20 losses of each combination are those on record, and it learns."""
    assert once(name) == pytest.approx(json.loads(GOLDEN.read_text())[name], abs=ACROSS_MACHINES)
    assert once(name)[-1] < 0.6 * once(name)[0]


@pytest.mark.parametrize("name", NAMES)
def test_training_repeats_to_the_last_bit(name: str) -> None:
    """Training twice from one seed on a CPU gives the same losses exactly."""
    assert train(name) == once(name)


def test_no_two_golden_curves_are_alike() -> None:
    """Every combination has a curve, and a part that were mistaken for its twin would be noticed."""
    golden = json.loads(GOLDEN.read_text())
    assert list(golden) == NAMES
    for one, other in itertools.combinations(NAMES, 2):
        difference = max(abs(a - b) for a, b in zip(golden[one], golden[other], strict=True))
        assert difference > 10 * ACROSS_MACHINES, (one, other)


def write() -> None:
    """Record the curves as they are now, one a line."""
    lines = [f"{json.dumps(name)}: {json.dumps([round(loss, 6) for loss in train(name)])}" for name in NAMES]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
