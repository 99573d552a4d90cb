"""Text from a model, one token after the other."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from spectral_mlflow.errors import UserError
from spectral_mlflow.models.gpt import GPT


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Tensor,
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue a prompt, with dropout off.

    Keys and values are kept, so each new token costs one position. When the block is full the model
    forgets all but the last half of it and goes on from there. Of a prompt longer than the block it
    sees the end.

    Args:
        model: any model of this package.
        prompt: ids (T,) int64, at least one.
        num_tokens: how many to add.
        temperature: divides the logits; 0 takes the most likely token.
        top_k: sample among so many of the most likely tokens; None: among all.
        top_p: sample among the fewest most likely tokens that have this probability together; None: among all.
        generator: source of randomness, on the CPU; None: the global one.

    Returns:
        Prompt and new tokens (T + num_tokens,), where the prompt was.

    Raises:
        UserError: a value that is not allowed.
    """
    _check(model, prompt, num_tokens, temperature, top_k, top_p)
    was_training = model.training
    model.eval()
    try:
        tokens = prompt.tolist()
        window = torch.tensor(tokens[-model.config.block_size :])
        cache = model.new_cache()
        for _ in range(num_tokens):
            logits = model(window[None].to(model.head.weight.device), cache)[0, -1]
            tokens.append(_choose(logits.float().cpu(), temperature, top_k, top_p, generator))
            window = torch.tensor(tokens[-1:])
            if cache.length == model.config.block_size:
                cache = model.new_cache()
                window = torch.tensor(tokens[-max(1, model.config.block_size // 2) :])
    finally:
        model.train(was_training)
    return torch.tensor(tokens, dtype=prompt.dtype, device=prompt.device)


def _choose(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator | None
) -> int:
    """The next token of logits (V,)."""
    if temperature == 0:
        return int(logits.argmax())
    logits, order = (logits / temperature).sort(descending=True, stable=True)
    probabilities = F.softmax(logits[:top_k], dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities[before < top_p]
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def _check(
    model: GPT, prompt: Tensor, num_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Refuse what cannot be meant."""
    if prompt.ndim != 1 or len(prompt) == 0:
        raise UserError(f"prompt: given a tensor of shape {tuple(prompt.shape)}; give one row of at least one token")
    if prompt.min() < 0 or prompt.max() >= model.vocab_size:
        raise UserError(
            f"prompt: given token {int(prompt.min() if prompt.min() < 0 else prompt.max())}; "
            f"allowed: 0 to {model.vocab_size - 1}; use the tokenizer of the run"
        )
    if num_tokens < 0:
        raise UserError(f"num_tokens: given {num_tokens}; allowed: 0 or more")
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature: given {temperature}; allowed: 0 (most likely token) or more")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k: given {top_k}; allowed: 1 or more, or leave it out")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p: given {top_p}; allowed: above 0, at most 1, or leave it out")
