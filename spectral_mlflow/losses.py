"""Losses: cross-entropy, and with the coherence of predicted and true spectra (QFE)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_mlflow.config import TrainingConfig

LARGEST_SPECTRUM = 256


class LossParts(NamedTuple):
    """What is minimised, and what it is made of.

    Attributes:
        objective: what is minimised, a scalar.
        loss: plain cross-entropy in nats per token, a scalar.
        coherence: the spectral part before its weight, a scalar; None where the loss has none.
    """

    objective: Tensor
    loss: Tensor
    coherence: Tensor | None


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy."""

    def forward(self, logits: Tensor, targets: Tensor) -> LossParts:
        """Loss of logits (B, T, V) against ids (B, T)."""
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return LossParts(loss, loss, None)


class QFELoss(nn.Module):
    """Cross-entropy plus the spectral incoherence of prediction and truth.

    With P the Fourier transform over time of the predicted probabilities and Y that of the one-hot targets::

        C = mean over frequency and vocabulary of |P||Y| (1 - cos(arg P - arg Y))
          = mean( |P||Y| - Re(P conj Y) )
        L = CE + weight * C

    The second form has the same value and no angle, whose gradient is singular where P is zero.

    A vocabulary of more than 256 tokens is first projected to 256 channels by a fixed random matrix with entries
    N(0, 1/256), which keeps lengths on average (Johnson and Lindenstrauss 1984); it is part of the state.

    Args:
        weight: of the coherence part.
        vocab_size: number of tokens V.
        seed: of the projection.
    """

    projection: Tensor | None

    def __init__(self, weight: float, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.weight = weight
        projection = None
        if vocab_size > LARGEST_SPECTRUM:
            generator = torch.Generator().manual_seed(seed)
            projection = torch.randn(vocab_size, LARGEST_SPECTRUM, generator=generator) / math.sqrt(LARGEST_SPECTRUM)
        self.register_buffer("projection", projection)

    def forward(self, logits: Tensor, targets: Tensor) -> LossParts:
        """Loss of logits (B, T, V) against ids (B, T)."""
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        predicted = torch.fft.rfft(self._predicted(logits), dim=1)
        true = torch.fft.rfft(self._true(targets, logits), dim=1)
        coherence = (predicted.abs() * true.abs() - (predicted * true.conj()).real).mean()
        return LossParts(loss + self.weight * coherence, loss, coherence)

    def _predicted(self, logits: Tensor) -> Tensor:
        """Probabilities, (B, T, V) or projected (B, T, 256)."""
        probabilities = logits.softmax(dim=-1)
        return probabilities if self.projection is None else probabilities @ self.projection

    def _true(self, targets: Tensor, logits: Tensor) -> Tensor:
        """One-hot targets (B, T, V), or projected (B, T, 256), where they are rows of the projection."""
        if self.projection is None:
            return F.one_hot(targets, logits.shape[-1]).to(logits.dtype)
        return F.embedding(targets, self.projection)


def build_loss(config: TrainingConfig, vocab_size: int) -> nn.Module:
    """The loss of a configuration; the projection of QFE follows from its seed."""
    if config.loss == "CE":
        return CrossEntropyLoss()
    return QFELoss(config.qfe_lambda, vocab_size, config.seed)
