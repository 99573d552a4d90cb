"""What the waves of an embedding look like: frequencies, phases, harmonics and the packets they add up to.

A frequency is known only modulo 1: it enters as ``sin(2 pi h f + phi)`` with whole h, so f and f + 1 are
the same wave, and neither is high or low. A phase is known modulo 2 pi.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import ink, style
from spectral_mlflow.plots.series import Array, array, mean, names, quantiles

TURN = 2 * np.pi
QUARTERS = {0.0: "0", 0.25: "π/2", 0.5: "π", 0.75: "3π/2", 1.0: "2π"}
MOST_PACKETS = 12  # Nobody compares more rows than this.
MOST_ROWS = 256  # A heat map of tokens shows so many quantiles of them.
MOST_VALUES = 4_000_000  # Of more, evenly chosen tokens tell the same.
FINE = 8  # Points of a curve between two positions.


@style.house_style
def frequencies(f: ArrayLike) -> Figure:
    """Histogram of all frequencies modulo 1, and every wave as a strip of its tokens in the order of frequency.

    A wave whose frequencies are spread evenly over the tokens has a strip that runs evenly through all colours.

    Args:
        f: (V, W), one frequency for each token and wave, in turns.

    Raises:
        UserError: another number of dimensions.
    """
    values, note = _tokens(f, "VW")
    values = _modulo(values, 1.0)
    if not np.isfinite(values).any():
        return ink.empty("Frequencies", _why_empty(values))
    figure = ink.new(8, 5.8)
    ink.heading(figure, "Frequencies, modulo 1", note)
    above, below = figure.subplots(2, 1, height_ratios=[1, 1.3])
    _histogram(above, values, 1.0)
    above.set_title("Density over all tokens and waves (evenly spread = 1)")
    above.set_xlabel("frequency f mod 1 (turns)")
    above.xaxis.set_major_formatter(FuncFormatter(ink.number))
    below.set_title("Wave by wave, its tokens sorted by frequency")
    image = _heat(
        below, quantiles(values, np.linspace(0, 1, min(len(values), MOST_ROWS))).T, style.palette().cyclic(), (0, 100)
    )
    image.set_clim(0, 1)
    below.set_xlabel("tokens (%)")
    below.set_ylabel("wave")
    _colorbar(figure, below, image, "f mod 1")
    return figure


@style.house_style
def phases(phi: ArrayLike) -> Figure:
    """Histogram of all phases modulo 2 pi, and for each wave how far its tokens agree on one.

    The polar plot has a point a wave: the mean of ``exp(i phi)`` over the tokens. Its distance R from the middle is 1
    where all tokens have one phase. Were phases random, 95 % of the waves would lie inside of the dashed circle,
    R = sqrt(3 / V) (Rayleigh's test: Mardia and Jupp, Directional Statistics, 2000).

    Args:
        phi: (V, W), one phase for each token and wave, in radians.

    Raises:
        UserError: another number of dimensions.
    """
    values, note = _tokens(phi, "VW")
    values = _modulo(values, TURN)
    if not np.isfinite(values).any():
        return ink.empty("Phases", _why_empty(values))
    figure = ink.new(9, 4.2)
    ink.heading(figure, "Phases", note)
    halves = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.75, 1])[
        0
    ]  # The round axes must not push the square ones around.
    left = halves[0].add_subplot()
    _histogram(left, values, TURN)
    left.set_title("Density over all tokens and waves (evenly spread = 1)")
    left.set_xlabel("phase φ (radians)")
    left.xaxis.set_major_locator(FixedLocator([share * TURN for share in QUARTERS]))
    left.xaxis.set_major_formatter(FuncFormatter(lambda place, _: QUARTERS[round(place / TURN, 2)]))
    _agreement(halves[1].add_subplot(projection="polar"), values)
    return figure


@style.house_style
def harmonics(A: ArrayLike) -> Figure:
    """How much amplitude each harmonic carries: mean and spread, and wave by wave.

    Args:
        A: (V, W, H), one amplitude for each token, wave and harmonic.

    Raises:
        UserError: another number of dimensions.
    """
    values, note = _tokens(A, "VWH")
    size = np.where(np.isfinite(values), np.abs(values), np.nan)
    if not np.isfinite(size).any():
        return ink.empty("Harmonics", _why_empty(size))
    figure = ink.new(9, 4.2)
    ink.heading(figure, "Harmonics", note)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _amplitudes(left, size)
    right.set_title("Mean |A| over the tokens")
    image = _heat(right, mean(size, 0), style.palette().sequential(), (0.5, size.shape[2] + 0.5))
    right.set_xlabel("harmonic h")
    right.set_ylabel("wave")
    image.set_clim(0, float(np.nanmax(mean(size, 0))) or 1.0)
    ink.whole_numbers(right.xaxis, size.shape[2])
    _colorbar(figure, right, image, "|A|")
    return figure


@style.house_style
def wave_packets(
    f: ArrayLike,
    phi: ArrayLike,
    A: ArrayLike,
    gamma: ArrayLike,
    labels: Sequence[str],
    *,
    positions: int = 48,
) -> Figure:
    """The packets of some tokens over the positions: each wave, faint, and what they interfere to.

    A packet is ``sum_w sum_h A [sin theta + cos theta]`` with ``theta = 2 pi h f + phi + gamma_w p``, before the waves
    are projected onto the features. The curve is drawn between the positions too; the model sees the dots.

    Args:
        f: (N, W), frequencies of N tokens, in turns.
        phi: (N, W), their phases, in radians.
        A: (N, W, H), their amplitudes.
        gamma: (W,), phase speed of each wave, in radians a position.
        labels: N texts, the tokens.
        positions: how many positions, from 0 on.

    Raises:
        UserError: shapes or labels that do not go together.
    """
    amplitudes, speeds = array(A, "NWH"), array(gamma, "W")
    waves = _waves(array(f, "NW"), array(phi, "NW"), amplitudes, speeds, _fine(positions))
    shown = [place for place in range(len(waves)) if np.isfinite(waves[place]).any()][:MOST_PACKETS]
    tokens = names(labels, len(waves))
    if not shown:
        return ink.empty("Wave packets", _why_empty(waves))
    figure = ink.new(9, 1.3 + 0.95 * len(shown))
    parts = ((len(shown), "token"), (speeds.size, "wave"), (amplitudes.shape[2], "harmonic"))
    ink.heading(figure, "Wave packets", ink.counts(parts))
    rows = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, place in zip(rows, shown, strict=True):
        _packet(axes, waves[place], _fine(positions), ink.token(tokens[place]))
    rows[0].set_title("Amplitude before the projection; faint: the single waves")
    rows[-1].set_xlabel("position p (tokens)")
    rows[-1].spines["bottom"].set_visible(True)
    return figure


def _fine(positions: int) -> Array:
    return np.arange(max(1, positions - 1) * FINE + 1) / FINE


def _waves(f: Array, phi: Array, A: Array, gamma: Array, p: Array) -> Array:
    """Every wave of every token over positions p: (N, W, P), by the sum over harmonics S and C."""
    if not (f.shape == phi.shape == A.shape[:2] and f.shape[1:] == gamma.shape):
        given = f"f {f.shape}, phi {phi.shape}, A {A.shape}, gamma {gamma.shape}"
        raise UserError(f"wave packets: given {given}; allowed: (N, W), (N, W), (N, W, H), (W,)")
    with np.errstate(invalid="ignore"):
        theta = TURN * f[..., None] * np.arange(1, A.shape[2] + 1) + phi[..., None]
        sines, cosines = (A * np.sin(theta)).sum(2), (A * np.cos(theta)).sum(2)
        turned = gamma[:, None] * p
        return np.asarray((sines + cosines)[..., None] * np.cos(turned) + (cosines - sines)[..., None] * np.sin(turned))


def _packet(axes: Axes, waves: Array, p: Array, label: str) -> None:
    colors = style.palette()
    packet = np.where(np.isfinite(waves), waves, 0).sum(0)
    axes.axhline(0, color=colors.faint, linewidth=0.8, zorder=1)
    axes.plot(p, waves.T, color=colors.muted, linewidth=0.5, alpha=0.35, zorder=2)
    axes.plot(p, packet, color=colors.lines[0], linewidth=1.4, zorder=3)
    axes.plot(p[::FINE], packet[::FINE], "o", color=colors.lines[0], markersize=2.6, zorder=4)
    axes.grid(visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(2, symmetric=True))
    axes.yaxis.set_major_formatter(FuncFormatter(ink.number))
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False)
    axes.text(1.012, 0.5, label, transform=axes.transAxes, va="center", fontsize=11, fontweight="bold")


def _agreement(axes: PolarAxes, phi: Array) -> None:
    known = np.isfinite(phi)
    counts = np.maximum(known.sum(0), 1)
    means = np.where(known, np.exp(1j * np.where(known, phi, 0)), 0).sum(0) / counts
    chance = min(1.0, np.sqrt(3 / counts.max()))
    colors = style.palette()
    ring = np.linspace(0, TURN, 181)
    axes.plot(ring, np.full(ring.size, chance), color=colors.muted, linestyle=(0, (4, 3)), linewidth=1)
    axes.plot(np.angle(means), np.abs(means), "o", color=colors.lines[0], markersize=5, alpha=0.85, markeredgewidth=0)
    axes.set_ylim(0, max(chance, np.abs(means).max()) * 1.12)
    axes.set_rlabel_position(22.5)
    axes.grid(visible=True)
    axes.spines["polar"].set_color(colors.faint)
    axes.set_xticks([share * TURN for share in list(QUARTERS)[:4]], list(QUARTERS.values())[:4])
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(ink.number))
    axes.set_title("Mean phase of each wave", loc="center")
    axes.set_xlabel(
        "distance from the middle: agreement R of its tokens\ndashed: 95 % of waves with random phases", fontsize=8
    )


def _amplitudes(axes: Axes, size: Array) -> None:
    """Mean of |A| for each harmonic with the middle 80 % of tokens and waves, and a fall as 1/h beside it."""
    colors = style.palette()
    h = np.arange(1, size.shape[2] + 1)
    flat = size.reshape(-1, h.size)
    average = mean(flat, 0)
    spread = quantiles(flat, np.array([0.1, 0.9]))
    axes.set_title("Mean |A|, bars: middle 80 % of tokens and waves")
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


def _histogram(axes: Axes, values: Array, period: float) -> None:
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


def _heat(axes: Axes, values: Array, colormap: Colormap, across: tuple[float, float]) -> AxesImage:
    """Heat map with a wave a row, the first on top."""
    extent = (*across, len(values) + 0.5, 0.5)
    image = axes.imshow(values, aspect="auto", cmap=colormap, extent=extent, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    ink.whole_numbers(axes.yaxis, len(values))
    return image


def _colorbar(figure: Figure, axes: Axes, image: AxesImage, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, label=label, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(ink.number))
    bar.ax.grid(visible=False)


def _modulo(values: Array, period: float) -> Array:
    return np.mod(np.where(np.isfinite(values), values, np.nan), period)


def _tokens(values: ArrayLike, axes: str) -> tuple[Array, str]:
    """The values of all tokens, or evenly chosen ones of very many, and a note on what they are."""
    given = np.asarray(values)
    stride = -(-given.size // MOST_VALUES) or 1
    known = array(given[::stride] if stride > 1 else given, axes)
    note = ink.counts(zip(given.shape, ("token", "wave", "harmonic"), strict=False))
    note += f" · one in {stride} shown" if stride > 1 else ""
    broken = int((~np.isfinite(known)).sum())
    return known, note + (f" · {broken:,} not finite" if broken else "")


def _why_empty(values: Array) -> str:
    return "no finite values" if values.size else "no data yet"
