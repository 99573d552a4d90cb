"""Two models side by side: what they are made of, the shapes between their parts, and how large each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from spectral_mlflow.plots import ink, page, style, wording


class Part(NamedTuple):
    """A part of a model.

    Attributes:
        name: ``embedding``, ``attention``, ``feedforward``, ``norms`` or ``head``.
        component: ``wave`` or ``standard`` where it can be exchanged, else ``shared``.
        lines: what it does, in a few words a line.
        shape: of what it gives.
        parameters: of all blocks together.
        blocks: how often it is there, once in each block; 0: outside of the blocks.
    """

    name: str
    component: str
    lines: tuple[str, ...]
    shape: str
    parameters: int
    blocks: int = 0


NAMES = {
    ("embedding", "standard"): "Token and position lookup",
    ("embedding", "wave"): "Wave packets",
    ("attention", "standard"): "Dot-product attention",
    ("attention", "wave"): "Interference attention",
    ("feedforward", "standard"): "Feed-forward, GELU",
    ("feedforward", "wave"): "Feed-forward, sine",
    ("head", "shared"): "Norm and output head",
}
HEIGHT = 5.2  # Inches.
BOX, ROOM = 0.6, 0.3  # Heights of a part and of what is between two, in inches.
FRAME = 0.17  # Inches between the parts of a block and its frame.
SHAPES = {"embedding": 0.15, "attention": ROOM / 2, "feedforward": FRAME + 0.16, "head": ROOM / 2}  # Above each part.


@style.house_style
def architecture(models: Mapping[str, Sequence[Part]]) -> Figure:
    """Models side by side, from the tokens at the bottom to the logits at the top.

    What differs between models has its model's colour, what they share is grey. Norms stand in front of attention and
    feed-forward and are counted in a line of their own.

    Args:
        models: label to its parts, in the order of the forward pass.
    """
    if not models:
        return ink.empty("Architecture")
    figure = Figure(figsize=(page.WIDTH, HEIGHT))
    width = 1 / len(models)
    for place, (label, parts) in enumerate(models.items()):
        axes = figure.add_axes((place * width + 0.008, 0.01, width - 0.016, 0.98))
        axes.set(xlim=(0, page.WIDTH * (width - 0.016)), ylim=(0, HEIGHT * 0.98))
        axes.set_axis_off()
        _model(axes, label, {part.name: part for part in parts})
    return figure


def _model(axes: Axes, label: str, parts: Mapping[str, Part]) -> None:
    colors = style.palette()
    middle = axes.get_xlim()[1] / 2
    total = sum(part.parameters for part in parts.values())
    top = axes.get_ylim()[1]
    axes.text(middle, top - 0.06, label, ha="center", va="top", fontsize=11, fontweight="bold")
    axes.text(middle, top - 0.28, f"{total:,} parameters", ha="center", va="top", fontsize=8.5, color=colors.muted)
    heights = _heights()
    _text(axes, heights["tokens"], "tokens", f"({', '.join(parts['embedding'].shape.strip('()').split(', ')[:2])})")
    _arrow(axes, heights["tokens"] + 0.22, heights["embedding"])
    _block(axes, heights, parts)
    for name in ("embedding", "attention", "feedforward", "head"):
        _box(axes, heights[name], parts[name])
    order = ("embedding", "attention", "feedforward", "head", "logits")
    for below, above in pairwise(order):
        _arrow(axes, heights[below] + BOX, heights[above])
        _shape(axes, heights[below] + BOX + SHAPES[below], parts[below].shape)
    _text(axes, heights["logits"], "logits", "of each next token")


def _heights() -> dict[str, float]:
    """Lower edges in inches, from the tokens up."""
    places, height = {"tokens": 0.05}, 0.27 + ROOM - 0.1
    for name in ("embedding", "attention", "feedforward", "head"):
        height += FRAME if name in ("attention", "head") else 0
        places[name] = height
        height += BOX + ROOM
    return places | {"logits": height}


def _box(axes: Axes, height: float, part: Part) -> None:
    colors = style.palette()
    width = axes.get_xlim()[1]
    exchanged = part.component != "shared"
    color = page.colors([part.component])[part.component] if exchanged else colors.muted
    axes.add_patch(FancyBboxPatch((0.34, height), width - 0.68, BOX, boxstyle="round,pad=0,rounding_size=0.07",
                                  facecolor=color, alpha=0.13, edgecolor="none"))  # fmt: skip
    axes.add_patch(FancyBboxPatch((0.34, height), width - 0.68, BOX, boxstyle="round,pad=0,rounding_size=0.07",
                                  facecolor="none", edgecolor=color, linewidth=1.1))  # fmt: skip
    title = NAMES.get((part.name, part.component), part.name)
    axes.text(0.43, height + BOX - 0.08, title, fontsize=8.5, fontweight="bold", va="top", color=colors.ink)
    axes.text(0.43, height + BOX - 0.27, "\n".join(part.lines), fontsize=7.5, va="top", color=colors.ink,
              linespacing=1.35)  # fmt: skip
    axes.text(width - 0.43, height + 0.075, f"{part.parameters:,}", fontsize=8, va="bottom", ha="right",
              color=colors.muted)  # fmt: skip


def _block(axes: Axes, heights: Mapping[str, float], parts: Mapping[str, Part]) -> None:
    """A frame around what is there once in each block, and what its norms have."""
    colors = style.palette()
    low, high = heights["attention"] - FRAME, heights["feedforward"] + BOX + FRAME
    axes.add_patch(FancyBboxPatch((0.16, low), axes.get_xlim()[1] - 0.32, high - low, linestyle=(0, (4, 3)),
                                  boxstyle="round,pad=0,rounding_size=0.09", facecolor="none",
                                  edgecolor=colors.muted, linewidth=0.8))  # fmt: skip
    times = f"block, {parts['attention'].blocks} times · norms {parts['norms'].parameters:,}"
    axes.text(0.085, (low + high) / 2, times, rotation=90, va="center", ha="center", fontsize=7.5, color=colors.muted)


def _arrow(axes: Axes, low: float, high: float) -> None:
    middle = axes.get_xlim()[1] / 2
    axes.add_patch(FancyArrowPatch((middle, low + 0.01), (middle, high - 0.01), arrowstyle="-|>", mutation_scale=8,
                                   color=style.palette().muted, linewidth=0.9, shrinkA=0, shrinkB=0))  # fmt: skip


def _shape(axes: Axes, height: float, text: str) -> None:
    axes.text(axes.get_xlim()[1] / 2 + 0.12, height, text, va="center", fontsize=7.5, color=style.palette().muted)


def _text(axes: Axes, height: float, name: str, note: str) -> None:
    middle = axes.get_xlim()[1] / 2
    width = wording.width(name, 9)
    axes.text(middle, height, name, ha="center", va="bottom", fontsize=9)
    axes.text(middle + width / 2 + 0.1, height + 0.01, note, va="bottom", fontsize=7.5, color=style.palette().muted)
