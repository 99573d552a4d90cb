"""Dropout."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.models.dropout import Dropout


@given(probability=st.floats(0.01, 0.95), seed=st.integers(0, 2**32))
def test_zeroes_the_share_it_was_told_and_keeps_the_mean(probability: float, seed: int) -> None:
    """About as many zeros as asked for, and the kept numbers grow by the inverse of their probability."""
    torch.manual_seed(seed)
    x = torch.ones(100, 203)
    y = Dropout(probability)(x)
    error = 5 * (probability * (1 - probability) / x.numel()) ** 0.5 + 2**-16
    assert (y == 0).float().mean().item() == pytest.approx(probability, abs=error)
    assert y[y != 0].unique().tolist() == pytest.approx([1 / (1 - probability)], rel=1e-3)


def test_neighbours_are_dropped_independently() -> None:
    """The four numbers that share a draw, and the two halves of a row, do not drop together."""
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(50_000, 8)) == 0).float()
    correlations = torch.corrcoef(dropped.T) - torch.eye(8)
    assert correlations.abs().max() < 5 / 50_000**0.5


def test_gradient_passes_where_the_number_was_kept() -> None:
    """The same mask in both directions."""
    torch.manual_seed(1)
    x = torch.full((7, 5), 2.0, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach() / 2)


def test_follows_the_seed() -> None:
    """The same seed drops the same numbers, another one others."""
    x = torch.ones(1000)

    def dropped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return Dropout(0.5)(x)

    assert torch.equal(dropped(0), dropped(0))
    assert not torch.equal(dropped(0), dropped(1))


def test_almost_certain_zeros_stay_finite() -> None:
    """A probability that rounds to 1 leaves what is kept finite."""
    assert Dropout(0.999999)(torch.ones(100_000)).isfinite().all()


def test_does_nothing_outside_of_training_or_with_probability_0() -> None:
    """The very same tensor, and no random number is drawn."""
    x, before = torch.randn(5), torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(before, torch.get_rng_state())
