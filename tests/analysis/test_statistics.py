"""Means, intervals and what they allow to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spectral_mlflow.analysis.statistics import estimate

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


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nothing_and_non_finite_values_are_refused(values: list[float]) -> None:
    """An estimate of nothing would be a made-up number."""
    with pytest.raises(ValueError, match="finite"):
        estimate(values)


def test_huge_values_have_an_interval() -> None:
    """Values whose squares no float holds, such as perplexities of a model that diverged, are no obstacle."""
    found = estimate([1e200, 3e200])
    assert found.mean == pytest.approx(2e200)
    assert found.half_width == pytest.approx(12.706205e200, rel=1e-6)
