"""How a text is continued: the choices of whoever asks for one, checked before any model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spectral_mlflow.errors import UserError

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """What decides a text besides the model and the prompt.

    Attributes:
        max_tokens: most tokens to add.
        temperature: divides the logits; 0 takes the likeliest token each time.
        top_k: choose among so many of the likeliest tokens; None: among all.
        top_p: choose among the fewest likeliest tokens that have this probability together; None: among all.
        stop: the added text ends before the first of these, which is not part of it.
        seed: same seed, same text.

    Raises:
        UserError: a value that is not allowed.
    """

    max_tokens: int = 500
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, self.max_tokens >= 0, "0 or more")
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 (likeliest token) or more")
        _check("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more, or leave it out")
        _check("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0, at most 1, or leave it out")
        _check("stop", "an empty text", all(self.stop), "at least one character, or leave it out")
        _check("seed", self.seed, 0 <= self.seed <= LARGEST_SEED, f"0 to {LARGEST_SEED}")


def _check(name: str, given: object, allowed: bool, what: str) -> None:
    if not allowed:
        raise UserError(f"{name}: given {given}; allowed: {what}")
