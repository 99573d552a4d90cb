"""The model: what must hold for every combination of components."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.models.attention import ATTENTIONS
from spectral_mlflow.models.embeddings import EMBEDDINGS
from spectral_mlflow.models.feedforward import FEEDFORWARDS
from spectral_mlflow.models.gpt import GPT, build

KINDS = ("standard", "wave")
COMBINATIONS = list(itertools.product(KINDS, KINDS, KINDS))
every_combination = pytest.mark.parametrize("kinds", COMBINATIONS, ids=["-".join(kinds) for kinds in COMBINATIONS])


def config_of(kinds: tuple[str, str, str] = ("wave", "wave", "wave"), **sizes: object) -> ModelConfig:
    """A small model of three kinds of layers."""
    values = {"d_model": 16, "num_layers": 2, "num_heads": 2, "block_size": 12, **sizes}
    return ModelConfig(embedding=kinds[0], attention=kinds[1], feedforward=kinds[2], **values)


def lively(model: GPT) -> GPT:
    """The model with larger weights, so that every path matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


@every_combination
@pytest.mark.parametrize("vocab_size", [5, 90], ids=["small vocabulary", "large vocabulary"])
def test_is_causal(kinds: tuple[str, str, str], vocab_size: int) -> None:
    """Changing a token changes no logit before it by any bit, and does change one from it on."""
    model = lively(build(config_of(kinds), vocab_size, seed=1))
    tokens = torch.randint(vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
    logits = model(tokens)
    for j in range(12):
        changed = tokens.clone()
        changed[:, j] = (changed[:, j] + 1) % vocab_size
        difference = (model(changed) - logits).abs().amax(dim=(0, 2))
        assert difference[:j].sum() == 0
        assert difference[j] > 0
        assert j == 11 or difference[j + 1 :].min() > 0


@pytest.mark.parametrize("length", [200, 300])
@pytest.mark.parametrize("num_waves", [2, 4, 8], ids="{} waves".format)
@pytest.mark.parametrize("attention", KINDS)
def test_is_causal_in_a_long_context(attention: str, num_waves: int, length: int) -> None:
    """So it is with every kernel that attention may take: for scores narrower, as wide and wider than values."""
    sizes = {"num_waves": num_waves, "block_size": 300, "num_layers": 1}
    model = lively(build(config_of(("wave", attention, "wave"), **sizes), 20, seed=1))
    tokens = torch.randint(20, (1, length), generator=torch.Generator().manual_seed(0))
    logits = model(tokens)
    for j in (1, length // 2, length - 1):
        changed = tokens.clone()
        changed[:, j] = (changed[:, j] + 1) % 20
        difference = (model(changed) - logits).abs().amax(dim=(0, 2))
        assert difference[:j].sum() == 0
        assert difference[j] > 0


@every_combination
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda lengths: sum(lengths) <= 12))
def test_pieces_with_a_cache_equal_the_whole(kinds: tuple[str, str, str], lengths: list[int]) -> None:
    """Logits of a window given piece by piece, with a cache, are those of the whole window."""
    model = lively(build(config_of(kinds), 20, seed=1)).eval().double()
    tokens = torch.randint(20, (2, sum(lengths)), generator=torch.Generator().manual_seed(0))
    cache = model.new_cache()
    with torch.no_grad():
        pieces = torch.cat([model(piece, cache) for piece in tokens.split(lengths, dim=1)], dim=1)
        torch.testing.assert_close(pieces, model(tokens), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kinds", [kinds for kinds in COMBINATIONS if kinds[1] == "wave"], ids="-".join)
@settings(max_examples=10)
@given(shift=st.floats(-6, 6))
def test_only_phase_differences_count(kinds: tuple[str, str, str], shift: float) -> None:
    """The same constant added to every phase of query and key, in every layer, changes no logit."""
    model = lively(build(config_of(kinds), 20, seed=1))
    tokens = torch.randint(20, (2, 12), generator=torch.Generator().manual_seed(0))
    before = model(tokens)
    for block in model.blocks:
        phases = 2 * block.attention.num_phases
        block.attention.phases_value.register_forward_hook(
            lambda _module, _inputs, output, phases=phases: torch.cat(
                (output[..., :phases] + shift, output[..., phases:]), dim=-1
            )
        )
    torch.testing.assert_close(model(tokens), before, rtol=1e-4, atol=1e-4)


@every_combination
def test_every_parameter_learns(kinds: tuple[str, str, str]) -> None:
    """Every parameter of every combination has a finite gradient that is not zero."""
    model = build(config_of(kinds), 20, seed=1)
    tokens = torch.arange(24).view(2, 12) % 20
    torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten().roll(-1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@settings(max_examples=30)
@given(
    kinds=st.sampled_from(COMBINATIONS),
    heads=st.integers(1, 3),
    head_size=st.integers(1, 6),
    num_waves=st.none() | st.integers(1, 9),
    num_harmonics=st.integers(1, 4),
    block_size=st.integers(1, 9),
    vocab_size=st.integers(1, 30),
    batch=st.integers(1, 3),
    pure_wave=st.booleans(),
    data=st.data(),
)
def test_any_sizes_work(
    kinds, heads, head_size, num_waves, num_harmonics, block_size, vocab_size, batch, pure_wave, data
) -> None:
    """A model of any sizes maps (B, T) tokens to finite (B, T, V) logits, for any T up to the block."""
    config = config_of(
        kinds, d_model=heads * head_size, num_heads=heads, num_waves=num_waves, num_harmonics=num_harmonics,
        block_size=block_size, pure_wave=pure_wave,
    )  # fmt: skip
    length = data.draw(st.integers(1, block_size))
    logits = build(config, vocab_size, seed=0)(torch.randint(vocab_size, (batch, length)))
    assert logits.shape == (batch, length, vocab_size)
    assert logits.isfinite().all()


def test_wave_embedding_without_wave_is_the_standard_model() -> None:
    """At r = 0, with standard attention and GELU, the model is the standard one (whose positions are zero)."""
    mixed = lively(build(config_of(("wave", "standard", "standard")), 20, seed=1))
    standard = build(config_of(("standard", "standard", "standard")), 20, seed=2)
    with torch.no_grad():
        mixed.embedding.ratio_logit.fill_(-math.inf)
        missing, _ = standard.load_state_dict(mixed.state_dict(), strict=False)
        standard.embedding.position.zero_()
    assert missing == ["embedding.position"]
    tokens = torch.randint(20, (2, 12))
    assert torch.equal(mixed(tokens), standard(tokens))
    assert mixed.wave_ratio() == 0.0
    for model in (mixed, standard):
        torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten().roll(-1)).backward()
    gradients = {name: parameter.grad for name, parameter in mixed.named_parameters()}
    for name, parameter in standard.named_parameters():
        assert name == "embedding.position" or torch.equal(parameter.grad, gradients[name]), name


def test_build_is_deterministic_and_leaves_the_generator_alone() -> None:
    """One seed gives one model, another seed another, and the global generator does not notice."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    models = [build(config_of(), 20, seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.rand(3), expected)
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


@every_combination
def test_state_round_trip(kinds: tuple[str, str, str], tmp_path) -> None:
    """A saved state, loaded without pickles of code, gives the same logits."""
    model = build(config_of(kinds), 20, seed=1)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = build(config_of(kinds), 20, seed=2)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    tokens = torch.randint(20, (2, 12))
    assert torch.equal(model(tokens), other(tokens))


def test_starts_as_gpt_2_does() -> None:
    """Tables and head start with 0.02, matrices into the residual stream with less, those behind a norm as told."""
    kinds = ("standard", "standard", "standard")
    model = build(config_of(kinds, d_model=64, num_layers=8, num_heads=4, init_gain=0.8), 500, seed=1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.ones(64)), name
            continue
        std = 0.02 / 4 if "projection" in name else 0.1 if "block" in name else 0.02
        assert parameter.std().item() == pytest.approx(std, rel=0.1), name
    tokens = torch.randint(500, (4, 12))
    loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(math.log(500), rel=0.05)


@pytest.mark.parametrize("sizes", [{}, {"num_waves": 32}, {"num_layers": 2, "d_model": 64}, {"num_harmonics": 9}])
@pytest.mark.parametrize("kinds", [("standard", "standard", "standard"), ("wave", "standard", "standard")])
def test_parameter_counts_can_be_matched(kinds: tuple[str, str, str], sizes: dict[str, int]) -> None:
    """The standard feed-forward is sized so that the counts agree within one per cent."""
    sizes = {"d_model": 128, "num_layers": 4, "num_heads": 4, "block_size": 128, "match_parameters": True, **sizes}
    wave = build(config_of(**sizes), 65, seed=0)
    matched = build(config_of(kinds, **sizes), 65, seed=0)
    assert matched.num_parameters() == pytest.approx(wave.num_parameters(), rel=0.01)
    assert wave.blocks[0].feedforward.expansion.out_features == 4 * sizes["d_model"]


def test_counts_that_cannot_be_matched_are_refused() -> None:
    """Where no width of the feed-forward makes up for the difference, the user hears so."""
    config = config_of(("standard",) * 3, d_model=64, num_layers=1, block_size=4096, num_waves=1, match_parameters=True)
    with pytest.raises(UserError, match="match_parameters"):
        build(config, 5, seed=0)


def test_a_window_longer_than_the_block_is_refused() -> None:
    """The message names both lengths."""
    with pytest.raises(UserError, match=r"13 tokens.*block_size=12"):
        build(config_of(), 20, seed=0)(torch.zeros(1, 13, dtype=torch.int64))


def test_counts_parameters_and_operations() -> None:
    """Parameters and floating point operations are those counted by hand."""
    model = build(config_of(("standard",) * 3, d_model=8, num_layers=3, num_heads=2, block_size=5), 11, seed=0)
    matrices = 3 * (2 * 8 + 4 * 64 + 8 * 64) + 8 + 8 * 11
    assert model.num_parameters() == matrices + 11 * 8 + 5 * 8
    assert model.flops_per_token() == 6 * matrices + 12 * 3 * 5 * 8
    wave = build(config_of(d_model=8, num_layers=3, num_heads=2, block_size=5, num_waves=3, num_harmonics=4), 11, 0)
    blocks = 3 * (2 * 8 + 8 * (12 + 8) + 2 + 64 + 8 * 64) + 8 + 8 * 11
    assert wave.num_parameters() == blocks + 11 * 3 * (2 + 4) + 3 + 3 * 8 + 1 + 11 * 8
    assert wave.flops_per_token() == 6 * blocks + 6 * 3 * 5 * (12 + 8)


def test_dropout_acts_in_training_only() -> None:
    """With dropout two training passes differ, two evaluation passes do not."""
    model = build(config_of(dropout=0.5), 20, seed=0)
    tokens = torch.randint(20, (2, 12))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_registries_hold_both_kinds() -> None:
    """Every component has its wave part and its standard twin."""
    for registry in (EMBEDDINGS, ATTENTIONS, FEEDFORWARDS):
        assert set(registry) == set(KINDS)
    assert build(config_of(("standard",) * 3), 20, seed=0).wave_ratio() is None
    assert build(config_of(wave_ratio=0.25), 20, seed=0).wave_ratio() == pytest.approx(0.25)
