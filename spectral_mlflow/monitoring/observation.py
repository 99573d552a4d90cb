"""What plots show of a model, taken from it as a few small arrays."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spectral_mlflow.models.attention import InterferenceAttention, StandardAttention
from spectral_mlflow.monitoring.model_arrays import Array, AttentionArrays, ModelArrays, WaveArrays

WAVE_ATTRIBUTES = ("frequencies", "phases", "amplitudes")
MOST_TOKENS = 1024  # Whose waves are kept: evenly chosen ones of a larger vocabulary tell the same.
MOST_MAPS = 8  # Layers, and heads of each: more cannot be told apart in one picture.
PASSAGE = 48  # Tokens whose attention is shown.
PACKETS = 16  # Tokens whose wave packets are shown.

_log = logging.getLogger(__name__)


@torch.no_grad()
def observe(
    model: nn.Module,
    *,
    tokens: Sequence[int] | None = None,
    token_text: Callable[[int], str] | None = None,
    passage: Tensor | None = None,
) -> ModelArrays:
    """Take from a model what its plots are drawn from; the model is only read.

    A part has waves if it has tensors ``frequencies`` (V, W), ``phases`` (V, W) and ``amplitudes`` (V, W, H);
    ``phase_speeds`` (W,) are 0 where there are none. Attention that cannot be seen is logged and left out.

    Args:
        model: any.
        tokens: whose packets to show, the most interesting first; default: a few, evenly over the vocabulary.
        token_text: what to call a token; default: its number.
        passage: ids (T,) of a text to attend in; of a longer one the beginning; default: attention is not shown.
    """
    text = token_text or _numbered
    waves = {name: _waves(part, tokens, text) for name, part in wave_parts(model)}
    attention = None
    if passage is not None:
        try:
            attention = _attention(model, passage[:PASSAGE], text)
        except Exception as failure:  # A passage that the model has no room for, a model that wants more than tokens.
            _log.warning("attention is not drawn: %r", failure)
    context = getattr(getattr(model, "config", None), "block_size", None)
    return ModelArrays(type(model).__name__, _parameters(model), waves, attention, context)


def wave_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model, with their names, that have waves."""
    for name, module in model.named_modules():
        shapes = [getattr(getattr(module, attribute, None), "shape", ()) for attribute in WAVE_ATTRIBUTES]
        if [len(shape) for shape in shapes] == [2, 2, 3] and len(shapes[0]):
            yield name, module


def frequent(tokens: Tensor, count: int = PACKETS) -> list[int]:
    """The most frequent of some tokens (n,), the first of them first."""
    return [token for token, _ in Counter(tokens.tolist()).most_common(count)]


def _numbered(token: int) -> str:
    return f"token {token}"


def _parameters(model: nn.Module) -> dict[str, int]:
    """Numbers that are trained, by the part of the model that has them; repeated blocks together by what is in them."""
    sizes: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        words = [word for word in name.split(".") if not word.isdecimal()]
        sizes[".".join(words[: max(1, min(2, len(words) - 1))])] += parameter.numel()
    return dict(sizes)


def _waves(part: Any, tokens: Sequence[int] | None, text: Callable[[int], str]) -> WaveArrays:
    size = len(part.frequencies)
    shown = _evenly(size, PACKETS) if tokens is None else list(tokens)
    rows = sorted({*_evenly(size, MOST_TOKENS), *shown})
    f, phi, amplitudes = (_rows(getattr(part, name), rows, size) for name in WAVE_ATTRIBUTES)
    speeds = getattr(part, "phase_speeds", None)
    gamma = np.zeros(f.shape[1], np.float32) if speeds is None else _array(speeds)
    places = [rows.index(token) for token in shown]
    return WaveArrays(f, phi, amplitudes, gamma, size, places, [text(token) for token in shown])


def _rows(values: Tensor, rows: Sequence[int], size: int) -> Array:
    """Those of some tokens; what has another number of rows stays as it is, for its plot to refuse."""
    return _array(values[rows] if len(values) == size else values)


def _evenly(size: int, count: int) -> list[int]:
    return [int(place) for place in np.linspace(0, size - 1, min(count, size))]


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().float().cpu().numpy())


def _attention(model: nn.Module, passage: Tensor, text: Callable[[int], str]) -> AttentionArrays | None:
    """What each head attends to, seen in a forward pass of the passage."""
    attentions = [part for part in model.modules() if isinstance(part, InterferenceAttention | StandardAttention)]
    if not attentions or not len(passage):
        return None
    inputs: dict[nn.Module, Tensor] = {}
    layers = _evenly(len(attentions), MOST_MAPS)
    chosen = [attentions[place] for place in layers]
    hooks = [part.register_forward_pre_hook(lambda part, given: inputs.update({part: given[0]})) for part in chosen]
    training = [part for part in model.modules() if part.training]
    try:
        model.eval()(passage[None].to(next(model.parameters()).device))
    finally:
        for part in training:
            part.training = True
        for hook in hooks:
            hook.remove()
    patterns = [part.pattern(inputs[part]) for part in chosen]
    heads = _evenly(count := patterns[0].weights.shape[1], MOST_MAPS)
    weights = np.stack([_array(pattern.weights[0, heads]) for pattern in patterns])
    known = [pattern.coherence for pattern in patterns]
    coherence = None
    if any(part is not None for part in known):  # All have phases, or none has: the components are those of a model.
        coherence = np.stack([_array(part[0, heads]) for part in known if part is not None])
    return AttentionArrays(
        weights.astype(np.float16),
        None if coherence is None else coherence.astype(np.float16),
        labels=[text(token) for token in passage.tolist()],
        layers=[place + 1 for place in layers],
        heads=[place + 1 for place in heads],
        of=(len(attentions), count),
    )
