"""Order statistics and tests of trend and periodicity, for short series."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def median(values: Sequence[float]) -> float:
    """Middle of the sorted values, at least one; of two middles the mean."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def theil_sen(values: Sequence[float]) -> float:
    """Median slope between all pairs of N values at 0, 1, .. N - 1 (Theil 1950, Sen 1968)."""
    rises, runs = _pairs(values)
    return float(np.median(rises / runs))


def mann_kendall(values: Sequence[float]) -> float:
    """Standard score of a monotonic trend in N values (Mann 1945, Kendall 1975), ties counted as no trend.

    ``S = sum over pairs of sign(later - earlier)``; ``Var S = N (N - 1) (2 N + 5) / 18``, less
    ``t (t - 1) (2 t + 5) / 18`` for each group of t equal values; ``z = (S -+ 1) / sqrt(Var S)``.
    """
    total = int(np.sign(_pairs(values)[0]).sum())
    _, groups = np.unique(np.asarray(values), return_counts=True)
    variance = (_kendall(len(values)) - sum(_kendall(int(size)) for size in groups)) / 18
    return (total - math.copysign(1, total)) / math.sqrt(variance) if total and variance > 0 else 0.0


def _kendall(size: int) -> int:
    return size * (size - 1) * (2 * size + 5)


def _pairs(values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    series = np.asarray(values, dtype=float)
    earlier, later = np.triu_indices(len(series), 1)
    return series[later] - series[earlier], (later - earlier).astype(float)


def fisher_g(powers: Sequence[float]) -> float:
    """Probability that noise has a line as strong as the strongest of these n ordinates of a periodogram (Fisher 1929).

    With ``g = max / sum``: ``P(G > g) = sum_j (-1)^(j - 1) C(n, j) (1 - j g)^(n - 1)`` over ``j <= 1 / g``. The first
    term bounds it from above, and is it but for nothing where it is small.
    """
    total = math.fsum(powers)
    if total <= 0:
        return 1.0
    g = max(powers) / total
    return min(1.0, len(powers) * max(0.0, 1 - g) ** (len(powers) - 1))
