"""Tokens from a model, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from spectral_mlflow.errors import UserError
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.sampling import Sampling


def generate(
    model: GPT,
    prompt: Tensor,
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
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
        generator: source of randomness, on any device; None: the global one of the CPU.
        use_cache: False computes the whole window again for each token, which changes nothing but the time.

    Returns:
        Prompt and new tokens (T + num_tokens,), where the prompt was.

    Raises:
        UserError: a value that is not allowed.
    """
    options = Sampling(num_tokens, temperature, top_k, top_p)
    added = list(stream(model, prompt, options, generator, use_cache=use_cache))
    return torch.cat((prompt, torch.tensor(added, dtype=prompt.dtype, device=prompt.device)))


def stream(
    model: GPT, prompt: Tensor, options: Sampling, generator: torch.Generator | None = None, *, use_cache: bool = True
) -> Iterator[int]:
    """The tokens that `generate` adds, each as soon as it is chosen; whoever stops asking stops the model.

    Args:
        model: any model of this package.
        prompt: ids (T,) int64, at least one.
        options: how many and which; its ``seed`` and ``stop`` are for whoever knows the texts of tokens.
        generator: source of randomness, on any device; None: the global one of the CPU.
        use_cache: whether keys and values are kept.

    Raises:
        UserError: the prompt has no token, or one that the model does not know.
    """
    if prompt.ndim != 1 or len(prompt) == 0:
        raise UserError(f"prompt: given a tensor of shape {tuple(prompt.shape)}; give one row of at least one token")
    if prompt.min() < 0 or prompt.max() >= model.vocab_size:
        raise UserError(
            f"prompt: given token {int(prompt.min() if prompt.min() < 0 else prompt.max())}; "
            f"allowed: 0 to {model.vocab_size - 1}; use the tokenizer of the run"
        )
    return _stream(model, prompt.tolist()[-model.config.block_size :], options, generator, use_cache)


@torch.inference_mode()
def _stream(
    model: GPT, window: list[int], options: Sampling, generator: torch.Generator | None, use_cache: bool
) -> Iterator[int]:
    device, block = model.head.weight.device, model.config.block_size
    cache = model.new_cache() if use_cache else None
    was_training, unseen = model.training, window
    model.eval()
    try:
        for _ in range(options.max_tokens):
            token = _choose(model(torch.tensor([unseen], device=device), cache)[0, -1], options, generator)
            yield token
            window.append(token)
            unseen = window[-1:] if use_cache else window
            if len(window) > block:
                window = unseen = window[-max(1, block // 2) :]
                cache = model.new_cache() if use_cache else None
    finally:
        model.train(was_training)


@torch.inference_mode()
def generate_several(
    model: GPT, prompt: Tensor, count: int, num_tokens: int, *, temperature: float, generator: torch.Generator
) -> Tensor:
    """Continue a prompt several times, all at once, which costs little more than once; else as `generate`.

    Args:
        model: any model of this package.
        prompt: ids (T,) int64, at least one and at most a block.
        count: how often.
        num_tokens: how many to add.
        temperature: divides the logits; above 0.
        generator: source of randomness, on the CPU.

    Returns:
        Prompt and new tokens (count, T + num_tokens), on the CPU.
    """
    device, block = model.head.weight.device, model.config.block_size
    tokens = unseen = prompt.cpu().expand(count, -1)
    cache, start, was_training = model.new_cache(), 0, model.training
    model.eval()
    try:
        for _ in range(num_tokens):
            logits = model(unseen.to(device), cache)[:, -1].to("cpu", torch.float32)
            chosen = torch.multinomial(F.softmax(logits / temperature, dim=-1), 1, generator=generator)
            tokens, unseen = torch.cat((tokens, chosen), dim=1), chosen
            if tokens.shape[1] - start > block:
                start = tokens.shape[1] - max(1, block // 2)
                unseen, cache = tokens[:, start:], model.new_cache()
    finally:
        model.train(was_training)
    return tokens


def _choose(logits: Tensor, options: Sampling, generator: torch.Generator | None) -> int:
    """The next token of logits (V,)."""
    if options.temperature == 0:
        return int(logits.argmax())
    logits = logits.to(generator.device if generator else "cpu", torch.float32)
    coldest = torch.finfo(torch.float32).tiny  # What is less may be 0 in float32.
    logits = (logits - logits.max()) / max(options.temperature, coldest)
    if options.top_k is not None and options.top_k < len(logits):
        values, tokens = logits.topk(options.top_k)
        logits = torch.full_like(logits, -math.inf).scatter(0, tokens, values)
    probabilities = F.softmax(logits, dim=-1)
    if options.top_p is not None and options.top_p < 1:
        ordered, tokens = probabilities.sort(descending=True)
        probabilities[tokens[ordered.cumsum(-1) - ordered >= options.top_p]] = 0
    return int(torch.multinomial(probabilities, 1, generator=generator))
