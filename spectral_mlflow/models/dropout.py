"""Dropout whose mask costs little on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESOLUTION = 1 << 16  # Probabilities are multiples of one part in so many.


class Dropout(nn.Module):
    """Sets numbers to zero with a probability and scales up the others, which keeps the mean (Srivastava et al. 2014).

    torch draws its masks on a CPU one number at a time, which takes a seventh of a small model's step. Here 16 random
    bits decide on a number, so that one draw serves four. On other devices torch's own kernel is used.

    Args:
        probability: of zero, in [0, 1); on a CPU rounded to a multiple of 2^-16 below 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of any shape; as they are outside of training."""
        if not self.training or not self.probability:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.probability)
        return x * _mask(x, self.probability)

    def extra_repr(self) -> str:
        """What printing the model shows."""
        return f"probability={self.probability}"


def _mask(like: Tensor, probability: float) -> Tensor:
    """Zeros and, elsewhere, the inverse of their probability; from torch's global generator."""
    zeros = min(round(probability * RESOLUTION), RESOLUTION - 1)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = draws.view(torch.int16)[: like.numel()].view(like.shape)
    kept = numbers >= zeros - RESOLUTION // 2
    return kept.to(like.dtype).mul_(RESOLUTION / (RESOLUTION - zeros))
