"""Generation."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.models.generation import generate, generate_several, stream
from spectral_mlflow.models.gpt import GPT, build
from spectral_mlflow.sampling import Sampling

KINDS = ("standard", "wave")


def small(kinds: tuple[str, str, str] = ("wave", "wave", "wave"), block_size: int = 8) -> GPT:
    """A model whose distributions are far from uniform."""
    config = ModelConfig(
        embedding=kinds[0], attention=kinds[1], feedforward=kinds[2], d_model=16, num_layers=2, num_heads=2,
        block_size=block_size, dropout=0.3,
    )  # fmt: skip
    model = build(config, 13, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def uncached(model: GPT, prompt: Tensor, num_tokens: int, temperature: float, generator: torch.Generator) -> Tensor:
    """Generation as one would write it down: the whole window again for every token."""
    model.eval()
    tokens, window = prompt.tolist(), prompt.tolist()[-model.config.block_size :]
    for _ in range(num_tokens):
        logits = model(torch.tensor([window]))[0, -1]
        if temperature == 0:
            token = int(logits.argmax())
        else:
            token = int(torch.multinomial((logits / temperature).softmax(0), 1, generator=generator))
        tokens.append(token)
        window.append(token)
        if len(window) > model.config.block_size:
            window = window[-max(1, model.config.block_size // 2) :]
    return torch.tensor(tokens)


@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, KINDS, KINDS)), ids="-".join)
@pytest.mark.parametrize("temperature", [0.0, 0.8], ids=["greedy", "sampled"])
def test_cache_changes_nothing(kinds: tuple[str, str, str], temperature: float) -> None:
    """Generation with a cache equals generation without, far beyond the block."""
    model = small(kinds)
    prompt = torch.tensor([1, 5, 2])
    one = generate(model, prompt, 40, temperature=temperature, generator=torch.Generator().manual_seed(3))
    other = uncached(model, prompt, 40, temperature, torch.Generator().manual_seed(3))
    again = torch.Generator().manual_seed(3)
    assert torch.equal(one, other)
    assert torch.equal(one, generate(model, prompt, 40, temperature=temperature, generator=again, use_cache=False))
    assert len(set(one.tolist())) > 2


@settings(max_examples=25)
@given(length=st.integers(1, 20), num_tokens=st.integers(0, 20), block_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_keeps_the_prompt_and_adds_what_was_asked_for(length: int, num_tokens: int, block_size: int, seed: int) -> None:
    """Any prompt is continued by exactly the number of tokens asked for, the same ones for the same seed."""
    model = small(block_size=block_size)
    prompt = torch.randint(13, (length,))
    one = generate(model, prompt, num_tokens, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(one, generate(model, prompt, num_tokens, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(one[:length], prompt)
    assert one.shape == (length + num_tokens,)
    assert 0 <= one.min() <= one.max() < 13


def test_leaves_the_model_as_it_was() -> None:
    """Dropout is off while generating, and on again afterwards if it was; no gradients are kept."""
    model = small().train()
    prompt = torch.tensor([1])
    assert torch.equal(generate(model, prompt, 10, temperature=0), generate(model, prompt, 10, temperature=0))
    assert model.training
    assert not generate(model.eval(), prompt, 1).requires_grad
    assert not model.training


def test_tokens_come_one_by_one() -> None:
    """Whoever stops asking stops the model, which is left as it was; what was asked for is what generate gives."""
    model = small().train()
    prompt = torch.tensor([1, 5])
    tokens = stream(model, prompt, Sampling(10**9), torch.Generator().manual_seed(1))
    asked = list(itertools.islice(tokens, 12))
    tokens.close()
    assert model.training
    whole = generate(model, prompt, 12, temperature=0.8, generator=torch.Generator().manual_seed(1))
    assert asked == whole[2:].tolist()


@pytest.mark.parametrize(
    "narrow",
    [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-5}, {"temperature": 1e-45}, {"temperature": 1e-99}],
    ids=str,
)
def test_narrowest_sampling_is_greedy(narrow: dict[str, float]) -> None:
    """Sampling among one token, or at almost no temperature, takes the most likely one."""
    model = small()
    prompt = torch.tensor([1, 2])
    assert torch.equal(generate(model, prompt, 30, **narrow), generate(model, prompt, 30, temperature=0))


@pytest.mark.parametrize("wide", [{"top_k": 13}, {"top_k": 500}, {"top_p": 1.0}], ids=str)
def test_widest_sampling_is_unrestricted(wide: dict[str, float]) -> None:
    """Sampling among all tokens is what sampling without a restriction does."""
    model = small()
    prompt = torch.tensor([1, 2])
    one, other = (
        generate(model, prompt, 30, generator=torch.Generator().manual_seed(1), **options) for options in (wide, {})
    )
    assert torch.equal(one, other)


def test_restrictions_cut_the_tail() -> None:
    """Only the most likely tokens are ever drawn under top_k and under top_p."""
    model = small().eval()
    prompt = torch.tensor([3, 1])
    probabilities, order = model(prompt[None])[0, -1].softmax(0).sort(descending=True)
    nucleus = int((probabilities.cumsum(0) < 0.9).sum()) + 1
    assert 2 < nucleus < 13
    for options, size in (({"top_k": 3}, 3), ({"top_p": 0.9}, nucleus)):
        generator = torch.Generator().manual_seed(0)
        drawn = {int(generate(model, prompt, 1, generator=generator, **options)[-1]) for _ in range(300)}
        assert drawn <= set(order[:size].tolist())
        assert len(drawn) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"num_tokens": -1}, "max_tokens"),
        ({"prompt": torch.tensor([], dtype=torch.int64)}, "at least one"),
        ({"prompt": torch.zeros(2, 2, dtype=torch.int64)}, r"shape \(2, 2\)"),
        ({"prompt": torch.tensor([1, 13])}, "token 13; allowed: 0 to 12"),
        ({"prompt": torch.tensor([-1, 2])}, "token -1"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(options: dict[str, object], words: str) -> None:
    """A bad value is named in one line."""
    with pytest.raises(UserError, match=words):
        generate(small(), **{"prompt": torch.tensor([1]), "num_tokens": 1, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_several_at_once_are_what_they_would_be_alone(kind: str) -> None:
    """Nearly without chance each of several is the likeliest text, also when the block is full; with it they differ."""
    model, prompt = small((kind, kind, kind)), torch.tensor([3, 1, 4])
    alone = generate(model, prompt, 20, temperature=0)
    rows = generate_several(model, prompt, 3, 20, temperature=1e-6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rows, alone.expand(3, -1))
    first, again = (
        generate_several(model.train(), prompt, 3, 20, temperature=1.0, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert torch.equal(first, again)
    assert len({tuple(row) for row in first.tolist()}) == 3
    assert torch.equal(first[:, :3], prompt.expand(3, -1))
    assert model.training
