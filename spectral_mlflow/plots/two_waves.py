"""Two waves that meet: strengthening and cancelling each other, as their phases differ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.packet import TURN

FRAMES = 36
WAVELENGTHS = 3.0
SHOWN = {0.0: "0", 1 / 6: "π/3", 1 / 3: "2π/3", 0.5: "π"}  # Differences of a strip, in turns.


def frames(count: int = FRAMES) -> Iterator[Figure]:
    """The second wave overtakes the first by one turn, and its difference comes around.

    Args:
        count: of pictures.
    """
    for number in range(count):
        yield _frame(number / count)


@style.house_style
def strip() -> Figure:
    """The two waves at four differences, for print."""
    figure = ink.new(page.WIDTH, 2.0)
    places = ink.grid(figure, [1, 1], [1] * len(SHOWN), left=0.85, right=0.12, top=0.45, bottom=0.1, across=0.14,
                      between=0.08)  # fmt: skip
    for column, (turns, name) in enumerate(SHOWN.items()):
        above = ink.plot(figure, places[column], "")
        above.set_title(f"Δφ = {name}\ncos Δφ = {_cosine(turns)}", fontsize=8.5, fontweight="normal")
        _two(above, turns, 0.0)
        _sum(ink.plot(figure, places[column + len(SHOWN)]), turns, 0.0)
    for row, name in enumerate(("both waves", "their sum")):
        place = places[row * len(SHOWN)].get_position(figure)
        figure.text(0.012, (place.y0 + place.y1) / 2, name, va="center", fontsize=8.5, color=style.palette().muted)
    return figure


@style.house_style
def _frame(turns: float) -> Figure:
    figure = Figure(figsize=(page.WIDTH, 2.9))
    above, below = ink.grid(figure, [1, 1], left=0.95, right=0.12, top=0.42, bottom=0.1, between=0.1)
    _two(ink.plot(figure, above), turns, turns)
    _sum(ink.plot(figure, below), turns, turns)
    for place, name in ((above, "both waves"), (below, "their sum")):
        corner = place.get_position(figure)
        figure.text(0.015, (corner.y0 + corner.y1) / 2, name, va="center", fontsize=9, color=style.palette().muted)
    figure.text(0.5, 0.975, f"Δφ = {2 * turns:.2f} π     cos Δφ = {_cosine(turns)}", ha="center", va="top", fontsize=11,
                fontweight="bold")  # fmt: skip
    return figure


def _cosine(turns: float) -> str:
    return wording.number(round(float(np.cos(TURN * turns)), 2))


def _two(axes: Axes, turns: float, time: float) -> None:
    first, second = page.colors(["wave", "standard"]).values()
    x = np.linspace(0, WAVELENGTHS, 240)
    axes.plot(x, np.sin(TURN * (x - time)), color=first)
    axes.plot(x, np.sin(TURN * (x - time) + TURN * turns), color=second, linestyle=(0, (5, 2)))
    _bare(axes)


def _sum(axes: Axes, turns: float, time: float) -> None:
    """The sum, filled with the colour of what the waves do to each other."""
    colors = style.palette()
    x = np.linspace(0, WAVELENGTHS, 240)
    both = np.sin(TURN * (x - time)) + np.sin(TURN * (x - time) + TURN * turns)
    axes.plot(x, both, color=colors.ink, linewidth=1.8)
    strong = np.cos(TURN * turns) >= 0
    axes.fill_between(x, both, color=colors.lines[0] if strong else colors.lines[1], alpha=0.25, linewidth=0)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.axhline(0, color=style.palette().muted, linewidth=0.6, zorder=1)
    axes.set_ylim(-2.15, 2.15)
    axes.set_xlim(0, WAVELENGTHS)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
