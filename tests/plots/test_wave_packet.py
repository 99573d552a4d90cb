"""The mathematics of wave packets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spectral_mlflow.plots import packet

WAVES = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 5)),
    elements=st.floats(-1e3, 1e3, width=16),
)  # fmt: skip


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_packets_equal_the_literal_sum(tokens: int, count: int, harmonics: int, seed: int) -> None:
    """The waves of a packet are sum_h A [sin theta + cos theta], theta = 2 pi h f + phi + gamma p, term by term."""
    draw = np.random.default_rng(seed)
    f, phi, gamma = draw.random((tokens, count)), draw.uniform(0, 7, (tokens, count)), draw.uniform(0, 3, count)
    amplitudes, p = draw.normal(size=(tokens, count, harmonics)), np.arange(5.0)
    literal = np.zeros((tokens, count, p.size))
    for h in range(1, harmonics + 1):
        theta = 2 * np.pi * h * f[..., None] + phi[..., None] + gamma[:, None] * p
        literal += amplitudes[..., h - 1, None] * (np.sin(theta) + np.cos(theta))
    waves = packet.single_waves(f, phi, amplitudes, gamma, p)
    np.testing.assert_allclose(waves, literal, atol=1e-10)
    np.testing.assert_allclose(packet.packets(waves), literal.sum(1), atol=1e-10)


@given(WAVES)
def test_interference_equals_its_definition(waves: np.ndarray) -> None:
    """Over waves and positions the energy of two tokens together is (1 + I) times that of both apart, if there is any.

    A wave of one token meets the same wave of the other only.
    """
    matrix = packet.interference(waves)
    for i, one in enumerate(waves):
        for j, other in enumerate(waves):
            met = [(float(one[place]), float(other[place])) for place in np.ndindex(one.shape)]
            apart = sum(a**2 + b**2 for a, b in met)
            together = sum((a + b) ** 2 for a, b in met)
            twin = together / apart - 1 if apart > 0 else np.nan
            np.testing.assert_allclose(matrix[i, j], twin, atol=1e-9)


def test_different_waves_do_not_meet() -> None:
    """Two tokens whose sums over the waves are opposite, each in a wave of its own, do not interfere."""
    assert packet.interference(np.array([[[1.0, 2], [0, 0]], [[0, 0], [-1, -2]]]))[0, 1] == 0


@given(WAVES, st.sampled_from([1e-30, 1e30]))
def test_interference_has_its_bounds(waves: np.ndarray, unit: float) -> None:
    """Interference lies in -1 to 1, is 1 with itself, -1 with the opposite, the same both ways and in any unit."""
    matrix = packet.interference(np.concatenate([waves, -waves]) * unit)
    known = np.isfinite(matrix)
    size = len(waves)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.all(np.abs(matrix[known]) <= 1)
    energy = (waves**2).sum((1, 2)) > 0
    np.testing.assert_allclose(np.diag(matrix)[:size][energy], 1)
    np.testing.assert_allclose(np.diag(matrix[:size, size:])[energy], -1)
    np.testing.assert_allclose(matrix[:size, :size], packet.interference(waves), atol=1e-9)


def test_unknown_packets_have_no_interference() -> None:
    """A packet without any finite wave is not known, and no pair with it has a number; of others it changes nothing."""
    waves = np.array([[[1.0, 2.0]], [[np.nan, np.inf]], [[2.0, 4.0]]])
    matrix = packet.interference(waves)
    assert np.isnan(packet.packets(waves)[1]).all()
    assert np.isnan(matrix[1]).all()
    assert np.isnan(matrix[:, 1]).all()
    assert matrix[0, 2] == pytest.approx(2 * 10 / (5 + 20))


def test_the_telling_pairs() -> None:
    """Shown are the pair that strengthens most, the one that interferes least and the one that cancels most."""
    matrix = np.array([[1, 0.9, -0.1], [0.9, 1, -0.7], [-0.1, -0.7, 1]])
    assert packet.telling_pairs(matrix) == [(0, 1), (0, 2), (1, 2)]
    assert packet.telling_pairs(matrix[:2, :2]) == [(0, 1)]
    assert packet.telling_pairs(matrix[:1, :1]) == []
    assert packet.telling_pairs(np.full((3, 3), np.nan)) == []
