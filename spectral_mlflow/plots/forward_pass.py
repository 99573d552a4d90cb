"""A text on its way through models, part by part: frames of an animation, and a strip of them for print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.heat import heat
from spectral_mlflow.plots.passage import Passage
from spectral_mlflow.plots.series import Array

FEATURES = 48  # Of the residual stream that a picture shows.


class Stage(NamedTuple):
    """A part of the way: what it is called, what happens there, and how it is drawn."""

    name: str
    meaning: str
    draw: Callable[[Axes, Passage], None]


@style.house_style
def strip(passages: Mapping[str, Passage]) -> Figure:
    """Four stages of the way for print, a row for each model: embedding, first attention, last feed-forward, guess.

    Args:
        passages: label to what one text gives in its model.
    """
    if not passages:
        return ink.empty("Forward pass")
    figure = ink.new(page.WIDTH, 0.42 + 1.5 * len(passages))
    places = ink.grid(figure, [1] * len(passages), [1] * 4, left=0.35, right=0.1, top=0.32, bottom=0.25,
                      across=0.16, between=0.26)  # fmt: skip
    for row, (label, passage) in enumerate(passages.items()):
        known = _stages(passage)
        chosen = [known[1], known[2], known[-2], known[-1]]
        for column, stage in enumerate(chosen):
            axes = ink.plot(figure, places[4 * row + column])
            if row == 0:
                axes.set_title(stage.name, fontsize=8.5)
            stage.draw(axes, passage)
        _down(figure, places[4 * row], label)
    return figure


def frames(passages: Mapping[str, Passage]) -> Iterator[Figure]:
    """One picture for each stage that all models have, from the tokens to the guess, the models side by side.

    Args:
        passages: label to what one text gives in its model.
    """
    known = {label: _stages(passage) for label, passage in passages.items()}
    for number in range(min(map(len, known.values()), default=0)):
        yield _frame(passages, known, number)


@style.house_style
def _frame(passages: Mapping[str, Passage], stages: Mapping[str, list[Stage]], number: int) -> Figure:
    figure = Figure(figsize=(page.WIDTH, 3.5))
    places = ink.grid(figure, widths=[1] * len(passages), left=1.35, right=0.15, top=0.78, bottom=0.2, across=1.5)
    first = next(iter(stages.values()))[number]
    figure.suptitle(f"{number + 1}. {first.meaning}", x=0.14 / page.WIDTH, y=0.965, ha="left", va="top", fontsize=11)
    for place, (label, passage) in zip(places, passages.items(), strict=True):
        axes = ink.plot(figure, place)
        axes.set_title(label, color=page.colors([label])[label])
        stages[label][number].draw(axes, passage)
        _ladder(figure, place, [stage.name for stage in stages[label]], number, page.colors([label])[label])
    return figure


def _stages(passage: Passage) -> list[Stage]:
    """The way from the tokens to the guess."""
    way = [
        Stage("tokens", "The text, cut into tokens", _draw_tokens),
        Stage("embedding", "Each token becomes a row of numbers", _draw_embedded),
    ]
    for layer in range(len(passage.attention)):
        looks, transforms = partial(_draw_attention, layer=layer), partial(_draw_hidden, layer=layer)
        way += [
            Stage(f"attention {layer + 1}", "Each token looks at those before it", looks),
            Stage(f"feed-forward {layer + 1}", "Each token is transformed on its own", transforms),
        ]
    return [*way, Stage("next token", "The last row says what may come next", _draw_guesses)]


def _draw_tokens(axes: Axes, passage: Passage) -> None:
    """The tokens in boxes, in lines as long as there is room."""
    colors = style.palette()
    columns = min(8, len(passage.tokens))
    for number, token in enumerate(passage.tokens):
        row, column = divmod(number, columns)
        axes.add_patch(Rectangle((column + 0.06, -row - 0.86), 0.88, 0.72, color=colors.faint, linewidth=0))
        axes.text(column + 0.5, -row - 0.5, wording.shortened(wording.token(token), 0.3, 8), ha="center", va="center",
                  fontsize=8)  # fmt: skip
    axes.set(xlim=(0, columns), ylim=(-max(3, -(-len(passage.tokens) // columns)), 0))
    _bare(axes)


def _draw_embedded(axes: Axes, passage: Passage) -> None:
    """The first features of each token, positive and negative."""
    _picture(axes, passage.stream[0][:, :FEATURES], signed=True)
    axes.set_xlabel("features")


def _draw_attention(axes: Axes, passage: Passage, layer: int) -> None:
    """Weights, the mean of the heads."""
    weights = passage.attention[layer].mean(0)
    seen = np.where(np.tri(len(weights), dtype=bool), np.sqrt(np.clip(weights, 0, None)), np.nan)
    _picture(axes, seen, signed=False)
    axes.set_xlabel("looks at")


def _draw_hidden(axes: Axes, passage: Passage, layer: int) -> None:
    """What the activation gives in the first units."""
    _picture(axes, passage.hidden[layer][:, :FEATURES], signed=True)
    axes.set_xlabel("hidden units")


def _draw_guesses(axes: Axes, passage: Passage) -> None:
    rows = np.arange(len(passage.chances))
    axes.barh(rows, passage.chances, height=0.62, color=style.palette().lines[2], alpha=0.85)
    for row, (chance, token) in enumerate(zip(passage.chances, passage.guesses, strict=True)):
        axes.annotate(f"{chance:.0%}", (chance, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
        axes.annotate(wording.shortened(wording.token(token), 0.5), (0, row), (-4, 0), textcoords="offset points",
                      va="center", ha="right", fontsize=9)  # fmt: skip
    most = float(passage.chances.max())
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(-0.4 * most, 1.4 * most))
    _bare(axes)


def _picture(axes: Axes, values: Array, *, signed: bool) -> None:
    """Values (T, n) as colours, the scale fitted to all but the few largest."""
    known = np.abs(values[np.isfinite(values)])
    most = float(np.quantile(known, 0.98)) if known.size else 1.0
    colors = style.palette().diverging() if signed else style.palette().sequential()
    rows, columns = values.shape
    heat(axes, values, colors, (-most if signed else 0.0, most or 1.0), (0, columns, rows, 0))
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_label_coords(0.5, -0.02)


def _down(figure: Figure, place: SubplotSpec, label: str) -> None:
    """The label of a model beside its row, read from below."""
    corner = place.get_position(figure)
    figure.text(0.012, (corner.y0 + corner.y1) / 2, label, rotation=90, va="center", fontsize=9.5, fontweight="bold",
                color=page.colors([label])[label])  # fmt: skip


def _ladder(figure: Figure, place: SubplotSpec, names: list[str], now: int, color: str) -> None:
    """The names of all stages left of the picture, from below to above, the present one in colour."""
    corner = place.get_position(figure)
    colors = style.palette()
    for number, name in enumerate(names):
        height = corner.y0 + (number + 0.5) / len(names) * (corner.y1 - corner.y0)
        figure.text(corner.x0 - 0.14 / page.WIDTH, height, name, ha="right", va="center", fontsize=8,
                    color=color if number == now else colors.muted,
                    fontweight="bold" if number == now else "normal")  # fmt: skip
