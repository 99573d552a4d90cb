"""Token embeddings: a lookup table with learned positions, and wave packets.

Symbols as in `spectral_mlflow.models.gpt`.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_mlflow.config import ModelConfig


class StandardEmbedding(nn.Module):
    """Token lookup plus learned position."""

    vocabulary_tables: ClassVar[tuple[str, ...]] = ("lookup.weight",)

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        std = cast(float, config.embedding_std)  # The configuration has filled in its default.
        self.lookup = nn.Embedding(vocab_size, config.d_model)
        self.position = nn.Parameter(torch.randn(config.block_size, config.d_model) * std)
        nn.init.normal_(self.lookup.weight, std=std)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embed tokens (B, T) at positions start..start+T-1 as (B, T, D)."""
        embedded: Tensor = self.lookup(tokens) + self.position[start : start + tokens.shape[1]]
        return embedded

    def wave_ratio(self) -> float | None:
        """None: there is no wave here."""
        return None


class WaveEmbedding(nn.Module):
    """Wave packets mixed with a lookup table.

    With ``theta = 2 pi h f[v,w] + phi[v,w] + gamma[w] p`` for token v at position p::

        wave_v(p) = sum_w sum_h A[v,w,h] (sin theta + cos theta) P[w]
        E_v(p)    = r wave_v(p) + (1 - r) lookup_v,    r = sigmoid(rho)

    The phase speed gamma does not depend on h, so the sums over harmonics ``S = sum_h A sin(2 pi h f + phi)``
    and ``C = sum_h A cos(2 pi h f + phi)`` belong to the vocabulary alone, and angle addition brings in the position::

        wave_v(p) = sum_w [ (C + S) cos(gamma p) + (C - S) sin(gamma p) ] P[w]

    Harmonics are integers: f and f + 1 are the same wave, a frequency is known only modulo 1.

    Where all tokens start with nearly the same waves, the packets first say where a token is, as sinusoidal positions
    do, and the lookup says which one. Spread over a whole turn, they say neither until training has sorted them.

    Attributes:
        frequencies: f (V, W), in turns; starts uniform on [0, packet_spread).
        phases: phi (V, W), in radians; starts uniform on [0, 2 pi packet_spread).
        amplitudes: A (V, W, H); starts as h^-harmonic_decay with unit norm over h.
        phase_speeds: gamma (W,), in radians a position; starts geometric from max_phase_speed / block_size to
            max_phase_speed.
        projection: P (W, D); starts such that wave_v(p) has a standard deviation of embedding_std.
        ratio_logit: rho, a scalar; None in a pure wave embedding (r = 1).
        lookup: table (V, D); None in a pure wave embedding.
    """

    vocabulary_tables: ClassVar[tuple[str, ...]] = ("frequencies", "phases", "amplitudes", "lookup.weight")
    undecayed: ClassVar[tuple[str, ...]] = ("frequencies", "phases", "amplitudes")

    harmonics: Tensor

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        num_waves, std = cast(int, config.num_waves), cast(float, config.embedding_std)  # Defaults are filled in.
        harmonics = torch.arange(1, config.num_harmonics + 1, dtype=torch.float32)
        self.register_buffer("harmonics", harmonics, persistent=False)
        self.frequencies = nn.Parameter(config.packet_spread * torch.rand(vocab_size, num_waves))
        self.phases = nn.Parameter(2 * math.pi * config.packet_spread * torch.rand(vocab_size, num_waves))
        decaying = F.normalize(harmonics**-config.harmonic_decay, dim=0)
        self.amplitudes = nn.Parameter(decaying.repeat(vocab_size, num_waves, 1))
        slowest, fastest = math.log(config.max_phase_speed / config.block_size), math.log(config.max_phase_speed)
        self.phase_speeds = nn.Parameter(torch.linspace(slowest, fastest, num_waves).exp())
        self.projection = nn.Parameter(torch.randn(num_waves, config.d_model) * std / math.sqrt(num_waves))
        self.ratio_logit: nn.Parameter | None = None
        self.lookup: nn.Embedding | None = None
        if not config.pure_wave:
            self.ratio_logit = nn.Parameter(torch.tensor(config.wave_ratio).logit())
            self.lookup = nn.Embedding(vocab_size, config.d_model)
            nn.init.normal_(self.lookup.weight, std=std)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embed tokens (B, T) at positions start..start+T-1 as (B, T, D)."""
        rows, tokens = self._rows(tokens)
        even, odd = F.embedding(tokens, self._coefficients(rows)).chunk(2, dim=-1)
        angles = torch.arange(start, start + tokens.shape[1], device=tokens.device)[:, None] * self.phase_speeds
        waves = even * angles.cos() + odd * angles.sin()
        if self.lookup is None or self.ratio_logit is None:
            return self._project(waves, self.projection)
        # The small tables take the factors, so that nothing as long as the batch is kept to differentiate them.
        ratio = self.ratio_logit.sigmoid()
        return F.embedding(tokens, (1 - ratio) * self.lookup.weight[rows]) + self._project(
            waves, ratio * self.projection
        )

    def wave_ratio(self) -> float | None:
        """Share r of the wave in the embedding."""
        return 1.0 if self.ratio_logit is None else self.ratio_logit.sigmoid().item()

    def _rows(self, tokens: Tensor) -> tuple[slice | Tensor, Tensor]:
        """Rows of the tables that are worth their sines, all or those of the batch; and where each token is in them."""
        if tokens.numel() >= len(self.frequencies):
            return slice(None), tokens
        if tokens.shape[1] == 1:  # As in generation, where looking for repeated tokens would take the longest.
            return tokens.flatten(), torch.arange(len(tokens), device=tokens.device)[:, None]
        rows, places = torch.unique(tokens, return_inverse=True)
        return rows, places

    def _coefficients(self, rows: slice | Tensor) -> Tensor:
        """C + S and C - S of some tokens (R, 2 W)."""
        theta = 2 * math.pi * self.harmonics * self.frequencies[rows, :, None] + self.phases[rows, :, None]
        amplitudes = self.amplitudes[rows]
        sines = (amplitudes * theta.sin()).sum(-1)
        cosines = (amplitudes * theta.cos()).sum(-1)
        return torch.cat((cosines + sines, cosines - sines), dim=-1)

    def _project(self, waves: Tensor, directions: Tensor) -> Tensor:
        """Waves (B, T, W) as features (B, T, D), in the precision of the residual stream."""
        return (waves @ directions).to(self.projection.dtype)


EMBEDDINGS: dict[str, type[StandardEmbedding] | type[WaveEmbedding]] = {
    "standard": StandardEmbedding,
    "wave": WaveEmbedding,
}
