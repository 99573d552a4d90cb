"""What the waves of an embedding look like: frequencies, phases, harmonics and the packets they add up to.

A frequency is known only modulo 1: it enters as ``sin(2 pi h f + phi)`` with whole h, so f and f + 1 are
the same wave, and neither is high or low. A phase is known modulo 2 pi.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import ArrayLike

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import evolution, ink, packet, page, rows, style, tables, wording
from spectral_mlflow.plots.heat import color_scale, heat, waves_down
from spectral_mlflow.plots.packet import TURN
from spectral_mlflow.plots.series import Array, array, in_order, mean, names, quantiles

MOST_PACKETS = 12  # Nobody compares more rows than this,
MOST_PRINTED = 6  # and a page has other things too.
MOST_ROWS = 256  # A heat map of tokens shows so many quantiles of them.


@style.house_style
def frequencies(f: ArrayLike, *, of: int | None = None) -> Figure:
    """Histogram of all frequencies modulo 1, and every wave as a strip of its tokens in the order of frequency.

    A wave whose frequencies are spread evenly over the tokens has a strip that runs evenly through all colours.

    Args:
        f: (V, W), one frequency for each token and wave, in turns.
        of: how many tokens the vocabulary has, where those given are evenly chosen from it.

    Raises:
        UserError: another number of dimensions.
    """
    values, note, which = tables.tokens(f, "VW", of)
    values = tables.modulo(values, 1.0)
    if not np.isfinite(values).any():
        return ink.empty("Frequencies", tables.why_empty(values))
    figure = ink.new(8, 5.6)
    ink.heading(figure, "Frequencies, modulo 1", note)
    above, below = ink.grid(figure, [1, 1.3], between=0.95)
    axes = ink.plot(figure, above, f"Density over {which} (evenly spread = 1)")
    tables.histogram(axes, values, 1.0)
    axes.set_xlabel("frequency f mod 1 (turns)")
    axes.xaxis.set_major_formatter(ink.Numbers())
    axes = ink.plot(figure, below, "Wave by wave, its tokens sorted by frequency")
    strips = quantiles(values, np.linspace(0, 1, min(len(values), MOST_ROWS))).T
    colors = style.palette().cyclic()
    heat(axes, strips, colors, (0, 1), (0, 100, len(strips) + 0.5, 0.5))
    axes.set_xlabel("tokens (%)")
    waves_down(axes, len(strips))
    color_scale(axes, colors, "f mod 1", ("0", "1"))
    return figure


@style.house_style
def frequency_evolution(steps: ArrayLike, f: ArrayLike, *, of: int | None = None) -> Figure:
    """The density of all frequencies modulo 1 over the steps, and how far they are from where they were first.

    The distance of two frequencies is that on a circle of one turn, ``|(f - f_0 + 1/2) mod 1 - 1/2|``: at most 0.5,
    and 0.25 in the mean where both have nothing to do with each other.

    Args:
        steps: (S,), at which the frequencies were taken; the last of equal ones counts.
        f: (S, N, W), one frequency for each step, token and wave, in turns.
        of: how many tokens the vocabulary has, where those given are evenly chosen from it.

    Raises:
        UserError: shapes that do not go together.
    """
    x, values = array(steps, "S"), array(f, "SNW")
    if len(x) != len(values):
        raise UserError(f"plot: given {len(x)} steps for {len(values)} sets of frequencies; allowed: one step a set")
    values = np.where(np.isfinite(values), values, np.nan)
    order = in_order(x)
    x, values = x[order], values[order]
    if not np.isfinite(values).any():
        return ink.empty("Evolution of the frequencies", tables.why_empty(values))
    figure = ink.new(8, 5.6, printed=3.5)
    broken = int(np.isnan(values).sum())
    known = np.isfinite(values).any((1, 2))  # A step without any has no place, least of all as the first one.
    x, values = x[known], values[known]
    given = *values.shape[:1], wording.some(values.shape[1], of), *values.shape[2:]
    note = wording.counts(zip(given, ("step", "token", "wave"), strict=True))
    ink.heading(figure, "Evolution of the frequencies", note + (f" · {broken:,} not finite" if broken else ""))
    above, below = ink.grid(figure, [1.35, 1])
    evolution.draw_density(ink.plot(figure, above, "Density modulo 1 (evenly spread = 1)"), x, values)
    axes = ink.plot(figure, below, f"Distance from step {x[0]:,.0f} on the circle of one turn")
    evolution.draw_distances(axes, x, evolution.distances(values, values[0]))
    axes.set_xlabel("step")
    return figure


@style.house_style
def phases(phi: ArrayLike, *, of: int | None = None) -> Figure:
    """Histogram of all phases modulo 2 pi, and for each wave how far its tokens agree on one.

    The polar plot has a point a wave: the mean of ``exp(i phi)`` over the tokens. Its distance R from the middle is 1
    where all tokens have one phase. Were phases random, 95 % of the waves would lie inside of the dashed circle,
    R = sqrt(3 / V) (Rayleigh's test: Mardia and Jupp, Directional Statistics, 2000).

    Args:
        phi: (V, W), one phase for each token and wave, in radians.
        of: how many tokens the vocabulary has, where those given are evenly chosen from it.

    Raises:
        UserError: another number of dimensions.
    """
    values, note, which = tables.tokens(phi, "VW", of)
    values = tables.modulo(values, TURN)
    if not np.isfinite(values).any():
        return ink.empty("Phases", tables.why_empty(values))
    figure = ink.new(9, 4)
    ink.heading(figure, "Phases", note)
    left, right = ink.grid(figure, widths=[1.9, 1], right=0.4, across=0.7)
    axes = ink.plot(figure, left, f"Density over {which} (evenly spread = 1)")
    tables.histogram(axes, values, TURN)
    axes.set_xlabel("phase φ (radians)")
    axes.xaxis.set_major_locator(FixedLocator([share * TURN for share in tables.QUARTERS]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: tables.QUARTERS[round(place / TURN, 2)]))
    tables.agreement(ink.plot(figure, right, "Mean phase of each wave"), values)
    return figure


@style.house_style
def harmonics(A: ArrayLike, *, of: int | None = None) -> Figure:
    """How much amplitude each harmonic carries: mean and spread, and wave by wave.

    Args:
        A: (V, W, H), one amplitude for each token, wave and harmonic.
        of: how many tokens the vocabulary has, where those given are evenly chosen from it.

    Raises:
        UserError: another number of dimensions.
    """
    values, note, _ = tables.tokens(A, "VWH", of)
    size = np.where(np.isfinite(values), np.abs(values), np.nan)
    if not np.isfinite(size).any():
        return ink.empty("Harmonics", tables.why_empty(size))
    figure = ink.new(9, 4, printed=2.75)
    ink.heading(figure, "Harmonics", note)
    left, right = ink.grid(figure, widths=[1.25, 1])
    tables.amplitudes(ink.plot(figure, left, "Mean |A|, bars: middle 80 % of tokens and waves"), size)
    axes = ink.plot(figure, right, "Mean |A| over the tokens")
    means, colors = mean(size, 0), style.palette().sequential()
    most = float(np.nanmax(means)) or 1.0
    heat(axes, means, colors, (0, most), (0.5, size.shape[2] + 0.5, len(means) + 0.5, 0.5))
    axes.set_xlabel("harmonic h")
    waves_down(axes, len(means))
    ink.whole_numbers(axes.xaxis, size.shape[2])
    color_scale(axes, colors, "|A|", ("0", wording.number(float(f"{most:.3g}"))))
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
    tokens = names(labels, len(array(f, "NW")))
    waves = _waves(f, phi, A, gamma, positions)
    shown = [place for place in range(len(waves)) if np.isfinite(waves[place]).any()]
    shown = shown[: MOST_PACKETS if page.widest() is None else MOST_PRINTED]
    if not shown:
        return ink.empty("Wave packets", tables.why_empty(waves))
    figure = ink.new(9, 1.6 + 0.8 * len(shown), printed=1.25 + 0.35 * len(shown))
    parts = zip((len(shown), *np.shape(A)[1:]), ("token", "wave", "harmonic"), strict=True)
    ink.heading(figure, "Wave packets", wording.counts(parts))
    texts = [wording.token(tokens[place]) for place in shown]
    right = 0.4 + max(wording.width(text, rows.BOLD) for text in texts)
    axes = ink.plot(
        figure, ink.grid(figure, right=right)[0], "Amplitude before the projection; faint: the single waves"
    )
    rows.packets(axes, packet.fine(positions), waves[shown], texts)
    axes.set_xlabel("position p (tokens)")
    return figure


@style.house_style
def interference(
    f: ArrayLike,
    phi: ArrayLike,
    A: ArrayLike,
    gamma: ArrayLike,
    labels: Sequence[str],
    *,
    positions: int = 48,
) -> Figure:
    """Where the waves of two tokens strengthen and cancel each other, and how much those of every two do.

    The waves are kept apart, as the model projects each onto features of its own: wave w of one token meets wave w of
    the other. The matrix shows ``I_ij = 2 <s_i, s_j> / (|s_i|^2 + |s_j|^2)`` over all waves and positions: from -1,
    nothing is left of both, to 1, they are the same. The curves are the energies ``sum_w s_w^2`` over the positions of
    the pairs that strengthen each other most, that interfere least and that cancel each other most.

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
    tokens = [wording.token(label) for label in names(labels, len(array(f, "NW")))]
    waves = _waves(f, phi, A, gamma, positions)
    matrix = packet.interference(waves[..., :: packet.FINE])
    pairs = packet.telling_pairs(matrix)
    if not pairs:
        return ink.empty("Interference", "one token has none to meet" if len(waves) == 1 else tables.why_empty(waves))
    figure = ink.new(11, 5.2, printed=5.5)
    broken = int((~np.isfinite(waves).any((1, 2))).sum())
    note = wording.counts(zip((len(tokens), *np.shape(A)[1:]), ("token", "wave", "harmonic"), strict=True))
    ink.heading(
        figure,
        "Interference of tokens, wave by wave, before the projection",
        note + (f" · {broken:,} not finite" if broken else ""),
    )
    longest = max(wording.width(token, wording.LABEL) for token in tokens)
    heights, widths = ([1.0], [1, 1.35]) if page.widest() is None else ([1, 1.2], [1.0])
    left, right = ink.grid(figure, heights, widths, left=0.5 + longest, right=max(1.1, 0.6 + 2 * longest), bottom=0.95)
    colors = style.palette().diverging()
    axes = ink.plot(figure, left, "Each two tokens, waves kept apart")
    heat(axes, matrix, colors, (-1, 1), (-0.5, len(matrix) - 0.5, len(matrix) - 0.5, -0.5))
    rows.label_square(axes, tokens)
    color_scale(axes, colors, "interference I", ("cancel \N{MINUS SIGN}1", "strengthen 1"))
    axes = ink.plot(figure, right, "Energy of each and of both together, sum over the waves")
    rows.pairs(axes, packet.fine(positions), waves, pairs, tokens, matrix)
    axes.set_xlabel("position p (tokens)")
    return figure


def _waves(f: ArrayLike, phi: ArrayLike, A: ArrayLike, gamma: ArrayLike, positions: int) -> Array:
    given = array(f, "NW"), array(phi, "NW"), array(A, "NWH"), array(gamma, "W")
    return packet.single_waves(*given, packet.fine(positions))
