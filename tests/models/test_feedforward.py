"""Feed-forward layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spectral_mlflow.models.feedforward import FEEDFORWARDS, SineWithSlope


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20))
def test_activation_is_sine_with_slope(values: list[float]) -> None:
    """Value and gradient of the activation are those of sin(x) + 0.1 x."""
    fast = torch.tensor(values, requires_grad=True)
    slow = torch.tensor(values, requires_grad=True)
    upstream = torch.linspace(-1, 2, len(values))
    one, other = SineWithSlope.apply(fast), torch.sin(slow) + 0.1 * slow
    one.backward(upstream)
    other.backward(upstream)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "activation"), [("standard", nn.functional.gelu), ("wave", lambda x: torch.sin(x) + 0.1 * x)]
)
def test_is_expansion_activation_projection(kind: str, activation) -> None:
    """D -> hidden, the activation, hidden -> D."""
    torch.manual_seed(0)
    layer = FEEDFORWARDS[kind](8, 20)
    x = torch.randn(2, 3, 8)
    expected = activation(x @ layer.expansion.weight.T) @ layer.projection.weight.T
    assert layer.expansion.weight.shape == (20, 8)
    torch.testing.assert_close(layer(x), expected)


def test_backward_leaves_its_input_alone() -> None:
    """A graph can be walked twice: the backward pass overwrites nothing that it was given."""
    x = torch.randn(50, requires_grad=True)
    upstream = torch.randn(50)
    kept = upstream.clone()
    y = SineWithSlope.apply(x)
    (first,) = torch.autograd.grad(y, x, upstream, retain_graph=True)
    (second,) = torch.autograd.grad(y, x, upstream)
    assert torch.equal(first, second)
    assert torch.equal(upstream, kept)
