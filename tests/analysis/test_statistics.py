"""Means, intervals and what they allow to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spectral_mlflow.analysis.statistics import Estimate, estimate, paired_difference, verdict

losses = st.floats(min_value=0.1, max_value=20)


@given(st.lists(losses, min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    """Mean and ends agree with scipy's t interval."""
    found = estimate(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_a_table_value() -> None:
    """1, 2, 3: mean 2, t(0.975, 2) = 4.3027, s / sqrt 3 = 0.5774."""
    found = estimate([1.0, 2.0, 3.0])
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.text(2) == "2.00 [-0.48, 4.48]"


def test_one_value_has_no_interval() -> None:
    """One seed gives the value and the words that there is no uncertainty."""
    found = estimate([2.5])
    assert found.half_width is None
    assert found.text() == "2.5000 (one seed, no uncertainty)"
    assert verdict(found) == "undecided"


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nothing_and_non_finite_values_are_refused(values: list[float]) -> None:
    """An estimate of nothing would be a made-up number."""
    with pytest.raises(ValueError, match="finite"):
        estimate(values)


def test_pairing_by_seed_takes_out_what_seeds_share() -> None:
    """A small constant difference is seen under a large spread of seeds; unpaired seeds do not count."""
    standard = {0: 1.0, 1: 2.0, 2: 3.0, 9: 50.0}
    wave = {0: 0.90, 1: 1.91, 2: 2.89, 8: -50.0}
    difference = paired_difference(wave, standard)
    assert difference.n == 3
    assert difference.mean == pytest.approx(-0.1)
    assert verdict(difference) == "lower"
    assert verdict(paired_difference(standard, wave)) == "higher"


@given(st.dictionaries(st.integers(0, 5), losses, min_size=2), st.dictionaries(st.integers(0, 5), losses, min_size=2))
def test_the_verdict_turns_around_with_the_order(first: dict[int, float], second: dict[int, float]) -> None:
    """Lower one way is higher the other way, and undecided is undecided both ways."""
    if not first.keys() & second.keys():
        return
    opposite = {"lower": "higher", "higher": "lower", "undecided": "undecided"}
    there, back = verdict(paired_difference(first, second)), verdict(paired_difference(second, first))
    assert back == opposite[there]


def test_an_interval_that_touches_zero_decides_nothing() -> None:
    """Only a whole interval on one side of zero decides."""
    assert verdict(Estimate(0.5, 0.5, 3)) == "undecided"
    assert verdict(Estimate(-0.5, 0.5, 3)) == "undecided"
    assert verdict(Estimate(0.5, 0.4, 3)) == "higher"
