"""A real text on its way through a trained model, and a word in its embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_mlflow.analysis.trained import Missing, MissingError, Trained, attempt
from spectral_mlflow.analysis.weights import Array
from spectral_mlflow.plots.passage import Passage, Spelling

if TYPE_CHECKING:
    from torch import Tensor

    from spectral_mlflow.models.gpt import GPT

TOKENS = 24  # Of a passage.
UNITS = 64  # Of a hidden layer that are kept: a picture shows no more.
GUESSES = 5


def follow(run_dir: str | Path, *, text: str | None = None, tokens: int = TOKENS) -> Passage | Missing:
    """A text through the newest checkpoint of a run.

    Args:
        run_dir: directory of the run.
        text: what to read; None: the beginning of the validation split.
        tokens: how many tokens of it.

    Returns:
        What came out of each part of the model, or what is missing for it.
    """
    return attempt(lambda: _follow(Trained(run_dir), text, tokens))


def spell(run_dir: str | Path, word: str) -> Spelling | Missing:
    """The tokens of a word in the embedding of the newest checkpoint of a run.

    Args:
        run_dir: directory of the run.
        word: of characters that the tokenizer knows.

    Returns:
        Their rows of the lookup table and their waves, or what is missing for it.
    """
    return attempt(lambda: _spell(Trained(run_dir), word))


def _tokens(run: Trained, text: str | None, count: int) -> Tensor:
    import torch

    size = min(count, run.config.model.block_size)
    if text is None:
        return run.dataset.val[:size]
    ids = torch.from_numpy(run.dataset.tokenizer.encode(text))[:size].long()
    if len(ids) < 2:  # The loss is that of the second on.
        raise MissingError(f"text: given {text!r}; allowed: at least two tokens")
    return ids


def _follow(run: Trained, text: str | None, count: int) -> Passage:
    import torch
    from torch.nn import functional as F

    model = run.model(run.newest())
    ids = _tokens(run, text, count)
    seen: dict[str, list[Tensor]] = {"stream": [], "attention": [], "hidden": []}
    with torch.no_grad():
        hooks = _watch(model, seen)
        logits = model(ids[None])[0]
        for hook in hooks:
            hook.remove()
        chances, guesses = logits[-1].softmax(-1).topk(min(GUESSES, logits.shape[-1]))
        loss = float(F.cross_entropy(logits[:-1], ids[1:]))
    arrays = {name: np.stack([_array(part[0]) for part in parts]) for name, parts in seen.items()}
    texts = [run.dataset.tokenizer.decode([token]) for token in ids.tolist()]
    likely = [run.dataset.tokenizer.decode([token]) for token in guesses.tolist()]
    return Passage(texts, arrays["stream"], arrays["attention"], arrays["hidden"], likely, _array(chances), loss)


def _watch(model: GPT, seen: dict[str, list[Tensor]]) -> list[Any]:
    """Note what passes; the hooks are to be removed."""

    def out(_part: Any, _given: Any, made: Tensor) -> None:
        seen["stream"].append(made)

    def attends(part: Any, given: Any) -> None:
        seen["attention"].append(part.pattern(given[0]).weights)

    def hidden(_part: Any, given: Any) -> None:
        seen["hidden"].append(given[0][..., :UNITS])

    blocks: list[Any] = list(model.blocks)
    hooks = [part.register_forward_hook(out) for part in (model.embedding, *blocks)]
    hooks += [block.attention.register_forward_pre_hook(attends) for block in blocks]
    return hooks + [block.feedforward.projection.register_forward_pre_hook(hidden) for block in blocks]


def _spell(run: Trained, word: str) -> Spelling:
    import torch

    model = run.model(run.newest())
    ids = torch.from_numpy(run.dataset.tokenizer.encode(word)).long()
    texts = [run.dataset.tokenizer.decode([token]) for token in ids.tolist()]
    embedding: Any = model.embedding
    lookup = getattr(embedding, "lookup", None)
    rows = _array(lookup.weight[ids]) if lookup is not None else np.empty((len(ids), 0))
    if not hasattr(embedding, "frequencies"):
        none = np.empty((len(ids), 0))
        return Spelling(texts, rows, none, none, none[..., None], np.empty(0))
    f, phi, amplitudes = (_array(getattr(embedding, name)[ids]) for name in ("frequencies", "phases", "amplitudes"))
    return Spelling(texts, rows, f, phi, amplitudes, _array(embedding.phase_speeds))


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().double().numpy())
