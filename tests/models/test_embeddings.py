"""Token embeddings."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import references
from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models.embeddings import StandardEmbedding, WaveEmbedding

SIZES = ModelConfig(d_model=16, num_layers=1, num_heads=2, block_size=12, num_waves=5, num_harmonics=3)


def wave_embedding(vocab_size: int, config: ModelConfig = SIZES) -> WaveEmbedding:
    """An embedding whose features are of order 1, so that absolute tolerances mean something."""
    torch.manual_seed(0)
    embedding = WaveEmbedding(config, vocab_size)
    with torch.no_grad():
        embedding.projection.normal_()
        embedding.lookup.weight.normal_()
        embedding.ratio_logit.fill_(0.7)
    return embedding


@pytest.mark.parametrize("vocab_size", [7, 60], ids=["whole table", "tokens of the batch"])
def test_equals_the_literal_formula(vocab_size: int) -> None:
    """Values and all gradients are those of the formula, whether or not the table is computed whole."""
    embedding = wave_embedding(vocab_size)
    tokens = torch.tensor([[3, 1, 4, 1, 5, 6, 2, 6], [5, 3, 5, 0, 3, 2, 3, 6]])
    upstream = torch.randn(2, 8, 16)
    parameters = list(embedding.parameters())
    fast = embedding(tokens, 3)
    slow = references.wave_embedding(embedding, tokens, 3)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    fast_gradients = torch.autograd.grad(fast, parameters, upstream)
    slow_gradients = torch.autograd.grad(slow, parameters, upstream)
    for (name, _), one, other in zip(embedding.named_parameters(), fast_gradients, slow_gradients, strict=True):
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * scale, msg=lambda text, name=name: f"{name}: {text}")


def test_largest_tensor_is_not_of_batch_waves_and_harmonics() -> None:
    """No tensor of B T W H elements is ever formed, forward or backward."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.numel())
            return result

    config = ModelConfig(d_model=4, num_heads=1, block_size=16, num_waves=6, num_harmonics=8)
    embedding = WaveEmbedding(config, 10)
    with Watch():
        embedding(torch.randint(10, (8, 16))).sum().backward()
    assert 0 < largest < 8 * 16 * 6 * 8


@settings(max_examples=25)
@given(
    f=st.integers(-3, 3),
    vocab_size=st.integers(1, 40),
    batch=st.integers(1, 3),
    length=st.integers(1, 12),
)
def test_frequencies_are_known_modulo_one(f: int, vocab_size: int, batch: int, length: int) -> None:
    """Adding a whole number to every frequency changes nothing."""
    embedding = wave_embedding(vocab_size)
    tokens = torch.randint(vocab_size, (batch, length))
    before = embedding(tokens)
    assert before.shape == (batch, length, 16)
    with torch.no_grad():
        embedding.frequencies += f
    torch.testing.assert_close(embedding(tokens), before, rtol=0, atol=2e-4)


def test_starts_at_the_scale_of_a_gpt_embedding() -> None:
    """Wave and lookup features each have a standard deviation of 0.02, and phase speeds span half a turn in T to pi."""
    torch.manual_seed(0)
    config = ModelConfig(d_model=64, block_size=32, packet_spread=1.0, embedding_std=0.02)
    embedding = WaveEmbedding(config, 500)
    tokens = torch.arange(500)[:, None].expand(500, 32)
    with torch.no_grad():
        assert embedding.lookup.weight.std().item() == pytest.approx(0.02, rel=0.05)
        embedding.ratio_logit.fill_(math.inf)
        assert embedding(tokens).std().item() == pytest.approx(0.02, rel=0.15)
    assert embedding.phase_speeds[0].item() == pytest.approx(math.pi / 32)
    assert embedding.phase_speeds[-1].item() == pytest.approx(math.pi)
    ratios = embedding.phase_speeds[1:] / embedding.phase_speeds[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
    torch.testing.assert_close(embedding.amplitudes.square().sum(-1), torch.ones(500, config.num_waves))
    torch.testing.assert_close(embedding.amplitudes[:, :, 0], 3 * embedding.amplitudes[:, :, 2])
    assert embedding.frequencies.min() >= 0
    assert embedding.frequencies.max() < 1
    assert embedding.phases.max() > 6


@given(spread=st.floats(0, 1), decay=st.floats(0, 3), speed=st.floats(0.01, math.pi))
def test_starts_as_configured(spread: float, decay: float, speed: float) -> None:
    """Tokens' waves start within the spread of each other, harmonics fall as told, the fastest wave has its speed."""
    embedding = WaveEmbedding(
        ModelConfig(
            d_model=8, num_heads=1, block_size=4, packet_spread=spread, harmonic_decay=decay, max_phase_speed=speed
        ),
        50,
    )
    assert 0 <= embedding.frequencies.min() <= embedding.frequencies.max() <= spread
    assert 0 <= embedding.phases.min() <= embedding.phases.max() <= 2 * math.pi * spread * (1 + 1e-6)
    torch.testing.assert_close(embedding.amplitudes[..., 0], 2**decay * embedding.amplitudes[..., 1])
    assert embedding.phase_speeds.max().item() == pytest.approx(speed, rel=1e-5)


@given(ratio=st.floats(0.001, 0.999))
def test_ratio_starts_as_configured(ratio: float) -> None:
    """The wave ratio is reported, and starts at its setting."""
    config = ModelConfig(d_model=8, num_heads=1, block_size=4, wave_ratio=ratio)
    assert WaveEmbedding(config, 3).wave_ratio() == pytest.approx(ratio, rel=1e-4)
    assert StandardEmbedding(config, 3).wave_ratio() is None


def test_pure_wave_has_no_lookup() -> None:
    """A pure wave embedding is the mixed one at r = 1, without a lookup table or a ratio."""
    pure_config = ModelConfig(
        d_model=16, num_layers=1, num_heads=2, block_size=12, num_waves=5, num_harmonics=3, pure_wave=True
    )
    mixed, pure = wave_embedding(9), WaveEmbedding(pure_config, 9)
    missing, unexpected = pure.load_state_dict(mixed.state_dict(), strict=False)
    assert not missing
    assert set(unexpected) == {"lookup.weight", "ratio_logit"}
    with torch.no_grad():
        mixed.ratio_logit.fill_(math.inf)
    tokens = torch.randint(9, (2, 12))
    torch.testing.assert_close(pure(tokens), mixed(tokens))
    assert pure.wave_ratio() == 1.0


def test_standard_is_lookup_plus_position() -> None:
    """A token at a position is its row of the table plus that position's."""
    torch.manual_seed(0)
    embedding = StandardEmbedding(SIZES, 9)
    tokens = torch.randint(9, (2, 4))
    expected = embedding.lookup.weight[tokens] + embedding.position[5:9]
    assert torch.equal(embedding(tokens, 5), expected)
