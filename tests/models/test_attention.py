"""Causal attention."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models.attention import ATTENTIONS, InterferenceAttention, StandardAttention
from spectral_mlflow.models.cache import LayerCache


def attention(kind: str, num_waves: int = 4) -> nn.Module:
    """An attention layer with weights of order 1, so that scores differ."""
    torch.manual_seed(0)
    layer = ATTENTIONS[kind](ModelConfig(d_model=16, num_heads=2, block_size=12, num_waves=num_waves))
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
            else:
                parameter += torch.linspace(-0.5, 0.5, len(parameter))
    return layer


def parts(layer: nn.Module, x: Tensor) -> tuple[list[Tensor], float | Tensor]:
    """Query, key and value of each head (B, T, heads, width)."""
    if isinstance(layer, StandardAttention):
        return [part.unflatten(-1, (2, -1)) for part in layer.query_key_value(x).split(16, dim=-1)]
    sizes = (layer.num_phases, layer.num_phases, 16)
    return [part.unflatten(-1, (2, -1)) for part in layer.phases_value(x).split(sizes, dim=-1)]


def literal(layer: nn.Module, x: Tensor) -> Tensor:
    """The formula as it is written: a score for every pair of tokens, one after the other."""
    query, key, value = parts(layer, x)
    rows = []
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            heads = []
            for head in range(2):
                scores = []
                for j in range(i + 1):
                    one, other = query[b, i, head], key[b, j, head]
                    if isinstance(layer, StandardAttention):
                        scores.append((one * other).sum() / math.sqrt(8))
                    else:
                        scores.append(layer.log_tau[head].exp() * (one - other).cos().mean())
                weights = torch.stack(scores).softmax(0)
                heads.append(weights @ value[b, : i + 1, head])
            rows.append(layer.projection(torch.cat(heads)))
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize(("kind", "num_waves"), [("standard", 4), ("wave", 4), ("wave", 3), ("wave", 9)])
def test_equals_the_literal_double_loop(kind: str, num_waves: int) -> None:
    """Values and all gradients are those of the formula, for features narrower, as wide and wider than values."""
    layer = attention(kind, num_waves)
    x = torch.randn(2, 7, 16, requires_grad=True)
    upstream = torch.randn(2, 7, 16)
    fast, slow = layer(x), literal(layer, x)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    variables = [x, *layer.parameters()]
    fast_gradients = torch.autograd.grad(fast, variables, upstream)
    slow_gradients = torch.autograd.grad(slow, variables, upstream)
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1.0, other.abs().max().item()))


@settings(max_examples=30)
@given(shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_only_phase_differences_count(shift: float, seed: int) -> None:
    """The same constant added to every phase of query and key changes nothing."""
    layer = attention("wave")
    x = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(seed))
    before = layer(x)
    layer.phases_value.register_forward_hook(
        lambda _module, _inputs, output: torch.cat(
            (output[..., : 2 * layer.num_phases] + shift, output[..., 2 * layer.num_phases :]), dim=-1
        )
    )
    torch.testing.assert_close(layer(x), before, rtol=1e-4, atol=1e-4)


def test_a_shift_of_the_keys_alone_counts() -> None:
    """Shifting keys but not queries does change the result, so the invariance above is not an accident."""
    layer = attention("wave")
    x = torch.randn(1, 6, 16)
    before = layer(x)
    layer.phases_value.register_forward_hook(
        lambda _module, _inputs, output: (
            output + torch.cat((torch.zeros(layer.num_phases), torch.ones(layer.num_phases), torch.zeros(16)))
        )
    )
    assert (layer(x) - before).abs().max() > 0.01


def test_sharpness_starts_at_the_root_of_twice_the_waves() -> None:
    """Each head starts with tau = sqrt(2 W)."""
    layer = InterferenceAttention(ModelConfig(d_model=16, num_heads=2, num_waves=8))
    torch.testing.assert_close(layer.log_tau.exp(), torch.full((2,), 4.0))


@pytest.mark.parametrize("kind", ["standard", "wave"])
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_pieces_with_a_cache_equal_the_whole(kind: str, lengths: list[int]) -> None:
    """Tokens given piece by piece, with a cache, are mixed as when given at once."""
    layer = attention(kind)
    x = torch.randn(2, sum(lengths), 16)
    cache = LayerCache(sum(lengths))
    with torch.no_grad():
        pieces = torch.cat([layer(piece, cache) for piece in x.split(lengths, dim=1)], dim=1)
        torch.testing.assert_close(pieces, layer(x), rtol=1e-5, atol=1e-5)
    assert cache.length == sum(lengths)


@pytest.mark.parametrize("kind", ["standard", "wave"])
def test_the_pattern_is_what_the_layer_mixes_by(kind: str) -> None:
    """Weights are causal, sum to one, and give the output of the layer when values are mixed by them."""
    layer, x = attention(kind), torch.randn(2, 7, 16)
    weights = layer.pattern(x).weights
    *_, value = parts(layer, x)
    mixed = layer.projection((weights @ value.transpose(1, 2)).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, layer(x), rtol=1e-5, atol=1e-5)
    assert weights.triu(1).abs().max() == 0


def test_coherence_is_the_agreement_of_phases() -> None:
    """It is the length of the mean phasor of each pair, by the formula one pair after the other."""
    layer, x = attention("wave", 3), torch.randn(1, 5, 16)
    query, key, _ = parts(layer, x)
    coherence = layer.pattern(x).coherence
    for head, i, j in ((0, 0, 0), (0, 4, 1), (1, 2, 3)):
        phasors = [complex(math.cos(d), math.sin(d)) for d in (query[0, i, head] - key[0, j, head]).tolist()]
        assert coherence[0, head, i, j].item() == pytest.approx(abs(sum(phasors) / 3), abs=1e-5)
    assert attention("standard").pattern(x).coherence is None
