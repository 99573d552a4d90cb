"""Causal attention: scaled dot product, and interference of phases.

Symbols as in `spectral_mlflow.models.gpt`.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models.cache import LayerCache


class StandardAttention(nn.Module):
    """``a_ij = softmax_j(q_i . k_j / sqrt(D / heads)), j <= i``.

    Attributes:
        score_width: features that a score sums over, all heads together.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.score_width = config.d_model
        self.query_key_value = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.projection = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Mix tokens (B, T, D) with those before them, the cached ones included, as (B, T, D)."""
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        mixed: Tensor = self.projection(_attend(query, key, value, cache))
        return mixed


class InterferenceAttention(nn.Module):
    """``a_ij = softmax_j(tau / W sum_w cos(phi_q[i,w] - phi_k[j,w])), j <= i``.

    Because ``cos(a - b) = cos a cos b + sin a sin b``, the score is a dot product of the features
    ``[cos phi, sin phi]`` and runs through the same fused kernel as standard attention.

    Attributes:
        log_tau: logarithm of the sharpness tau > 0 of each head (heads,); tau starts at sqrt(2 W).
        score_width: features that a score sums over, all heads together.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.num_waves = cast(int, config.num_waves)  # The configuration has filled in its default.
        self.num_phases = config.num_heads * self.num_waves
        self.score_width = 2 * self.num_phases
        self.phases_value = nn.Linear(config.d_model, 2 * self.num_phases + config.d_model, bias=False)
        self.log_tau = nn.Parameter(torch.full((config.num_heads,), math.log(2 * self.num_waves) / 2))
        self.projection = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Mix tokens (B, T, D) with those before them, the cached ones included, as (B, T, D)."""
        phases, value = self.phases_value(x).split((2 * self.num_phases, x.shape[-1]), dim=-1)
        features = Phasor.apply(phases.unflatten(-1, (2, self.num_heads, -1)))  # type: ignore[no-untyped-call]
        query, key = features.unbind(2)
        query = query * (self.log_tau.exp() / self.num_waves)[:, None]
        mixed: Tensor = self.projection(
            _attend(query, key, value.unflatten(-1, (self.num_heads, -1)), cache, scale=1.0)
        )
        return mixed


class Phasor(torch.autograd.Function):
    """Phases (..., W) to ``[cos phi, sin phi]`` (..., 2 W).

    The features are their own derivative, so the backward pass needs neither the phases nor new sines.
    """

    @staticmethod
    def forward(ctx: Any, phases: Tensor) -> Tensor:
        """The features of phases."""
        phases = phases.contiguous()  # Sines of strided memory are four times slower.
        features = torch.cat((phases.cos(), phases.sin()), dim=-1)
        ctx.save_for_backward(features)
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """``d/dphi [cos, sin] = [-sin, cos]``."""
        cosine, sine = ctx.saved_tensors[0].chunk(2, dim=-1)
        by_cosine, by_sine = gradients[0].chunk(2, dim=-1)
        return torch.addcmul(by_sine * cosine, by_cosine, sine, value=-1)


def _attend(query: Tensor, key: Tensor, value: Tensor, cache: LayerCache | None, scale: float | None = None) -> Tensor:
    """Softmax attention of (B, T, heads, width) to what is not later, heads joined as (B, T, D)."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    start = 0
    if cache is not None:
        start = cache.length
        key, value = cache.extend(key, value)
    visible = None
    if start and query.shape[2] > 1:  # The kernel's own causal mask counts both sides from 0.
        visible = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril(start)
    mixed = F.scaled_dot_product_attention(query, key, value, visible, is_causal=start == 0, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


ATTENTIONS: dict[str, type[StandardAttention] | type[InterferenceAttention]] = {
    "standard": StandardAttention,
    "wave": InterferenceAttention,
}
