"""Whether two sets of runs differ, whether they are practically the same, and what could have been seen at all.

Only `scipy.special` is needed, which is imported where it is used: a program that prints its help does not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from spectral_mlflow.analysis.statistics import Estimate, Outcome, interval, moments

ALPHA = 0.05
POWER = 0.8
LOSS_MARGIN = 0.01  # Nats a token: a difference inside of it is called no difference.
ROUNDING = 1e-12  # Of the values: differences that spread less than that do not spread at all.


@dataclass(frozen=True)
class Test:
    """A difference between two sets of runs (first minus second) and what may be said of it.

    Attributes:
        name: what was compared, such as "main.val_loss".
        difference: with its 95 % t interval, which knows nothing of the family.
        paired: whether values of the same seed were subtracted; else the two sides stood apart (Welch).
        seeds: the seeds of the pairs; empty where the sides stood apart.
        n_first: number of values of the first that counted.
        n_second: number of values of the second that counted.
        standard_error: of the difference; None with one seed.
        df: its degrees of freedom; None with one seed.
        p: two-sided, of no difference; None with one seed, which allows no test.
        g: Hedges' standardised difference, see `hedges_g`; None where seeds do not spread, or are too few.
        mde: minimum detectable effect: the true difference that such runs find with 80 % probability, at the level
            `alpha` or, in a family of m, at alpha / m, which Holm's procedure surely grants to each of them.
        margin: differences inside of it count as none; None: equivalence was not asked about.
        p_equivalence: of a difference of the margin or more, by two one-sided tests; None without a margin or a p.
        alpha: level of the tests.
        p_holm: p adjusted for the family, None outside of one.
        p_equivalence_holm: p_equivalence adjusted for the family, None outside of one.
    """

    __test__ = False  # It would be collected by pytest, for its name.

    name: str
    difference: Estimate
    paired: bool
    seeds: tuple[int, ...]
    n_first: int
    n_second: int
    standard_error: float | None = None
    df: float | None = None
    p: float | None = None
    g: float | None = None
    mde: float | None = None
    margin: float | None = None
    p_equivalence: float | None = None
    alpha: float = ALPHA
    p_holm: float | None = None
    p_equivalence_holm: float | None = None

    @property
    def outcome(self) -> Outcome:
        """What the data say of the first: lower, higher, equivalent, or undecided."""
        p = self.p if self.p_holm is None else self.p_holm
        if p is not None and p < self.alpha:
            return "lower" if self.difference.mean < 0 else "higher"
        return "equivalent" if self.negligible else "undecided"

    @property
    def negligible(self) -> bool:
        """Whether the difference was shown to lie inside the margin, which one that is lower or higher may do too."""
        p = self.p_equivalence if self.p_equivalence_holm is None else self.p_equivalence_holm
        return p is not None and p < self.alpha


def compare_values(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    margin: float | None = None,
    name: str = "",
    alpha: float = ALPHA,
) -> Test:
    """Compare two sets of values, each by seed.

    Two seeds in common or more are compared pair by pair, and the others do not count; with less, all values count and
    Welch's test is made. One value on a side gives a difference without a test, and nothing is decided.

    A t test of differences that are all the same number would be infinitely sure, which happens by chance where
    values are coarse (steps to a target, say): then only their number counts, and p is that of a permutation test.

    Args:
        first: seed to value.
        second: seed to value.
        margin: difference that is too small to matter, in the unit of the values.
        name: of the test.
        alpha: level of the test.

    Raises:
        ValueError: a side without values, a value that is not finite, a margin that is not above zero.
    """
    if margin is not None and not margin >= 0:
        raise ValueError(f"margin: given {margin}; allowed: zero or above")
    seeds = tuple(sorted(first.keys() & second.keys()))
    paired = len(seeds) > 1 or (bool(seeds) and min(len(first), len(second)) < 2)
    if paired:
        found = _paired([first[seed] for seed in seeds], [second[seed] for seed in seeds])
    else:
        found = _apart(list(first.values()), list(second.values()))
    return Test(
        name, found.estimate, paired, seeds if paired else (), *found.sizes, found.error, found.df,
        p=found.p, g=found.g, mde=_mde(found.error, found.df, alpha),
        margin=margin, p_equivalence=None if margin is None else found.p_equivalence(margin), alpha=alpha,
    )  # fmt: skip


def family(tests: Iterable[Test], alpha: float = ALPHA) -> list[Test]:
    """The same tests, each adjusted for the others by Holm's step-down procedure (Holm 1979).

    The probability of any false "lower" or "higher" among them is at most `alpha`, however they depend on each other,
    and that of any false "equivalent" as well. A test without a p (one seed) is no part of the family.
    """
    given = list(tests)
    differences = _holm([test.p for test in given])
    equivalences = _holm([test.p_equivalence for test in given])
    size = max(1, sum(test.p is not None for test in given))
    return [
        replace(
            test, alpha=alpha, p_holm=p, p_equivalence_holm=same, mde=_mde(test.standard_error, test.df, alpha / size)
        )
        for test, p, same in zip(given, differences, equivalences, strict=True)
    ]


def hedges_g(difference: float, deviations: tuple[float, float], sizes: tuple[int, int]) -> float | None:
    """A difference in units of the spread over seeds, without the bias of small samples.

    The denominator is sqrt((s_1^2 + s_2^2) / 2), the average standard deviation of the two sides, for pairs too: the
    spread of the differences would make the effect of a pairing look like an effect of the model (d_av: Cumming,
    Understanding the New Statistics, 2012, chapter 11; Lakens, Frontiers in Psychology 4:863, 2013). The factor is
    the exact one of Hedges (Journal of Educational Statistics 6, 1981) with n_1 + n_2 - 2 degrees of freedom; where
    the sides correlate strongly a little bias remains.
    """
    spread = math.hypot(*deviations) / math.sqrt(2)
    if spread == 0:
        return None
    df = sum(sizes) - 2
    factor = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return factor * difference / spread


class _Difference(NamedTuple):
    """A difference of means.

    Attributes:
        mean: first minus second.
        sizes: numbers of values.
        error: standard error, None with one value on a side; zero where nothing spreads.
        df: degrees of freedom of the error.
        g: Hedges' g.
        orders: in how many ways signs, or sides, could have been dealt out, equally likely if there is no difference.
    """

    mean: float
    sizes: tuple[int, int]
    error: float | None = None
    df: float | None = None
    g: float | None = None
    orders: int = 1

    @property
    def estimate(self) -> Estimate:
        if self.error is None or self.df is None:
            return Estimate(self.mean, None, 1)
        return interval(self.mean, self.error, self.df, min(self.sizes))

    @property
    def p(self) -> float | None:
        from scipy.special import stdtr

        if self.error is None:
            return None
        if self.error == 0:  # A permutation test, whose p depends on the numbers of values alone.
            return 1.0 if self.mean == 0 else min(1.0, 2 / self.orders)
        return min(1.0, 2 * float(stdtr(self.df, -abs(self.mean) / self.error)))

    def p_equivalence(self, margin: float) -> float | None:
        """The larger p of two one-sided tests (Schuirmann 1987): is it above -margin, and is it below margin?"""
        from scipy.special import stdtr

        if self.error is None:
            return None
        beyond = abs(self.mean) - margin
        if self.error == 0:
            return 1 / self.orders if beyond < 0 else 1.0
        return float(stdtr(self.df, beyond / self.error))


def _paired(first: Sequence[float], second: Sequence[float]) -> _Difference:
    n = len(first)
    mean, deviation = moments([one - other for one, other in zip(first, second, strict=True)])
    s_first, s_second = moments(first)[1], moments(second)[1]
    if deviation is None or s_first is None or s_second is None:
        return _Difference(mean, (n, n))
    error = _unless_rounding(deviation / math.sqrt(n), first, second)
    return _Difference(mean, (n, n), error, n - 1, hedges_g(mean, (s_first, s_second), (n, n)), 2**n)


def _apart(first: Sequence[float], second: Sequence[float]) -> _Difference:
    n, m = len(first), len(second)
    (mean, s_first), (other, s_second) = moments(first), moments(second)
    if s_first is None or s_second is None:
        return _Difference(mean - other, (n, m))
    own = s_first / math.sqrt(n), s_second / math.sqrt(m)
    error = _unless_rounding(math.hypot(*own), first, second)
    # Satterthwaite's approximation; without an error there is nothing that its degrees of freedom could change.
    df = 1 / ((own[0] / error) ** 4 / (n - 1) + (own[1] / error) ** 4 / (m - 1)) if error else n + m - 2
    g = hedges_g(mean - other, (s_first, s_second), (n, m))
    return _Difference(mean - other, (n, m), error, df, g, math.comb(n + m, n))


def _unless_rounding(error: float, first: Sequence[float], second: Sequence[float]) -> float:
    return error if error > ROUNDING * max(map(abs, (*first, *second))) else 0.0


def _mde(error: float | None, df: float | None, alpha: float) -> float | None:
    return _noncentrality(df, alpha) * error if error and df else None


@lru_cache(maxsize=1024)
def _noncentrality(df: float, alpha: float) -> float:
    """Noncentrality at which a two-sided t test finds a difference with the probability `POWER`.

    A difference that is found with the wrong sign is not counted: it adds less than 0.0005 to the power.
    """
    from scipy.special import nctdtrinc, stdtrit

    return float(nctdtrinc(df, 1 - POWER, stdtrit(df, 1 - alpha / 2)))


def _holm(ps: Sequence[float | None]) -> list[float | None]:
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    reached = 0.0
    for rank, (p, place) in enumerate(known):
        reached = min(1.0, max(reached, (len(known) - rank) * p))
        adjusted[place] = reached
    return adjusted
