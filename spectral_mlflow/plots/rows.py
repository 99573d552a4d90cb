"""Curves in rows above each other, in one pair of axes: wave packets, and pairs of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from spectral_mlflow.plots import ink, packet, style
from spectral_mlflow.plots.packet import FINE
from spectral_mlflow.plots.series import Array

BOLD = 12.5  # Size in points of plain letters as wide as those of the bold labels.
APART = 2.3  # Rows, in units of the largest value.


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
    axes: Axes, p: Array, packets: Array, chosen: Sequence[tuple[int, int]], labels: Sequence[str], matrix: Array
) -> None:
    """A row for each chosen pair of packets (N, P): both, and their sum, filled by whether they help each other."""
    colors = style.palette()
    sums = np.array([packets[i] + packets[j] for i, j in chosen])
    step = _rows(axes, p, np.concatenate([sums, packets[np.ravel(chosen)]]), len(chosen))
    for row, (i, j) in enumerate(chosen):
        base = -row * step
        helps = packets[i] * packets[j] >= 0
        for part, color in ((helps, colors.lines[0]), (~helps, colors.lines[1])):
            axes.fill_between(
                p, base, np.where(part, sums[row], 0) + base, color=color, alpha=0.4, linewidth=0, zorder=2
            )
        axes.plot(p, packets[i] + base, color=colors.muted, linewidth=1, zorder=3)
        axes.plot(p, packets[j] + base, color=colors.muted, linewidth=1, linestyle=(0, (3, 2)), zorder=3)
        axes.plot(p, sums[row] + base, color=colors.ink, linewidth=1.5, zorder=4)
        text = f"{labels[i]} + {labels[j]}\n{ink.number(round(matrix[i, j], 2))}"
        axes.text(1.012, base, text, transform=axes.get_yaxis_transform(), va="center", fontsize=ink.LABEL)


def _rows(axes: Axes, p: Array, values: Array, count: int) -> float:
    """Set limits, base lines and a bar for the size of values; the distance of the rows."""
    colors = style.palette()
    most = float(np.nanmax(np.abs(values))) or 1.0
    step = APART * most
    axes.hlines(-step * np.arange(count), p[0], p[-1], color=colors.faint, linewidth=0.8, zorder=1)
    axes.set_ylim(-step * (count - 0.5), step / 2)
    axes.set_xlim(p[0] - 0.02 * max(p[-1], 1), p[-1] + 0.02 * max(p[-1], 1))
    axes.grid(visible=False)
    axes.yaxis.set_major_locator(NullLocator())
    size = 10 ** np.floor(np.log10(most))
    size *= max(nice for nice in (1, 2, 5) if nice * size <= most)
    axes.plot([-0.01] * 2, [0, size], color=colors.muted, transform=axes.get_yaxis_transform(), clip_on=False)
    axes.text(
        -0.018, size / 2, ink.number(size), transform=axes.get_yaxis_transform(), ha="right", va="center",
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
    across = -(-len(labels) * max(0.14, max(ink.width(label, size) for label in labels) + 0.06) // room[0])
    down = -(-len(labels) * 0.14 // room[1])
    for place in range(0, len(labels), int(across)):
        axes.text(place, -0.02, labels[place], transform=axes.get_xaxis_transform(), ha="center", va="top",
                  color=color, fontsize=size)  # fmt: skip
    for place in range(0, len(labels), int(down)):
        axes.text(-0.02, place, labels[place], transform=axes.get_yaxis_transform(), ha="right", va="center",
                  color=color, fontsize=size)  # fmt: skip
