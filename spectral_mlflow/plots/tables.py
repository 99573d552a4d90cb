"""Arrays with a number for each token and wave: what can be shown of them, and plots that several figures need."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, style, wording
from spectral_mlflow.plots.packet import TURN
from spectral_mlflow.plots.series import Array, array, mean, quantiles

QUARTERS = {0.0: "0", 0.25: "π/2", 0.5: "π", 0.75: "3π/2", 1.0: "2π"}
MOST_VALUES = 4_000_000  # Of more, evenly chosen tokens tell the same.


def agreement(axes: Axes, phi: Array) -> None:
    """A point a wave at the mean of exp(i phi), in axes of its own making: polar ones take ten times as long."""
    known = np.isfinite(phi)
    counts = np.maximum(known.sum(0), 1)
    means = np.where(known, np.exp(1j * np.where(known, phi, 0)), 0).sum(0) / counts
    chance = min(1.0, np.sqrt(3 / counts.max()))
    colors = style.palette()
    edge = max(chance, np.abs(means).max()) * 1.12
    ring = np.exp(1j * np.linspace(0, TURN, 121))
    for radius in (edge / 2, edge):
        axes.plot(radius * ring.real, radius * ring.imag, color=colors.faint, linewidth=0.8)
    axes.plot([-edge, edge, np.nan, 0, 0], [0, 0, np.nan, -edge, edge], color=colors.faint, linewidth=0.8)
    axes.plot(chance * ring.real, chance * ring.imag, color=colors.muted, linestyle=(0, (4, 3)), linewidth=1)
    axes.plot(means.real, means.imag, "o", color=colors.lines[0], markersize=5, alpha=0.85, markeredgewidth=0)
    for angle, text in list(QUARTERS.items())[:4]:
        place = 1.13 * edge * np.exp(1j * angle * TURN)
        axes.text(place.real, place.imag, text, ha="center", va="center", color=colors.muted, fontsize=8.5)
    for radius in (edge / 2, edge):
        place = radius * np.exp(-1j * TURN / 8)
        axes.text(
            place.real, place.imag, wording.number(float(f"{radius:.2g}")), color=colors.muted, fontsize=8, va="top"
        )
    axes.set_axis_off()
    axes.set(xlim=(-1.25 * edge, 1.25 * edge), ylim=(-1.25 * edge, 1.25 * edge), aspect="equal", anchor="N")
    notes = ("from the middle: agreement R of its tokens", "dashed: 95 % of waves with random phases")
    axes.text(
        0.5, -0.03, "\n".join(_fitted(axes, note) for note in notes),
        transform=axes.transAxes, ha="center", va="top", color=colors.muted, fontsize=8,
    )  # fmt: skip


def _fitted(axes: Axes, text: str) -> str:
    """A note in lines that are no longer than the axes with some room around them."""
    return wording.wrapped(text, ink.size(axes)[0] + 0.7, 8)


def amplitudes(axes: Axes, size: Array) -> None:
    """Mean of |A| for each harmonic with the middle 80 % of tokens and waves, and a fall as 1/h beside it."""
    colors = style.palette()
    h = np.arange(1, size.shape[2] + 1)
    flat = size.reshape(-1, h.size)
    average = mean(flat, 0)
    spread = quantiles(flat, np.array([0.1, 0.9]))
    axes.plot(h, average[0] / h, color=colors.muted, linestyle=(0, (4, 3)), linewidth=1, zorder=2)
    axes.vlines(
        h, spread[0], spread[1], color=colors.lines[0], alpha=0.4, linewidth=max(1.5, min(9, 90 / h.size)), zorder=3
    )
    axes.plot(h, average, "o", color=colors.lines[0], markersize=max(2.5, min(7, 70 / h.size)), zorder=4)
    axes.set_xlabel("harmonic h")
    axes.set_xlim(0.4, h.size + 0.6)
    axes.set_ylim(bottom=0)
    ink.whole_numbers(axes.xaxis, h.size)
    ink.plain_numbers(axes)
    ink.end_labels(axes, [ink.EndLabel(float(average[0] / h[-1]), "1/h", colors.muted)] if h.size > 1 else [])


def histogram(axes: Axes, values: Array, period: float) -> None:
    """Density of finite values in 0 to the period, 1 where they are evenly spread."""
    known = values[np.isfinite(values)]
    colors = style.palette()
    bins = int(np.clip(np.sqrt(known.size), 8, 60))
    density, edges = np.histogram(known, bins, (0, period), density=True)
    axes.stairs(density * period, edges, fill=True, color=colors.lines[0], alpha=0.28)
    axes.stairs(density * period, edges, color=colors.lines[0], linewidth=1.2)
    axes.axhline(1, color=colors.muted, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_xlim(0, period)
    axes.set_ylim(0, max(1.25, density.max() * period * 1.08))
    ink.plain_numbers(axes)


def modulo(values: Array, period: float) -> Array:
    """Values in 0 to the period, NaN for what is not finite."""
    return np.mod(np.where(np.isfinite(values), values, np.nan), period)


def tokens(values: ArrayLike, axes: str, of: int | None = None) -> tuple[Array, str, str]:
    """The values of all tokens, or evenly chosen ones of very many, a note on what they are, and what they are over.

    Args:
        values: of each token.
        axes: one letter a dimension.
        of: how many tokens there are, where the values are those of evenly chosen ones.
    """
    given = np.asarray(values)
    stride = -(-given.size // MOST_VALUES) or 1
    known = array(given[::stride] if stride > 1 else given, axes)
    chosen = wording.some(len(known), of or len(given))
    note = wording.counts(zip((chosen, *known.shape[1:]), ("token", "wave", "harmonic"), strict=False))
    broken = int((~np.isfinite(known)).sum())
    which = "all tokens and waves" if isinstance(chosen, int) else "chosen tokens, all waves"
    return known, note + (f" · {broken:,} not finite" if broken else ""), which


def why_empty(values: Array) -> str:
    """Why there is nothing finite to be seen of values."""
    return "no finite values" if values.size else "no data yet"
