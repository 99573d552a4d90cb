"""Runs side by side: learning curves over seeds, and where a model has its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.series import Series, drawable, series, smooth, thin, together

Stroke = str | tuple[float, tuple[float, ...]]

BAND_FROM = 3  # Seeds from which on a band says more than their lines.
STROKES: tuple[Stroke, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
LONGEST = "\N{MINUS SIGN}0.001234"  # A value at the end of a line, for the room that it takes.
MOST_LABEL = 4.5  # Inches for labels beside curves: longer ones are shortened.
MOST_NAMED = 40  # Curves with a label at their end.
SAFE = 4  # Colours that can be told apart with any colour vision: the next ones get another stroke.


@style.house_style
def learning_curves(
    curves: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]],
    *,
    title: str = "Learning curves",
    metric: str = "validation loss (nats per token)",
    across: str = "step",
    smoothing: float = 0.0,
    log: bool = False,
) -> Figure:
    """One line for each label: the mean over its seeds, with a band of one standard deviation.

    The mean runs where every seed has values; in between they are interpolated. Where that is less than all seeds
    together, as after the divergence of one, each is drawn, thin, and the figure says so; with two seeds both are drawn
    instead of the band. Values that are not finite are left out and counted.

    Args:
        curves: label to its seeds, each a pair of steps (n,) and values (n,).
        title: at the top.
        metric: name and unit of the values.
        across: name and unit of the steps.
        smoothing: share of a curve's points to average over, to either side; for raw training losses.
        log: logarithmic values; those of zero and below are left out.

    Raises:
        UserError: steps and values of different lengths.
    """
    given = {label: [series(*seed) for seed in seeds] for label, seeds in curves.items()}
    seen = {label: [drawable(seed, log=log) for seed in seeds] for label, seeds in given.items()}
    seen = {label: [seed for seed in seeds if seed[0].size] for label, seeds in seen.items()}
    seen = {label: seeds for label, seeds in seen.items() if seeds}
    if not seen:
        return ink.empty(title)
    named = min(len(seen), MOST_NAMED)
    figure = ink.new(8, max(4.6, 1.4 + 0.17 * named), printed=max(3.1, 1.3 + 0.17 * named))
    value = wording.width(f" {LONGEST}", wording.LABEL)
    texts, common = wording.told_apart(list(seen)[:named], MOST_LABEL - value - 0.3)
    notes = [*_seeds(list(seen.values())), *([f"{named} of {len(seen)} are named"] if named < len(seen) else [])]
    ink.heading(figure, title, "\n".join([" · ".join(notes), common]).strip())
    right = 0.3 + value + max(wording.width(text, wording.LABEL) for text in texts)
    place = ink.grid(figure, right=right)[0]
    axes = ink.plot(figure, place)
    heading = metric[:1].upper() + metric[1:] + (" (log scale)" if log else "")
    axes.set_title(wording.shortened(heading, ink.size(axes)[0], wording.TITLE))
    looks = _looks(list(seen))
    ends = [_curve(axes, seeds, look, smoothing) for seeds, look in zip(seen.values(), looks, strict=True)]
    ink.mark_unseen(axes, [seed for seeds in given.values() for seed in seeds], np.inf, log=log)
    ink.step_axis(axes)
    axes.set_xlabel(across)
    (ink.log_numbers if log else ink.plain_numbers)(axes)
    labels = [
        ink.EndLabel(end, f"{text} {wording.number(end)}", color)
        for end, text, (_, color) in zip(ends, texts, looks, strict=False)
    ]
    ink.end_labels(axes, labels)
    return figure


@style.house_style
def parameters(parts: Mapping[str, int], *, title: str = "Parameters") -> Figure:
    """How many parameters each part of a model has, the largest on top.

    Args:
        parts: name of the part to its number of parameters.
        title: at the top.
    """
    total = sum(parts.values())
    if not total:
        return ink.empty(title)
    parts = dict(sorted(parts.items(), key=lambda part: part[1]))
    names, common = wording.told_apart(list(parts), MOST_LABEL - 0.25)
    sizes = list(parts.values())
    figure = ink.new(8, 1.0 + 0.36 * len(parts))
    ink.heading(figure, title, f"{total:,} in all\n{common}".strip())
    shares = [f"{size:,}  ({size / total:.1%})" for size in sizes]
    left, right = (0.3 + max(wording.width(text, wording.LABEL) for text in texts) for texts in (names, shares))
    axes = ink.plot(figure, ink.grid(figure, left=left, right=right, top=0.6, bottom=0.15)[0])
    colors = style.palette()
    axes.barh(range(len(names)), sizes, height=0.62, color=colors.lines[0], alpha=0.85)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=colors.ink)
    for place, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        axes.annotate(
            share, (size, place), (6, 0), textcoords="offset points",
            va="center", color=colors.muted, fontsize=wording.LABEL,
        )  # fmt: skip
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(NullLocator())
    axes.margins(x=0, y=0.02)
    return figure


def _seeds(curves: Sequence[Sequence[Series]]) -> list[str]:
    """What the lines are, and where they are not what they seem."""

    def some(amount: int) -> str:
        return "" if amount == len(curves) else f"{amount} of {len(curves)}: "

    amounts = [len(together(seeds)[1]) for seeds in curves]
    least, most = min(amounts), max(amounts)
    seeds = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    notes = [f"mean of {seeds}"] if most > 1 else []
    notes += ["band: ± 1 standard deviation"] if most >= BAND_FROM else []
    alone = sum(amount < len(seeds) for amount, seeds in zip(amounts, curves, strict=True))
    short = sum(_ends_early(seeds) for seeds in curves) - alone
    doubts = [f"{some(alone)}no steps common to all seeds: the longest alone"] if alone else []
    doubts += [f"{some(short)}the mean ends where a seed ends"] if short else []
    return [text for text in (", ".join(notes), *doubts) if text]


def _ends_early(seeds: Sequence[Series]) -> bool:
    """Whether the mean over seeds ends before the last of them."""
    return bool(together(seeds)[0][-1] < max(steps[-1] for steps, _ in seeds)) or len(together(seeds)[1]) < len(seeds)


def _looks(labels: Sequence[str]) -> list[tuple[Stroke, str]]:
    colors = page.colors(labels)
    return [(STROKES[place // SAFE % len(STROKES)], colors[label]) for place, label in enumerate(labels)]


def _curve(axes: Axes, seeds: Sequence[Series], look: tuple[Stroke, str], smoothing: float) -> float:
    """Draw the seeds of one label; the value at the end of its line."""
    stroke, color = look
    seeds = [(steps, smooth(values, int(smoothing * values.size))) for steps, values in seeds]
    steps, values = together(seeds)
    mean = values.mean(0)
    if len(values) >= BAND_FROM:
        spread = values.std(0, ddof=1)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.18, linewidth=0, zorder=2)
    if len(seeds) > 1 and (len(values) < BAND_FROM or _ends_early(seeds)):
        for seed in seeds:
            axes.plot(*thin(seed), color=color, linewidth=0.7, alpha=0.45, zorder=2)
    marker = "o" if steps.size <= 20 else ""
    axes.plot(*thin((steps, mean)), color=color, linestyle=stroke, marker=marker, markersize=3.5, zorder=3)
    return float(mean[-1])
