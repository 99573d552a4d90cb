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

SCALE = 0.02  # Standard deviation of every feature at the start, as in GPT-2.


class StandardEmbedding(nn.Module):
    """Token lookup plus learned position."""

    vocabulary_tables: ClassVar[tuple[str, ...]] = ("lookup.weight",)

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.lookup = nn.Embedding(vocab_size, config.d_model)
        self.position = nn.Parameter(torch.randn(config.block_size, config.d_model) * SCALE)
        nn.init.normal_(self.lookup.weight, std=SCALE)

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

    Attributes:
        frequencies: f (V, W), in turns; starts uniform on [0, 1).
        phases: phi (V, W), in radians; starts uniform on [0, 2 pi).
        amplitudes: A (V, W, H); starts as 1/h with unit norm over h.
        phase_speeds: gamma (W,), in radians a position; starts geometric from half a turn in block_size to pi.
        projection: P (W, D); starts such that wave_v(p) has a standard deviation of 0.02.
        ratio_logit: rho, a scalar; None in a pure wave embedding (r = 1).
        lookup: table (V, D); None in a pure wave embedding.
    """

    vocabulary_tables: ClassVar[tuple[str, ...]] = ("frequencies", "phases", "amplitudes", "lookup.weight")
    undecayed: ClassVar[tuple[str, ...]] = ("frequencies", "phases", "amplitudes")

    harmonics: Tensor

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        num_waves = cast(int, config.num_waves)  # The configuration has filled in its default.
        harmonics = torch.arange(1, config.num_harmonics + 1, dtype=torch.float32)
        self.register_buffer("harmonics", harmonics, persistent=False)
        self.frequencies = nn.Parameter(torch.rand(vocab_size, num_waves))
        self.phases = nn.Parameter(2 * math.pi * torch.rand(vocab_size, num_waves))
        self.amplitudes = nn.Parameter(F.normalize(1 / harmonics, dim=0).repeat(vocab_size, num_waves, 1))
        half_turn = math.log(math.pi / config.block_size)
        self.phase_speeds = nn.Parameter(torch.linspace(half_turn, math.log(math.pi), num_waves).exp())
        self.projection = nn.Parameter(torch.randn(num_waves, config.d_model) * SCALE / math.sqrt(num_waves))
        self.ratio_logit: nn.Parameter | None = None
        self.lookup: nn.Embedding | None = None
        if not config.pure_wave:
            self.ratio_logit = nn.Parameter(torch.tensor(config.wave_ratio).logit())
            self.lookup = nn.Embedding(vocab_size, config.d_model)
            nn.init.normal_(self.lookup.weight, std=SCALE)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embed tokens (B, T) at positions start..start+T-1 as (B, T, D)."""
        even, odd = self._coefficients(tokens)
        angles = torch.arange(start, start + tokens.shape[1], device=tokens.device)[:, None] * self.phase_speeds
        wave = (even * angles.cos() + odd * angles.sin()) @ self.projection
        wave = wave.to(self.projection.dtype)  # Mixed precision has made the product small, not the residual stream.
        if self.lookup is None or self.ratio_logit is None:
            return wave
        return torch.lerp(self.lookup(tokens), wave, self.ratio_logit.sigmoid())

    def wave_ratio(self) -> float | None:
        """Share r of the wave in the embedding."""
        return 1.0 if self.ratio_logit is None else self.ratio_logit.sigmoid().item()

    def _coefficients(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """C + S and C - S of each token, both (B, T, W)."""
        rows: slice | Tensor = slice(None)
        if tokens.numel() < len(self.frequencies):  # Then only the tokens of the batch are worth their sines.
            rows, tokens = torch.unique(tokens, return_inverse=True)
        theta = 2 * math.pi * self.harmonics * self.frequencies[rows, :, None] + self.phases[rows, :, None]
        amplitudes = self.amplitudes[rows]
        sines = (amplitudes * theta.sin()).sum(-1)
        cosines = (amplitudes * theta.cos()).sum(-1)
        table = torch.cat((cosines + sines, cosines - sines), dim=-1)
        even, odd = F.embedding(tokens, table).chunk(2, dim=-1)
        return even, odd


EMBEDDINGS: dict[str, type[StandardEmbedding] | type[WaveEmbedding]] = {
    "standard": StandardEmbedding,
    "wave": WaveEmbedding,
}
