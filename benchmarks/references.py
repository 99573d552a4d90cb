"""The formulas as they are written, slow and plain: what the fast forms must equal, and what they are timed against.

Symbols as in `spectral_mlflow.models.gpt`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from spectral_mlflow.models.attention import InterferenceAttention
from spectral_mlflow.models.embeddings import WaveEmbedding


def wave_embedding(embedding: WaveEmbedding, tokens: Tensor, start: int = 0) -> Tensor:
    """``r sum_w sum_h A (sin theta + cos theta) P_w + (1 - r) lookup``, with every angle (B, T, W, H) on its own."""
    h = torch.arange(1, embedding.amplitudes.shape[2] + 1, device=tokens.device)
    p = torch.arange(start, start + tokens.shape[1], device=tokens.device)[:, None, None]
    f, phi = embedding.frequencies[tokens][..., None], embedding.phases[tokens][..., None]
    theta = 2 * math.pi * h * f + phi + embedding.phase_speeds[:, None] * p
    waves = (embedding.amplitudes[tokens] * (theta.sin() + theta.cos())).sum(-1)
    wave = waves @ embedding.projection
    if embedding.lookup is None or embedding.ratio_logit is None:
        return wave
    r = 1 / (1 + torch.exp(-embedding.ratio_logit))
    return r * wave + (1 - r) * embedding.lookup.weight[tokens]


def interference_attention(layer: InterferenceAttention, x: Tensor) -> Tensor:
    """``softmax_j(tau / W sum_w cos(phi_q[i,w] - phi_k[j,w]))``, with every difference (B, heads, T, T, W)."""
    sizes = (layer.num_phases, layer.num_phases, x.shape[-1])
    parts = layer.phases_value(x).split(sizes, dim=-1)
    query, key, value = (part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in parts)
    coherence = (query[:, :, :, None] - key[:, :, None]).cos().mean(-1)
    scores = layer.log_tau.exp()[:, None, None] * coherence
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(-1)
    mixed: Tensor = layer.projection((weights @ value).transpose(1, 2).flatten(2))
    return mixed


def sine_with_slope(x: Tensor) -> Tensor:
    """``sin x + 0.1 x``."""
    return torch.sin(x) + 0.1 * x


def phasors(phases: Tensor, scale: Tensor) -> Tensor:
    """``[cos phi, sin phi]`` of phases (B, T, 2, heads, W) as (2, B, heads, T, 2 W); queries have the scale."""
    query, key = torch.cat((torch.cos(phases), torch.sin(phases)), dim=-1).permute(2, 0, 3, 1, 4)
    return torch.stack((scale[:, None, None] * query, key))


def incoherence(logits: Tensor, targets: Tensor, projection: Tensor | None = None) -> Tensor:
    """``mean |P| |Y| (1 - cos(arg P - arg Y))`` of logits (B, T, V) against ids (B, T), with angles."""
    true = torch.zeros_like(logits).scatter(-1, targets[..., None], 1.0)
    predicted = torch.softmax(logits, dim=-1)
    if projection is not None:
        predicted, true = predicted @ projection, true @ projection
    p, y = torch.fft.rfft(predicted, dim=1), torch.fft.rfft(true, dim=1)
    mean: Tensor = (p.abs() * y.abs() * (1 - torch.cos(p.angle() - y.angle()))).mean()
    return mean


class LiteralRGD:
    """Resonant gradient descent, one parameter after the other, with the two-sided complex transform.

    The arguments are those of `spectral_mlflow.optim.RGD`.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        lr: float,
        weight_decay: float,
        strength: float,
        warmup: int,
        preserve_norm: bool,
        filter_rows: bool,
    ) -> None:
        self.parameters, self.lr, self.weight_decay = parameters, lr, weight_decay
        self.strength, self.warmup = strength, warmup
        self.preserve_norm, self.filter_rows = preserve_norm, filter_rows
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.zeros_like(p) for p in parameters]
        self.t = 0

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters."""
        self.t += 1
        for i, p in enumerate(self.parameters):
            grad = cast(Tensor, p.grad)
            self.m[i] = 0.9 * self.m[i] + 0.1 * grad
            self.v[i] = 0.999 * self.v[i] + 0.001 * grad**2
            u = (self.m[i] / (1 - 0.9**self.t)) / ((self.v[i] / (1 - 0.999**self.t)).sqrt() + 1e-8)
            update = self.gated(p, u) if p.ndim >= 2 else u
            p.copy_(p - self.lr * update - self.lr * self.weight_decay * p)

    def gated(self, p: Tensor, u: Tensor) -> Tensor:
        """``Re F^-1(F u * g)``."""
        transform = torch.fft.fft2 if self.filter_rows else torch.fft.fft
        inverse = torch.fft.ifft2 if self.filter_rows else torch.fft.ifft
        matrix = u.reshape(len(u), -1)
        fp, fu = transform(p.reshape(len(p), -1)), transform(matrix)
        rho = torch.sqrt(fp.abs() / fp.abs().max() * fu.abs() / fu.abs().max() + 1e-8)
        alpha = self.strength * (min(1.0, self.t / self.warmup) if self.warmup else 1.0)
        result: Tensor = inverse(fu * (1 - alpha + alpha * rho)).real
        if self.preserve_norm:
            result = result * matrix.norm() / result.norm()
        return result.view_as(u)
