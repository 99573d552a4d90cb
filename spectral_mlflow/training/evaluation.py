"""The validation loss: plain cross-entropy over the whole validation split."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from spectral_mlflow.data.batches import windows
from spectral_mlflow.data.tokens import Tokens
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.training.devices import Machine

# Evaluation keeps no activations for a backward pass, so it takes larger batches than training.
EVALUATION_BATCHES = 4


@torch.no_grad()
def validation_loss(model: GPT, tokens: Tokens, *, batch_size: int, machine: Machine) -> float:
    """Mean cross-entropy in nats per token, dropout off, every target exactly once.

    Args:
        model: left in the mode (training or not) it was in.
        tokens: the validation split, M ids.
        batch_size: windows at a time; changes the time, not the result beyond rounding.
        machine: where the model is, and in which precision it computes.
    """
    was_training = model.training
    model.eval()
    sums = []
    for inputs, targets in windows(tokens, block_size=model.config.block_size, batch_size=batch_size):
        with machine.autocast():
            logits = model(machine.send(inputs))
        sums.append(F.cross_entropy(logits.flatten(0, 1).float(), machine.send(targets).flatten(), reduction="sum"))
    model.train(was_training)
    total = 0.0
    for value in torch.stack(sums).tolist():  # Fetched at once: the device need not wait after each batch.
        total += value
    return total / (len(tokens) - 1)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where it would overflow."""
    return math.inf if loss > 700 else math.exp(loss)
