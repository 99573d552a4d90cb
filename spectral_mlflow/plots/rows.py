"""Curves in rows above each other, in one pair of axes: wave packets, and pairs of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from spectral_mlflow.plots import ink, packet, style, wording
from spectral_mlflow.plots.packet import FINE
from spectral_mlflow.plots.series import Array

BOLD = 12.5  # Size in points of plain letters as wide as those of the bold labels.
ROOM = 1.15  # Between rows, for each unit of the largest value.
DASHED = (0, (3, 2))


def packets(axes: Axes, p: Array, waves: Array, labels: Sequence[str]) -> None:
    """A row for each packet of single waves (N, W, P) at p (P,): the waves, faint, their sum, and its positions."""
    colors = style.palette()
    sums = packet.packets(waves)
    step = _rows(axes, p, sums, len(sums))
    for row, (single, total) in enumerate(zip(waves, sums, strict=True)):
        base = -row * step
        # One line with gaps: as many lines as waves take longer than everything else together.
        x = np.tile(np.append(p, np.nan), len(single))
        axes.plot(x, np.pad(single + base, ((0, 0), (0, 1)), constant_values=np.nan).ravel(),
                  color=colors.muted, linewidth=0.5, alpha=0.35, zorder=2)  # fmt: skip
        axes.plot(p, total + base, color=colors.lines[0], linewidth=1.4, zorder=3)
        axes.plot(p[::FINE], total[::FINE] + base, "o", color=colors.lines[0], markersize=2.6, zorder=4)
        axes.text(
            1.012, base, labels[row], transform=axes.get_yaxis_transform(),
            va="center", fontsize=11, fontweight="bold",
        )  # fmt: skip


def pairs(
    axes: Axes, p: Array, waves: Array, chosen: Sequence[tuple[int, int]], labels: Sequence[str], matrix: Array
) -> None:
    """A row for each chosen pair of tokens with single waves (N, W, P): the energy of each, and of both together.

    Energies are sums over the waves. Filled is what both together have more or less than the two apart.
    """
    colors = style.palette()
    known = packet.apart(waves)
    alone = (known**2).sum(1)
    together = np.array([((known[i] + known[j]) ** 2).sum(0) for i, j in chosen])
    step = _rows(axes, p, np.concatenate([together, alone[np.ravel(chosen)]]), len(chosen), below=0.05)
    for row, (i, j) in enumerate(chosen):
        base = -row * step
        added, both = alone[i] + alone[j] + base, together[row] + base
        for more, color in ((both >= added, colors.lines[0]), (both < added, colors.lines[1])):
            axes.fill_between(p, added, np.where(more, both, added), color=color, alpha=0.5, linewidth=0, zorder=2)
        axes.plot(p, alone[i] + base, color=colors.muted, linewidth=1, zorder=3)
        axes.plot(p, alone[j] + base, color=colors.muted, linewidth=1, linestyle=DASHED, zorder=3)
        axes.plot(p, both, color=colors.ink, linewidth=1.5, zorder=4)
        text = f"{labels[i]} + {labels[j]}\nI = {wording.number(round(matrix[i, j], 2))}"
        axes.text(
            1.012, base + step / 3, text, transform=axes.get_yaxis_transform(), va="center", fontsize=wording.LABEL
        )
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Below the axes, what the lines and colours of the pairs mean."""
    colors = style.palette()
    handles = [
        Line2D([], [], color=colors.muted, linewidth=1, label="first token"),
        Line2D([], [], color=colors.muted, linewidth=1, linestyle=DASHED, label="second token"),
        Patch(color=colors.lines[0], alpha=0.5, label="they strengthen"),
        Patch(color=colors.lines[1], alpha=0.5, label="they cancel"),
        Line2D([], [], color=colors.ink, linewidth=1.5, label="both together"),
    ]
    axes.legend(
        handles=handles, ncols=3, loc="upper left", bbox_to_anchor=(-0.02, -0.42 / ink.size(axes)[1]),
        fontsize=wording.LABEL, labelcolor=colors.muted, handlelength=1.4, columnspacing=1, borderpad=0,
    )  # fmt: skip


def _rows(axes: Axes, p: Array, values: Array, count: int, *, below: float = 1.0) -> float:
    """Set limits, base lines and a bar for the size of values; the distance of the rows.

    Below is the room under a base line, in units of the largest value.
    """
    colors = style.palette()
    most = float(np.nanmax(np.abs(values))) or 1.0
    step = ROOM * (1 + below) * most
    axes.hlines(-step * np.arange(count), p[0], p[-1], color=colors.faint, linewidth=0.8, zorder=1)
    axes.set_ylim(-step * (count - 1) - ROOM * below * most, ROOM * most)
    axes.set_xlim(p[0] - 0.02 * max(p[-1], 1), p[-1] + 0.02 * max(p[-1], 1))
    axes.grid(visible=False)
    axes.yaxis.set_major_locator(NullLocator())
    size = 10 ** np.floor(np.log10(most))
    size *= max(nice for nice in (1, 2, 5) if nice * size <= most * (1 + 1e-9))  # log10 rounds.
    axes.plot([-0.01] * 2, [0, size], color=colors.muted, transform=axes.get_yaxis_transform(), clip_on=False)
    axes.text(
        -0.018, size / 2, wording.number(size), transform=axes.get_yaxis_transform(), ha="right", va="center",
        color=colors.muted, fontsize=8.5,
    )  # fmt: skip
    return step


def label_square(axes: Axes, labels: Sequence[str]) -> None:
    """Labels on both sides of a square of things, as many as there is room for."""
    room = ink.size(axes)
    color = style.palette().ink
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    size = 8.0
    across = -(-len(labels) * max(0.14, max(wording.width(label, size) for label in labels) + 0.06) // room[0])
    down = -(-len(labels) * 0.14 // room[1])
    for place in range(0, len(labels), int(across)):
        axes.text(place, -0.02, labels[place], transform=axes.get_xaxis_transform(), ha="center", va="top",
                  color=color, fontsize=size)  # fmt: skip
    for place in range(0, len(labels), int(down)):
        axes.text(-0.02, place, labels[place], transform=axes.get_yaxis_transform(), ha="right", va="center",
                  color=color, fontsize=size)  # fmt: skip
