"""Means over seeds and how sure one can be of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["lower", "higher", "equivalent", "undecided"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its Student t interval; without an interval where there is one value only.

    The t interval keeps its coverage with a few seeds. The bootstrap's percentile interval of three values reaches from
    the least to the greatest, and holds the median with a probability of 1 - 2 / 2^3 = 0.75 only.

    Attributes:
        mean: arithmetic mean.
        half_width: half the width of the interval, None for one value.
        n: number of values.
        confidence: coverage of the interval if the values are independent and normal.
    """

    mean: float
    half_width: float | None
    n: int
    confidence: float = CONFIDENCE

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half_width is None else self.mean + self.half_width

    def text(self, digits: int = 4) -> str:
        """For people: the mean with its interval, or the value with the words that it has none."""
        if math.isinf(self.mean):
            return "inf"
        if self.low is None or self.high is None:
            return f"{self.mean:.{digits}f} (one seed, no uncertainty)"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean and t interval of independent values: mean +- t_{n-1} s / sqrt(n), s with n - 1 below.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    mean, deviation = moments(values)
    if deviation is None:
        return Estimate(mean, None, 1, confidence)
    return interval(mean, deviation / math.sqrt(len(values)), len(values) - 1, len(values), confidence)


def interval(mean: float, standard_error: float, df: float, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """The t interval about a mean of n values, whose standard error has these degrees of freedom."""
    from scipy.special import stdtrit  # Costs a third of a second, which no help text need wait for.

    return Estimate(mean, float(stdtrit(df, (1 + confidence) / 2)) * standard_error, n, confidence)


def moments(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation, with n - 1 below; None for the deviation of one value.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    n = len(values)
    if n == 0 or not all(map(math.isfinite, values)):
        raise ValueError("an estimate needs at least one value, all of them finite")
    mean = math.fsum(value / n for value in values)
    if n == 1:
        return mean, None
    return mean, math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1)
