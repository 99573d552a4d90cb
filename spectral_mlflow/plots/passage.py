"""What is drawn of a text on its way through a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spectral_mlflow.plots.series import Array


@dataclass(frozen=True)
class Passage:
    """A forward pass of T tokens through L blocks of width D.

    Attributes:
        tokens: their texts (T,).
        stream: (L + 1, T, D), the residual stream behind the embedding and behind each block.
        attention: (L, heads, T, T), weights of query (row) and key.
        hidden: (L, T, hidden), what the activation of each feed-forward gives.
        guesses: the most likely next tokens (K,), the likeliest first.
        chances: their probabilities (K,).
        loss: mean cross-entropy on the tokens from the second on, in nats.
    """

    tokens: Sequence[str]
    stream: Array
    attention: Array
    hidden: Array
    guesses: Sequence[str]
    chances: Array
    loss: float


@dataclass(frozen=True)
class Spelling:
    """The tokens of a word in the embedding of a model.

    Attributes:
        tokens: their texts (N,).
        lookup: (N, D), their rows of the lookup table; (N, 0) without one.
        frequencies: (N, W), in turns; (N, 0) without waves, as the two below.
        phases: (N, W), in radians.
        amplitudes: (N, W, H).
        phase_speeds: (W,), in radians a position.
    """

    tokens: Sequence[str]
    lookup: Array
    frequencies: Array
    phases: Array
    amplitudes: Array
    phase_speeds: Array
