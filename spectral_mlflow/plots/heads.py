"""Heads of several models on one text, side by side: from the one that looks at least tokens to the broadest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.attention import entropy
from spectral_mlflow.plots.heat import color_scale, heat
from spectral_mlflow.plots.series import Array, array, names

MOST_TOKENS = 16  # That have room for their labels.
SHOWN = 3  # Heads of each model: the sharpest, the middle one and the broadest.


@style.house_style
def heads(models: Mapping[str, ArrayLike], tokens: Sequence[str]) -> Figure:
    """For each model a row with the heads of the lowest, the middle and the highest mean entropy.

    The colours follow the square root of a weight, the entropy of a head is that of its rows, in nats.

    Args:
        models: label to the weights (L, H, T, T) of its layers and heads, query (row) by key, on the same text.
        tokens: their texts (T,); of more than sixteen the first ones are shown.

    Raises:
        UserError: shapes or tokens that do not go together.
    """
    known = {label: array(weights, "LHTT") for label, weights in models.items()}
    texts = [wording.token(token) for token in tokens][:MOST_TOKENS]
    for weights in known.values():
        names(list(tokens), weights.shape[2])
    if not known or not texts:
        return ink.empty("Attention")
    figure = ink.new(page.WIDTH, 0.45 + 1.75 * len(known))
    longest = max(wording.width(text, 7) for text in texts)
    places = ink.grid(figure, [1] * len(known), [1] * SHOWN, left=0.3 + longest, right=0.75, top=0.36,
                      bottom=0.1 + longest, across=0.14, between=0.34 + longest)  # fmt: skip
    for row, (label, weights) in enumerate(known.items()):
        _row(figure, places[row * SHOWN : (row + 1) * SHOWN], label, weights, texts)
    return figure


def _row(figure: Figure, places: Sequence[object], label: str, weights: Array, texts: list[str]) -> None:
    layers, count = weights.shape[:2]
    spread = entropy(np.where(np.tri(weights.shape[2], dtype=bool), weights, np.nan)).ravel()
    order = np.argsort(np.where(np.isfinite(spread), spread, np.inf), kind="stable")
    chosen = [int(order[place]) for place in np.linspace(0, layers * count - 1, len(places)).round().astype(int)]
    colors = style.palette().sequential()
    for column, (place, head) in enumerate(zip(places, chosen, strict=True)):
        axes = ink.plot(figure, place)  # type: ignore[arg-type]
        text = f"layer {head // count + 1}, head {head % count + 1}: {spread[head]:.2f} nats"
        axes.set_title(text, fontsize=8, fontweight="normal", pad=4)
        shown = weights[head // count, head % count, : len(texts), : len(texts)]
        seen = np.where(np.tri(len(texts), dtype=bool), np.sqrt(np.clip(shown, 0, None)), np.nan)
        heat(axes, seen, colors, (0, 1), (-0.5, len(texts) - 0.5, len(texts) - 0.5, -0.5))
        _label(axes, texts, rows=column == 0)
        if column == 0:
            axes.text(0.985, 0.96, label, transform=axes.transAxes, ha="right", va="top", fontsize=9.5,
                      fontweight="bold", color=page.colors([label])[label])  # fmt: skip
    color_scale(axes, colors, "weight (square-root scale)", ("0", "1"))


def _label(axes: Axes, texts: list[str], *, rows: bool) -> None:
    axes.xaxis.set_major_locator(FixedLocator(range(len(texts))))
    axes.xaxis.set_ticklabels(texts)
    turn = 90 if max(map(len, texts)) > 1 else 0
    axes.tick_params(axis="x", labelsize=7, length=0, pad=1, rotation=turn, labelcolor=style.palette().ink)
    axes.yaxis.set_major_locator(FixedLocator(range(len(texts))) if rows else NullLocator())
    if rows:
        axes.yaxis.set_ticklabels(texts)
        axes.tick_params(axis="y", labelsize=7, pad=2, labelcolor=style.palette().ink)
