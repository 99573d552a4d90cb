"""Differences between sets of runs: against scipy and statsmodels, by properties, and on studies without an effect."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from spectral_mlflow.analysis import significance
from spectral_mlflow.analysis.significance import compare_values, family

OPPOSITE = {"lower": "higher", "higher": "lower", "equivalent": "equivalent", "undecided": "undecided"}
Values = dict[int, float]

losses = st.floats(0.1, 20).map(lambda value: round(value, 4))
pairs = st.dictionaries(st.integers(0, 9), st.tuples(losses, losses), min_size=2, max_size=8)


def by_seed(values: list[float], start: int = 0) -> Values:
    """Values with seeds from a number on."""
    return dict(enumerate(values, start))


def split(both: dict[int, tuple[float, float]]) -> tuple[Values, Values]:
    """The two sides of pairs."""
    return {seed: one for seed, (one, _) in both.items()}, {seed: other for seed, (_, other) in both.items()}


def spread(*sides: Values) -> bool:
    """Whether the values and their differences spread, so that references do not divide by zero."""
    rows = [list(side.values()) for side in sides]
    differences = np.subtract(*rows) if len(rows[0]) == len(rows[-1]) else rows[0]
    return min(*map(np.std, rows), float(np.std(differences))) > 1e-3


@settings(max_examples=30)
@given(pairs)
def test_pairs_are_tested_as_by_scipy(both: dict[int, tuple[float, float]]) -> None:
    """The p and the interval of paired values are those of scipy's paired t test."""
    first, second = split(both)
    assume(spread(first, second))
    test = compare_values(first, second)
    found = stats.ttest_rel(list(first.values()), list(second.values()))
    low, high = found.confidence_interval(0.95)
    assert test.paired
    assert test.seeds == tuple(sorted(both))
    assert test.p == pytest.approx(found.pvalue, rel=1e-6, abs=1e-12)
    assert (test.difference.low, test.difference.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@settings(max_examples=30)
@given(st.lists(losses, min_size=2, max_size=6), st.lists(losses, min_size=2, max_size=6))
def test_unpaired_values_are_tested_as_by_scipy(one: list[float], other: list[float]) -> None:
    """The p and the interval of values without common seeds are those of Welch's test."""
    assume(min(np.std(one), np.std(other)) > 1e-3)
    test = compare_values(by_seed(one), by_seed(other, 100))
    found = stats.ttest_ind(one, other, equal_var=False)
    low, high = found.confidence_interval(0.95)
    assert not test.paired
    assert test.p == pytest.approx(found.pvalue, rel=1e-6, abs=1e-12)
    assert (test.difference.low, test.difference.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@settings(max_examples=30)
@given(pairs, st.floats(0.01, 5))
def test_equivalence_is_that_of_statsmodels(both: dict[int, tuple[float, float]], margin: float) -> None:
    """The p of equivalence is that of two one-sided tests, paired and not."""
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    first, second = split(both)
    assume(spread(first, second))
    one, other = np.array(list(first.values())), np.array(list(second.values()))
    paired = weightstats.ttost_paired(one, other, -margin, margin)[0]
    assert compare_values(first, second, margin=margin).p_equivalence == pytest.approx(paired, rel=1e-6, abs=1e-12)
    apart = weightstats.ttost_ind(one, other, -margin, margin, usevar="unequal")[0]
    shifted = {seed + 100: value for seed, value in second.items()}
    assert compare_values(first, shifted, margin=margin).p_equivalence == pytest.approx(apart, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("size", range(1, 13))
def test_holm_is_that_of_statsmodels(size: int) -> None:
    """Adjusted p values are those of multipletests, in the order in which the tests were given, ties included."""
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    ps = (np.random.default_rng(size).integers(0, 9, size) / 8) ** 4
    some = compare_values(by_seed([1.0, 2.0, 3.5]), by_seed([1.1, 1.9, 3.0]), margin=0.1)
    found = family(replace(some, p=p, p_equivalence=1 - p) for p in ps)
    assert [test.p_holm for test in found] == pytest.approx(multitest.multipletests(ps, method="holm")[1])
    turned = multitest.multipletests(1 - ps, method="holm")[1]
    assert [test.p_equivalence_holm for test in found] == pytest.approx(turned)


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("size", [1, 11])
def test_minimum_detectable_effect_is_that_of_statsmodels(n: int, size: int) -> None:
    """Such a difference is found, with its sign, with 80 % power at the level of the family."""
    power = pytest.importorskip("statsmodels.stats.power")
    rng = np.random.default_rng(n)
    first, second = by_seed(list(rng.normal(size=n))), by_seed(list(rng.normal(size=n)))
    test = family([compare_values(first, second)] * size)[0]
    deviation = np.std(np.subtract(list(first.values()), list(second.values())), ddof=1)
    assert test.mde is not None
    found = power.TTestPower().power(test.mde / deviation, nobs=n, alpha=0.025 / size, alternative="larger")
    assert found == pytest.approx(0.8, abs=1e-4)


def test_hedges_g_is_without_bias() -> None:
    """Over many small samples the mean of g is the true difference in standard deviations; that of d is not."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(4000, 2, 4)) + np.array([[[1.0], [0.0]]])
    found = [compare_values(by_seed(list(a)), by_seed(list(b), 100)).g for a, b in samples]
    # The standard error of the mean of g is 0.013 here; without the factor the mean would be 1.15.
    assert np.mean([g for g in found if g is not None]) == pytest.approx(1, abs=0.05)


def test_a_table_value_of_g() -> None:
    """1, 2, 3 against 2, 4, 6: spreads 1 and 2, d = -2 / sqrt(2.5), factor for 4 degrees of freedom 0.7979."""
    test = compare_values(by_seed([1.0, 2.0, 3.0]), by_seed([2.0, 4.0, 6.0]))
    assert test.g == pytest.approx(-2 / math.sqrt(2.5) * 0.797885, rel=1e-6)


@settings(max_examples=30)
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(both: dict[int, tuple[float, float]], random: object) -> None:
    """Values are told apart by their seeds alone, wherever they stand."""
    first, second = split(both)
    seeds = list(first)
    random.shuffle(seeds)  # type: ignore[attr-defined]
    mixed = {seed: first[seed] for seed in seeds}
    assert compare_values(mixed, second, margin=0.1) == compare_values(first, second, margin=0.1)


@settings(max_examples=30)
@given(pairs, st.booleans())
def test_swapped_sides_turn_the_test_around(both: dict[int, tuple[float, float]], apart: bool) -> None:
    """Lower one way is higher the other way; p, margin and detectable effect stay."""
    first, second = split(both)
    if apart:
        second = {seed + 100: value for seed, value in second.items()}
    there, back = (compare_values(*sides, margin=0.5) for sides in ((first, second), (second, first)))
    assert back.outcome == OPPOSITE[there.outcome]
    assert back.difference.mean == pytest.approx(-there.difference.mean)
    assert (back.p, back.p_equivalence) == pytest.approx((there.p, there.p_equivalence))
    assert back.mde == pytest.approx(there.mde)
    assert back.g == (None if there.g is None else pytest.approx(-there.g))


@settings(max_examples=30)
@given(pairs, st.floats(0.001, 1000), st.booleans())
def test_another_unit_changes_no_verdict(both: dict[int, tuple[float, float]], unit: float, apart: bool) -> None:
    """With values, difference and margin in another unit, p and g stay and the detectable effect scales."""
    first, second = split(both)
    if apart:
        second = {seed + 100: value for seed, value in second.items()}
    assume(spread(first, second))
    here = compare_values(first, second, margin=0.5)
    there = compare_values(
        {seed: value * unit for seed, value in first.items()},
        {seed: value * unit for seed, value in second.items()},
        margin=0.5 * unit,
    )
    assert (there.p, there.g, there.p_equivalence) == pytest.approx((here.p, here.g, here.p_equivalence), abs=1e-9)
    assert here.mde is not None
    assert there.mde == pytest.approx(here.mde * unit)


@settings(max_examples=30)
@given(st.lists(pairs, min_size=1, max_size=5))
def test_a_family_decides_no_more_than_its_tests_alone(many: list[dict[int, tuple[float, float]]]) -> None:
    """Adjusting for others never turns what was undecided into a verdict, and keeps the order."""
    alone = [compare_values(*split(both), margin=0.3, name=str(place)) for place, both in enumerate(many)]
    together = family(alone)
    assert [test.name for test in together] == [test.name for test in alone]
    for before, after in zip(alone, together, strict=True):
        assert after.outcome in (before.outcome, "undecided", "equivalent")
        assert before.negligible or not after.negligible
        assert (after.mde or 0) >= (before.mde or 0)


def test_pairing_takes_out_what_seeds_share() -> None:
    """A small constant difference is seen under a large spread of seeds; seeds of one side alone do not count."""
    standard = {0: 1.0, 1: 2.0, 2: 3.0, 9: 50.0}
    wave = {0: 0.90, 1: 1.91, 2: 2.89, 8: -50.0}
    test = compare_values(wave, standard)
    assert (test.seeds, test.n_first, test.n_second) == ((0, 1, 2), 3, 3)
    assert test.difference.mean == pytest.approx(-0.1)
    assert test.outcome == "lower"
    apart = compare_values(by_seed([0.90, 1.91, 2.89]), by_seed([1.0, 2.0, 3.0], 100))
    assert apart.outcome == "undecided"


@pytest.mark.parametrize("second", [{0: 1.0}, {5: 1.0}, {5: 1.0, 6: 1.5}])
def test_one_seed_decides_nothing(second: Values) -> None:
    """With one value on a side there is a difference and no p, in a family too, however large it is."""
    test = compare_values({0: 1e6}, second, margin=1e9)
    assert test.outcome == "undecided"
    (again, other) = family([test, compare_values(by_seed([1.0, 2.0, 3.1]), by_seed([5.0, 6.1, 7.0]))])
    for one in (test, again):
        assert (one.outcome, one.p, one.p_holm, one.mde, one.p_equivalence) == ("undecided", None, None, None, None)
        assert "one seed, no uncertainty" in one.difference.text()
    assert other.p_holm == other.p  # A test without p adds nothing that could be false.


def test_the_same_difference_in_every_seed_is_judged_by_their_number() -> None:
    """Coarse values agree by chance: three equal differences decide nothing, nor do three equal values on each side."""
    for start, least in ((0, 6), (100, 4)):
        found = [
            compare_values(by_seed([50.0] * n), by_seed([100.0] * n, start), margin=1).outcome for n in range(2, 9)
        ]
        assert found == ["undecided"] * (least - 2) + ["lower"] * (9 - least)
    assert compare_values(by_seed([1.0, 2.0]), by_seed([1.0, 2.0])).p == 1
    same = [float(value) for value in range(5)]
    assert compare_values(by_seed(same), by_seed(same), margin=0.01).outcome == "equivalent"


def test_small_and_sure_is_both_lower_and_negligible() -> None:
    """A difference may be real and too small to matter; without a margin nobody asked."""
    first, second = by_seed([1.001, 2.0009, 3.0011, 4.001]), by_seed([1.0, 2.0, 3.0, 4.0])
    test = compare_values(first, second, margin=0.01)
    assert (test.outcome, test.negligible) == ("higher", True)
    assert not compare_values(first, second).negligible


@pytest.mark.parametrize(("first", "margin"), [({}, None), ({0: math.nan, 1: 1.0}, None), ({0: 1.0, 1: 2.0}, -0.1)])
def test_what_cannot_be_compared_is_refused(first: Values, margin: float | None) -> None:
    """No values, values that are not finite and negative margins are mistakes of the caller."""
    with pytest.raises(ValueError, match="finite|above"):
        compare_values(first, {0: 1.0, 1: 2.0}, margin=margin)


@pytest.mark.parametrize(("cells", "shared", "start"), [(2, 0.01, 0), (4, 0.01, 0), (4, 0.0, 100)])
def test_studies_without_an_effect_seldom_claim_one(cells: int, shared: float, start: int) -> None:
    """Of 2,000 studies in which all cells are alike, at most 5 % have any lower or higher, paired by seed or not.

    That share scatters by sqrt(0.05 * 0.95 / 2000) = 0.5 points; three times that is allowed.
    """
    rng = np.random.default_rng(20)
    wrong = 0
    for _ in range(2000):
        values = 1.7 + shared * rng.normal(size=(1, 3)) + 0.005 * rng.normal(size=(cells, 3))
        none, *others = values.tolist()
        tests = family(compare_values(by_seed(cell), by_seed(none, start)) for cell in others)
        wrong += any(test.outcome in ("lower", "higher") for test in tests)
    assert 0.01 < wrong / 2000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_differences_of_the_margin_are_seldom_called_equivalent() -> None:
    """Where the true difference is the margin itself, at most 5 % of 2,000 families have any "equivalent"."""
    rng = np.random.default_rng(21)
    wrong = 0
    for _ in range(2000):
        none, *others = (1.7 + 0.002 * rng.normal(size=(3, 3)) + np.array([[0.0], *[[0.01]] * 2])).tolist()
        wrong += any(test.negligible for test in family(
            compare_values(by_seed(cell), by_seed(none), margin=0.01) for cell in others))  # fmt: skip
    assert 0.01 < wrong / 2000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_scipy_is_loaded_on_use_only() -> None:
    """Importing the statistics loads nothing that a help text would wait for."""
    code = f"import sys, {significance.__name__}; assert not {{'scipy', 'numpy', 'pandas'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
