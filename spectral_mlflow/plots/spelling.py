"""A word in two embeddings: every token as a list of numbers, and as a wave packet."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spectral_mlflow.plots import ink, packet, page, style, wording
from spectral_mlflow.plots.packet import FINE
from spectral_mlflow.plots.passage import Spelling
from spectral_mlflow.plots.series import Array

POSITIONS = 24
NUMBERS = 64  # Of a row of the lookup table: as many as can be told apart.
ROW = 0.72  # Inches.


@style.house_style
def spelling(standard: Spelling, wave: Spelling) -> Figure:
    """The tokens of a word below each other: rows of a lookup table on the left, wave packets on the right.

    Args:
        standard: the word in a lookup table; of a row the first numbers are shown.
        wave: the same word in a wave embedding.
    """
    count = len(wave.tokens)
    if not count or not standard.lookup.size or not wave.frequencies.size:
        return ink.empty("A word in two embeddings")
    figure = ink.new(page.WIDTH, 0.85 + ROW * count)
    places = ink.grid(figure, [1] * count, [1, 1.25], left=0.45, right=0.12, top=0.38, bottom=0.45, across=0.3,
                      between=0.08)  # fmt: skip
    waves = packet.single_waves(wave.frequencies, wave.phases, wave.amplitudes, wave.phase_speeds,
                                packet.fine(POSITIONS))  # fmt: skip
    limits = _reach(standard.lookup[:, :NUMBERS]), _reach(np.concatenate([packet.packets(waves), waves[:, 0]]))
    for row, token in enumerate(wave.tokens):
        left, right = (ink.plot(figure, place) for place in places[2 * row : 2 * row + 2])
        _numbers(left, standard.lookup[row, :NUMBERS], limits[0])
        _packet(right, waves[row], limits[1])
        left.text(-0.05, 0.5, wording.token(token), transform=left.transAxes, ha="right", va="center", fontsize=13,
                  fontweight="bold")  # fmt: skip
        if row == 0:
            left.set_title("standard: a list of numbers", color=page.colors(["standard"])["standard"])
            right.set_title("wave: a packet of waves", color=page.colors(["wave"])["wave"])
        if row == count - 1:
            left.set_xlabel(f"feature (the first {min(NUMBERS, standard.lookup.shape[1])} "
                            f"of {standard.lookup.shape[1]})")  # fmt: skip
            right.set_xlabel("position p (tokens)")
        for axes in (left, right):
            axes.tick_params(labelbottom=row == count - 1, length=3 if row == count - 1 else 0)
    return figure


def _reach(values: Array) -> float:
    known = np.abs(values[np.isfinite(values)])
    return 1.08 * float(known.max(initial=0)) or 1.0


def _numbers(axes: Axes, row: Array, limit: float) -> None:
    axes.bar(np.arange(1, row.size + 1), row, width=0.75, color=page.colors(["standard"])["standard"])
    _bare(axes, limit)
    axes.set_xlim(0, row.size + 1)


def _packet(axes: Axes, waves: Array, limit: float) -> None:
    """Single waves (W, P), faint, and their sum with a dot at each position."""
    p, total = packet.fine(POSITIONS), packet.packets(waves[None])[0]
    color = page.colors(["wave"])["wave"]
    axes.plot(p, waves.T, color=style.palette().muted, linewidth=0.5, alpha=0.4)
    axes.plot(p, total, color=color, linewidth=1.3)
    axes.plot(p[::FINE], total[::FINE], "o", color=color, markersize=2.6)
    _bare(axes, limit)


def _bare(axes: Axes, limit: float) -> None:
    axes.axhline(0, color=style.palette().muted, linewidth=0.6, zorder=1)
    axes.set_ylim(-limit, limit)
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
