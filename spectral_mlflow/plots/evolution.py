"""How frequencies move from step to step: their density modulo 1, and how far they are from where they were."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from spectral_mlflow.plots import ink, style, wording
from spectral_mlflow.plots.heat import color_scale, heat
from spectral_mlflow.plots.series import Array, quantiles

BINS = 40
COLUMNS = 400  # Of the heat map: about one for two pixels.
SHARES = np.array([0.1, 0.5, 0.9])
MOST_ARC = 0.6  # Of a turn: frequencies on more of it are shown on all of it.

Arc = tuple[float, float]


def distances(f: Array, first: Array) -> Array:
    """How far frequencies are from others on a circle of one turn, in turns: 0 to 0.5."""
    return np.asarray(np.abs(np.mod(f - first + 0.5, 1) - 0.5))


def window(f: Array) -> Arc:
    """The arc of the circle of one turn that holds all finite frequencies, with a margin; all of it if that is most."""
    places = np.unique(np.mod(f[np.isfinite(f)], 1.0))
    gaps = np.diff(places, append=places[0] + 1)
    span, start = 1 - gaps.max(), places[(gaps.argmax() + 1) % places.size]
    if span > MOST_ARC:
        return 0.0, 1.0
    margin = max(0.05 * span, 0.01)
    start -= start + span > 1  # An arc over the end of the turn begins below 0.
    return float(start - margin), float(start + span + margin)


def density(f: Array, bins: int, arc: Arc = (0.0, 1.0)) -> Array:
    """Of each step's frequencies (S, N, W), the density modulo 1 in so many bins of an arc: (S, bins), evenly spread 1.

    NaN for a step without finite ones.
    """
    low, high = arc
    known = [np.mod(row[np.isfinite(row)], 1.0) for row in f]  # Whole turns away first: they cost the last digits.
    rows = [np.histogram(low + np.mod(row - low, 1.0), bins, arc)[0] for row in known]
    counts = np.array(rows, dtype=float) * bins / (high - low)
    total = np.isfinite(f).sum((1, 2))[:, None]
    return np.asarray(np.where(total > 0, counts, np.nan) / np.maximum(total, 1))


def draw_density(axes: Axes, steps: Array, f: Array) -> None:
    """Heat map of the density over the steps (S,), every step as far as it is the nearest, where frequencies are."""
    arc = window(f)
    shares = density(f, BINS, arc)
    first, last = _span(steps)
    grid = np.linspace(first, last, COLUMNS)
    columns = np.searchsorted((steps[1:] + steps[:-1]) / 2, grid)
    colors, most = style.palette().sequential(), max(2.0, float(np.nanmax(shares)))
    heat(axes, shares[columns].T[::-1], colors, (0, most), (first, last, *arc))
    axes.set_ylabel("f mod 1 (turns)")
    ink.plain_numbers(axes)
    if arc[0] < 0 or arc[1] > 1:  # Over the end of the turn, where frequencies begin at 0 again.
        axes.yaxis.set_major_formatter(FuncFormatter(lambda place, _: wording.number(round(place, 9) % 1)))
    ink.step_axis(axes)
    color_scale(axes, colors, "density", ("0", wording.number(round(most, 1))))


def draw_distances(axes: Axes, steps: Array, moved: Array) -> None:
    """Median and middle 80 % of all distances (S, N, W) over the steps (S,)."""
    low, middle, high = quantiles(moved.reshape(len(moved), -1).T, SHARES)
    color = style.palette().lines[0]
    axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, middle, color=color, marker="o" if steps.size <= 20 else "", markersize=4)
    axes.set_xlim(*_span(steps))
    axes.set_ylim(0, min(0.5, max(0.01, 1.1 * float(np.nanmax(high)))))
    ink.plain_numbers(axes)
    ink.step_axis(axes)
    muted = style.palette().muted
    ends = ((low, "10 %", muted), (middle, "median", color), (high, "90 %", muted))
    known = [(values[np.isfinite(values)][-1], name, look) for values, name, look in ends]
    ink.end_labels(
        axes, [ink.EndLabel(end, f"{name}\n{wording.number(float(f'{end:.2g}'))}", look) for end, name, look in known]
    )


def _span(steps: Array) -> tuple[float, float]:
    """From the first to the last step; a single one gets room around it."""
    return (steps[0], steps[-1]) if steps.size > 1 else (steps[0] - 1, steps[0] + 1)
