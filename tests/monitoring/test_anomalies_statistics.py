"""The statistics behind the detectors, against scipy and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spectral_mlflow.monitoring.anomalies.baseline import Baseline
from spectral_mlflow.monitoring.anomalies.oscillation import periodogram
from spectral_mlflow.monitoring.anomalies.statistics import fisher_g, mann_kendall, median, theil_sen

SERIES = st.lists(st.integers(-1000, 1000).map(float), min_size=4, max_size=40)


@given(SERIES)
def test_theil_sen_is_that_of_scipy(values: list[float]) -> None:
    """The slope of `scipy.stats.theilslopes`."""
    assert theil_sen(values) == pytest.approx(stats.theilslopes(values).slope, abs=1e-12)


@given(SERIES)
def test_median_is_that_of_numpy(values: list[float]) -> None:
    """Of an odd and an even number of values."""
    assert median(values) == np.median(values)


@given(SERIES)
def test_mann_kendall_agrees_with_kendalls_tau(values: list[float]) -> None:
    """It has the sign of tau with time, and for values without ties the usual variance."""
    tau = stats.kendalltau(range(len(values)), values).statistic
    score = mann_kendall(values)
    if len(set(values)) == 1:
        assert score == 0
        return
    assert score == 0 or np.sign(score) == np.sign(tau)
    if len(set(values)) == len(values):
        n = len(values)
        total = round(tau * n * (n - 1) / 2)
        expected = (total - np.sign(total)) / np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
        assert score == pytest.approx(expected)


def test_mann_kendall_of_noise_is_standard_normal() -> None:
    """Over 2,000 series of noise its deviation is 1."""
    generator = np.random.default_rng(0)
    scores = [mann_kendall(generator.normal(size=24)) for _ in range(2000)]  # type: ignore[arg-type]
    assert np.std(scores) == pytest.approx(1, abs=0.07)
    assert np.mean(scores) == pytest.approx(0, abs=0.07)


def test_fishers_g_of_noise() -> None:
    """White noise falls below a probability of 0.05 in five of a hundred series."""
    generator = np.random.default_rng(0)
    found = [fisher_g(list(generator.exponential(size=60))) for _ in range(4000)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.012)
    assert fisher_g([0.0, 0.0]) == 1.0


def test_a_periodogram_has_its_line_at_the_frequency() -> None:
    """A sine of eight periods on a quadratic trend, with an outlier, is the eighth ordinate."""
    time = np.arange(128)
    values = np.sin(2 * np.pi * 8 * time / 128) + 1e-3 * (time - 60.0) ** 2
    values[50] += 100
    powers = periodogram([float(value) for value in values])
    assert powers.index(max(powers[2:])) == 8


def test_a_baseline_follows_a_drift_and_keeps_outliers_apart() -> None:
    """Spread is that of the noise; what is only scored changes nothing."""
    generator = np.random.default_rng(0)
    baseline = Baseline()
    for step in range(300):
        baseline.enter(5 - step / 1000 + generator.normal(0, 0.1))
    level = baseline.level
    assert level == pytest.approx(4.7, abs=0.1)
    assert baseline.spread == pytest.approx(0.1, rel=0.3)
    assert baseline.score(7.0) > 10
    assert baseline.level == level
