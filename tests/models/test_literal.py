"""Every combination of layers against the formulas as they are written: no table, no fused kernel, no trick.

The literal model computes in double precision, forms every angle of every token, and a score for every pair.
"""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.losses import QFELoss
from spectral_mlflow.models.attention import ATTENTIONS, StandardAttention
from spectral_mlflow.models.embeddings import StandardEmbedding
from spectral_mlflow.models.gpt import GPT, build

KINDS = ("standard", "wave")
COMBINATIONS = list(itertools.product(KINDS, KINDS, KINDS))
every_combination = pytest.mark.parametrize("kinds", COMBINATIONS, ids="-".join)

HEADS = 2


def lively(kinds: tuple[str, str, str], vocab_size: int, num_waves: int | None = None) -> GPT:
    """A model whose parameters are all of such sizes that every path matters."""
    config = ModelConfig(
        embedding=kinds[0], attention=kinds[1], feedforward=kinds[2], d_model=16, num_layers=2, num_heads=HEADS,
        block_size=12, num_waves=num_waves, num_harmonics=3, wave_ratio=0.6,
    )  # fmt: skip
    model = build(config, vocab_size, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
            elif name.startswith("embedding"):
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
            else:
                parameter.mul_(0.2 / parameter.std())
    return model


def literal_embedding(layer: nn.Module, tokens: Tensor) -> Tensor:
    """``E_v(p) = r wave_v(p) + (1 - r) lookup_v``, or lookup plus position."""
    positions = torch.arange(tokens.shape[1])
    if isinstance(layer, StandardEmbedding):
        return layer.lookup.weight[tokens] + layer.position[positions]
    f, phi, amplitude = layer.frequencies[tokens], layer.phases[tokens], layer.amplitudes[tokens]
    h = torch.arange(1, amplitude.shape[-1] + 1)
    moved = phi + layer.phase_speeds * positions[:, None]
    theta = 2 * math.pi * h * f[..., None] + moved[..., None]
    wave = torch.einsum("btwh,wd->btd", amplitude * (theta.sin() + theta.cos()), layer.projection)
    r = 1 / (1 + torch.exp(-layer.ratio_logit))
    return r * wave + (1 - r) * layer.lookup.weight[tokens]


def literal_scores(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (B, heads, T, T) of every pair of tokens, and values (B, heads, T, D / heads)."""
    D = x.shape[-1]
    if isinstance(layer, StandardAttention):
        query, key, value = (split(part) for part in layer.query_key_value(x).split(D, dim=-1))
        return torch.einsum("bnid,bnjd->bnij", query, key) / math.sqrt(D / HEADS), value
    width = HEADS * layer.num_waves
    query, key, value = (split(part) for part in layer.phases_value(x).split((width, width, D), dim=-1))
    interference = torch.cos(query[:, :, :, None] - key[:, :, None]).mean(-1)
    return layer.log_tau.exp()[:, None, None] * interference, value


def split(features: Tensor) -> Tensor:
    """(B, T, heads x width) to (B, heads, T, width)."""
    return features.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def literal_attention(layer: nn.Module, x: Tensor) -> Tensor:
    """``softmax_j`` over what is not later, of the values."""
    scores, value = literal_scores(layer, x)
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(later, -math.inf).exp()
    mixed = weights / weights.sum(-1, keepdim=True) @ value
    return mixed.transpose(1, 2).flatten(2) @ layer.projection.weight.T


def literal_feedforward(layer: nn.Module, x: Tensor, kind: str) -> Tensor:
    """``D -> 4 D``, the activation, ``4 D -> D``."""
    hidden = x @ layer.expansion.weight.T
    if kind == "wave":
        activated = torch.sin(hidden) + 0.1 * hidden
    else:
        activated = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return activated @ layer.projection.weight.T


def normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm without a bias."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight


def literal(model: GPT, tokens: Tensor) -> Tensor:
    """Logits of the whole model."""
    x = literal_embedding(model.embedding, tokens)
    for block in model.blocks:
        x = x + literal_attention(block.attention, normalised(x, block.attention_norm))
        x = x + literal_feedforward(
            block.feedforward, normalised(x, block.feedforward_norm), str(model.config.feedforward)
        )
    return normalised(x, model.norm) @ model.head.weight.T


def literal_qfe(logits: Tensor, targets: Tensor, weight: float) -> Tensor:
    """Cross-entropy and coherence, with angles."""
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    entropy = -probabilities.gather(-1, targets[..., None]).log().mean()
    true = nn.functional.one_hot(targets, logits.shape[-1]).to(logits.dtype)
    P, Y = torch.fft.rfft(probabilities, dim=1), torch.fft.rfft(true, dim=1)
    return entropy + weight * (P.abs() * Y.abs() * (1 - torch.cos(P.angle() - Y.angle()))).mean()


def assert_equal(model: GPT, vocab_size: int) -> None:
    """Logits, objective and the gradient of every parameter are those of the literal model."""
    exact = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(0)
    tokens, targets = torch.randint(vocab_size, (2, 2, 11), generator=generator)
    fast, slow = model(tokens), literal(exact, tokens)
    torch.testing.assert_close(fast.double(), slow, rtol=1e-4, atol=1e-4)
    objective = QFELoss(0.7, vocab_size, seed=0)(fast, targets).objective
    expected = literal_qfe(slow, targets, 0.7)
    assert objective.item() == pytest.approx(expected.item(), rel=1e-5)
    objective.backward()
    expected.backward()
    for (name, one), other in zip(model.named_parameters(), exact.parameters(), strict=True):
        scale = other.grad.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(
            one.grad.double(), other.grad, rtol=0, atol=2e-4 * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


@every_combination
@pytest.mark.parametrize("vocab_size", [7, 60], ids=["small vocabulary", "large vocabulary"])
def test_model_equals_the_formulas(kinds: tuple[str, str, str], vocab_size: int) -> None:
    """Values and all gradients, through the QFE loss, are those of the formulas as written."""
    assert_equal(lively(kinds, vocab_size), vocab_size)


@pytest.mark.parametrize("num_waves", [1, 3, 8, 13])
def test_any_number_of_waves_equals_the_formulas(num_waves: int) -> None:
    """So they are where the features of a phase are narrower, and wider, than the values of a head."""
    assert_equal(lively(("wave", "wave", "wave"), 20, num_waves), 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("length", [1, 100, 300])
@pytest.mark.parametrize(("kind", "num_waves"), [("standard", 4), ("wave", 2), ("wave", 4), ("wave", 8)])
def test_attention_equals_the_formula_at_every_length(
    kind: str, num_waves: int, length: int, dtype: torch.dtype
) -> None:
    """Values and gradients are those of the formula, whichever kernel is taken for the length, widths and type."""
    config = ModelConfig(d_model=16, num_heads=HEADS, block_size=300, num_waves=num_waves)
    torch.manual_seed(0)
    fast = ATTENTIONS[kind](config)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter += 0.5 * torch.randn(parameter.shape)
    slow = copy.deepcopy(fast).double()
    fast.to(dtype)
    x = torch.randn(2, length, 16, dtype=torch.float64)
    upstream = torch.randn(2, length, 16, dtype=torch.float64)
    inputs = [x.to(dtype, copy=True).requires_grad_(), x.clone().requires_grad_()]
    outputs = [fast(inputs[0]), literal_attention(slow, inputs[1])]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(outputs[0].double(), outputs[1], rtol=tolerance, atol=tolerance)
    (outputs[0].double() * upstream).sum().backward()
    (outputs[1] * upstream).sum().backward()
    for one, other in zip((inputs[0], *fast.parameters()), (inputs[1], *slow.parameters()), strict=True):
        scale = max(1.0, other.grad.abs().max().item())
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=0, atol=tolerance * scale)
