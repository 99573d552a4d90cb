"""Where models have their parameters and their operations: part beside part, model beside model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spectral_mlflow.plots import ink, page, style, wording

BAR = 0.19  # Inches.


@style.house_style
def parameters(models: Mapping[str, Mapping[str, int]]) -> Figure:
    """How many parameters each part of each model has.

    Args:
        models: label to its parts, each with its number of parameters; parts keep their order.
    """
    return _parts(models, "parameters")


@style.house_style
def flops(models: Mapping[str, Mapping[str, int]]) -> Figure:
    """How many floating point operations each part of each model takes to train on a token.

    Args:
        models: label to its parts, each with its number of operations; parts keep their order.
    """
    return _parts(models, "operations a token")


def _parts(models: Mapping[str, Mapping[str, int]], unit: str) -> Figure:
    names = list(dict.fromkeys(name for parts in models.values() for name in parts if name != "total"))
    if not names:
        return ink.empty(unit.capitalize())
    count = len(models)
    figure = ink.new(page.WIDTH, 0.45 + len(names) * (count * BAR + 0.14))
    totals = {label: sum(parts.get(name, 0) for name in names) for label, parts in models.items()}
    texts = {label: [_share(parts.get(name, 0), totals[label]) for name in names] for label, parts in models.items()}
    left = 0.2 + max(wording.width(name, wording.LABEL) for name in names)
    right = 0.15 + max(wording.width(text, 8) for rows in texts.values() for text in rows)
    axes = ink.plot(figure, ink.grid(figure, left=left, right=right, top=0.4, bottom=0.05)[0])
    colors = page.colors(list(models))
    for place, (label, parts) in enumerate(models.items()):
        rows = np.arange(len(names)) + (place - (count - 1) / 2) * _step(count)
        sizes = [parts.get(name, 0) for name in names]
        axes.barh(rows, sizes, height=0.88 * _step(count), color=colors[label], alpha=0.85,
                  label=f"{label}: {totals[label]:,} {unit}")  # fmt: skip
        for row, size, text in zip(rows, sizes, texts[label], strict=True):
            axes.annotate(text, (size, row), (4, 0), textcoords="offset points", va="center", fontsize=8,
                          color=style.palette().muted)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=style.palette().ink)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(NullLocator())
    figure.legend(loc="upper left", bbox_to_anchor=(0.01, 1), ncols=2, fontsize=8, handlelength=1, handleheight=0.9)
    return figure


def _step(count: int) -> float:
    """Height of a bar in units of a row."""
    return BAR / (BAR * count + 0.14)


def _share(size: int, total: int) -> str:
    return f"{size:,} ({size / total:.1%})" if size else "0"
