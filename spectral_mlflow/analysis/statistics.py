"""Means over seeds and how sure one can be of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["lower", "higher", "undecided"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its Student t interval; without an interval where there is one value only.

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
    n = len(values)
    if n == 0 or not all(math.isfinite(value) for value in values):
        raise ValueError("an estimate needs at least one value, all of them finite")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, 1, confidence)
    from scipy.stats import t  # Costs half a second, which a program that only prints its help need not wait for.

    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    quantile = float(t.ppf((1 + confidence) / 2, n - 1))
    return Estimate(mean, quantile * math.sqrt(variance / n), n, confidence)


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate of first minus second over the seeds that both have.

    Args:
        first: seed to value.
        second: seed to value.
        confidence: coverage of the interval.

    Raises:
        ValueError: no seed in common, or a value that is not finite.
    """
    seeds = sorted(first.keys() & second.keys())
    return estimate([first[seed] - second[seed] for seed in seeds], confidence)


def verdict(difference: Estimate) -> Outcome:
    """What a difference says of the first of the two: its whole interval on one side of zero, or undecided."""
    if difference.high is not None and difference.high < 0:
        return "lower"
    if difference.low is not None and difference.low > 0:
        return "higher"
    return "undecided"
