"""The validation loss: plain cross-entropy over the whole validation split."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_mlflow.data.batches import windows
from spectral_mlflow.models.gpt import GPT


@torch.no_grad()
def validation_loss(model: GPT, tokens: Tensor, *, batch_size: int, device: torch.device) -> float:
    """Mean cross-entropy in nats per token, dropout off, every target exactly once.

    Args:
        model: left in the mode (training or not) it was in.
        tokens: the validation split, (M,).
        batch_size: windows at a time; changes the time, not the result beyond rounding.
        device: where the model is.
    """
    was_training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    for inputs, targets in windows(tokens, block_size=model.config.block_size, batch_size=batch_size):
        logits = model(inputs.to(device))
        total += F.cross_entropy(logits.flatten(0, 1).float(), targets.to(device).flatten(), reduction="sum")
    model.train(was_training)
    return float(total) / (len(tokens) - 1)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where it would overflow."""
    return math.inf if loss > 700 else math.exp(loss)
