"""Causal attention: scaled dot product, and interference of phases.

Symbols as in `spectral_mlflow.models.gpt`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models.cache import LayerCache

# Up to these contexts, where scores are as wide as values and where they are not, plain matrix products on a CPU take
# less time than the fused kernel; they keep T^2 numbers a head, which is little memory there.
LONGEST_PLAIN, LONGEST_PLAIN_UNEQUAL = 128, 256


class Pattern(NamedTuple):
    """Which tokens look at which.

    Attributes:
        weights: a_ij (B, heads, T, T), zero for j > i.
        coherence: ``|mean_w e^(i (phi_q[i,w] - phi_k[j,w]))|`` (B, heads, T, T); None where there are no phases.
    """

    weights: Tensor
    coherence: Tensor | None


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
        parts = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        mixed: Tensor = self.projection(_attend(query, key, value, cache))
        return mixed

    def pattern(self, x: Tensor) -> Pattern:
        """Which of the tokens (B, T, D) look at which; T^2 numbers a head, so for looking only."""
        parts = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key, _ = (part.transpose(1, 2) for part in parts)
        return Pattern(_softmax(_at_least_float32(query @ key.mT * query.shape[-1] ** -0.5)), None)


class InterferenceAttention(nn.Module):
    """``a_ij = softmax_j(tau / W sum_w cos(phi_q[i,w] - phi_k[j,w])), j <= i``.

    Because ``cos(a - b) = cos a cos b + sin a sin b``, the score is a dot product of the features
    ``[cos phi, sin phi]`` and runs through the same fused kernel as standard attention.

    Attributes:
        log_tau: logarithm of the sharpness tau > 0 of each head (heads,).
        score_width: features that a score sums over, all heads together.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.num_waves = cast(int, config.num_waves)  # The configuration has filled in its defaults.
        self.num_phases = config.num_heads * self.num_waves
        self.score_width = 2 * self.num_phases
        self.phases_value = nn.Linear(config.d_model, 2 * self.num_phases + config.d_model, bias=False)
        self.log_tau = nn.Parameter(torch.full((config.num_heads,), math.log(cast(float, config.tau))))
        self.projection = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Mix tokens (B, T, D) with those before them, the cached ones included, as (B, T, D)."""
        phases, value = self.phases_value(x).split((2 * self.num_phases, x.shape[-1]), dim=-1)
        scale = self.tau() / self.num_waves
        query, key = Phasors.apply(phases.unflatten(-1, (2, self.num_heads, -1)), scale)  # type: ignore[no-untyped-call]
        value = value.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        value = value.contiguous()  # A view would keep the phases in memory until the backward pass.
        mixed: Tensor = self.projection(_attend(query, key, value, cache, scale=1.0))
        return mixed

    def pattern(self, x: Tensor) -> Pattern:
        """Which of the tokens (B, T, D) look at which; T^2 numbers a head, so for looking only."""
        phases = self.phases_value(x)[..., : 2 * self.num_phases].unflatten(-1, (2, self.num_heads, -1))
        query, key = _at_least_float32(phases).permute(2, 0, 3, 1, 4)
        one = torch.ones_like(query)
        mean = torch.polar(one, query) @ torch.polar(one, -key).mT / self.num_waves
        return Pattern(_softmax(self.tau()[:, None, None] * mean.real), mean.abs())

    def tau(self) -> Tensor:
        """Sharpness tau of each head (heads,)."""
        return self.log_tau.exp()


class Phasors(torch.autograd.Function):
    """Phases of queries and keys to features ``scale [cos phi, sin phi]`` and ``[cos phi, sin phi]``.

    The features are their own derivatives, so the backward pass needs neither the phases nor new sines.
    """

    @staticmethod
    def forward(ctx: Any, phases: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, heads, T, 2 W) each, of phases (B, T, 2, heads, W) and the scale of the queries (heads,)."""
        # Plain products want one matrix a head. The fused kernel answers in the layout of its queries, and heads side
        # by side need no copy to be joined.
        by_head = phases.shape[1] <= LONGEST_PLAIN
        phases = phases.permute((2, 0, 3, 1, 4) if by_head else (2, 0, 1, 3, 4))
        phases = phases.contiguous()  # Sines of strided memory are four times slower.
        features = torch.cat((phases.cos(), phases.sin()), dim=-1)
        query, key = (features if by_head else features.transpose(2, 3)).unbind()
        query *= scale[:, None, None]
        ctx.save_for_backward(query, key, scale)
        return query, key

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """``d/dphi [cos, sin] = [-sin, cos]``, whatever it is scaled by."""
        query, key, scale = ctx.saved_tensors
        batch, heads, length, width = query.shape
        by_phases = query.new_empty(2, batch, heads, length, width // 2)
        for into, features, gradient in zip(by_phases, (query, key), gradients, strict=True):
            cosine, sine = features.chunk(2, dim=-1)
            by_cosine, by_sine = gradient.chunk(2, dim=-1)
            torch.mul(by_sine, cosine, out=into).addcmul_(by_cosine, sine, value=-1)
        by_scale = torch.linalg.vecdot(query, gradients[0]).sum((0, 2)) / scale
        return by_phases.permute(1, 3, 0, 2, 4), by_scale


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _softmax(scores: Tensor) -> Tensor:
    """Softmax of (B, heads, T, T) over what is not later."""
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1)


def _attend(query: Tensor, key: Tensor, value: Tensor, cache: LayerCache | None, scale: float | None = None) -> Tensor:
    """Softmax attention of (B, heads, T, width) to what is not later, heads joined as (B, T, D)."""
    start = 0
    if cache is not None:
        start = cache.length
        key, value = cache.extend(key, value)
    if start == 0:
        mixed = _causal(query, key, value, scale)
    else:
        visible = None
        if query.shape[2] > 1:  # The kernel's own causal mask counts both sides from 0.
            visible = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril(start)
        mixed = F.scaled_dot_product_attention(query, key, value, visible, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """Attention of (B, heads, T, width) from the first position on, by whichever kernel is fastest.

    The fused kernels want queries, keys and values of one width: zeros fill the narrower ones up.
    """
    missing = query.shape[-1] - value.shape[-1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if _plainly(query, longest=LONGEST_PLAIN_UNEQUAL if missing else LONGEST_PLAIN):
        mixed: Tensor = PlainAttention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return mixed
    if missing == 0:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    narrower, wider = (0, max(0, -missing)), (0, max(0, missing))
    filled = F.pad(query, narrower), F.pad(key, narrower), F.pad(value, wider)
    return F.scaled_dot_product_attention(*filled, is_causal=True, scale=scale)[..., : value.shape[-1]]


def _plainly(query: Tensor, longest: int) -> bool:
    """Whether to attend by plain matrix products, which pays for training in short contexts on a CPU."""
    trains = torch.is_grad_enabled() and query.requires_grad and not torch.compiler.is_compiling()
    return trains and query.device.type == "cpu" and query.dtype == torch.float32 and query.shape[2] <= longest


class PlainAttention(torch.autograd.Function):
    """Causal softmax attention as matrix products that keep the (T, T) weights for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Mix values (B, heads, T, width) by the scores of queries and keys (B, heads, T, any width)."""
        heads = query.shape[1]
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        future = torch.full((query.shape[1], key.shape[1]), -math.inf).triu_(1)
        weights = torch.baddbmm(future, query, key.mT, alpha=scale)
        torch.softmax(weights, dim=-1, out=weights)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return _split(weights.bmm(value), heads)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of the three, each of its own shape."""
        query, key, value, weights = ctx.saved_tensors
        gradient = gradients[0]
        heads = gradient.shape[1]
        gradient = gradient.flatten(0, 1)
        by_value = weights.mT.bmm(gradient)
        by_scores = torch._softmax_backward_data(gradient.bmm(value.mT), weights, -1, weights.dtype)
        by_query = torch.baddbmm(query, by_scores, key, beta=0, alpha=ctx.scale)
        by_key = torch.baddbmm(key, by_scores.mT, query, beta=0, alpha=ctx.scale)
        return _split(by_query, heads), _split(by_key, heads), _split(by_value, heads), None


def _split(x: Tensor, heads: int) -> Tensor:
    """(B heads, T, width) to (B, heads, T, width)."""
    return x.view(-1, heads, *x.shape[1:])


ATTENTIONS: dict[str, type[StandardAttention] | type[InterferenceAttention]] = {
    "standard": StandardAttention,
    "wave": InterferenceAttention,
}
