"""Arrays before they are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots.series import array, mean, names, quantiles, series, smooth, thin

VALUES = arrays.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6))


@given(VALUES, st.integers(0, 300))
def test_smoothing_equals_its_definition(values: np.ndarray, width: int) -> None:
    """The fast smoothing is the triangular mean over the neighbours that there are, written out."""
    reach = min(width, values.size - 1)
    weight = {offset: 1 - abs(offset) / (reach + 1) for offset in range(-reach, reach + 1)}
    twin = [
        sum(w * values[i + o] for o, w in weight.items() if 0 <= i + o < values.size)
        / sum(w for o, w in weight.items() if 0 <= i + o < values.size)
        for i in range(values.size)
    ]
    np.testing.assert_allclose(smooth(values, width), twin, rtol=1e-9, atol=1e-9 * max(1, np.abs(values).max()))


def test_smoothing_stays_within_the_values() -> None:
    """Positive values of very different size stay positive when they are smoothed."""
    values = np.geomspace(1, 1e-19, 2000)
    smoothed = smooth(values, 40)
    assert smoothed.min() >= values.min()
    assert smoothed.max() <= values.max()


@given(arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)), st.integers(2, 50))
def test_thinning_loses_no_spike(values: np.ndarray, most: int) -> None:
    """What is left is few, in order, of the given points, and reaches as high and as low."""
    steps, thinned = thin((np.arange(values.size, dtype=float), values), most)
    assert thinned.size <= max(most, values.size if values.size <= most else 0)
    assert np.all(np.diff(steps) > 0)
    assert np.array_equal(values[steps.astype(int)], thinned)
    assert (thinned.min(), thinned.max()) == (values.min(), values.max())


def test_series_are_sorted_by_step() -> None:
    """Points come in the order of their steps, None is NaN, and points without a step are left out."""
    steps, values = series([3, 1, float("nan"), 2], [30, None, 99, 20])
    assert steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(values, [np.nan, 20, 30])


def test_the_far_away_is_infinite() -> None:
    """Values beyond float32 cannot be drawn and count as infinite, with their sign, or as zero."""
    assert array([1e300, -1e300, 1.0, 1e-300], "n").tolist() == [np.inf, -np.inf, 1.0, 0.0]


def test_wrong_shapes_are_named() -> None:
    """A wrong number of dimensions, of steps or of labels is refused with what was given and what is allowed."""
    with pytest.raises(UserError, match=r"shape \(3,\); allowed: \(V, W\)"):
        array([1, 2, 3], "VW")
    with pytest.raises(UserError, match="2 steps for 3 values"):
        series([1, 2], [1, 2, 3])
    with pytest.raises(UserError, match="1 labels for 2 rows"):
        names(["a"], 2)


def test_statistics_ignore_what_is_not_finite() -> None:
    """Quantiles and means of a column are those of its finite values; of none there are none."""
    values = np.array([[1, np.nan], [3, np.nan], [np.inf, np.nan]])
    np.testing.assert_array_equal(quantiles(values, np.array([0.0, 1.0])), [[1, np.nan], [3, np.nan]])
    np.testing.assert_array_equal(mean(values, 0), [2, np.nan])
