"""How models converge, by steps and by seconds: means over seeds with their spread, and when each reaches a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.comparison import BAND_FROM
from spectral_mlflow.plots.series import Array, Series, finite, series, together

BEGINNING = 0.08  # Share of a training whose losses say nothing of where it ends.
POINTS = 200  # Of a mean over seeds whose points lie at different seconds.


class Curve(NamedTuple):
    """The history of one seed.

    Attributes:
        steps: (n,), numbers of optimizer steps done.
        seconds: (n,), of training until then; empty where they are not known.
        losses: (n,), in nats per token.
    """

    steps: ArrayLike
    seconds: ArrayLike
    losses: ArrayLike


@style.house_style
def convergence(
    models: Mapping[str, Sequence[Curve]],
    *,
    target: float | None = None,
    metric: str = "validation loss (nats per token)",
) -> Figure:
    """The mean loss of each model over its seeds by steps and by seconds, with a band of one standard deviation.

    A dot marks the first measurement of each seed at the target or below; their mean stands in the legend, for the
    model as long as all of its seeds reach it.

    Args:
        models: label to its seeds.
        target: loss to reach; None: none is marked.
        metric: name and unit of the losses.

    Raises:
        UserError: arrays of different lengths.
    """
    sides = [
        ("steps", {label: [series(curve.steps, curve.losses) for curve in seeds] for label, seeds in models.items()}),
        ("seconds", {label: [series(curve.seconds, curve.losses) for curve in seeds if np.size(curve.seconds)]
                     for label, seeds in models.items()}),
    ]  # fmt: skip
    shown = [(unit, known) for unit, known in map(_drawable, sides) if known]
    if not shown:
        return ink.empty("Convergence")
    figure = ink.new(page.WIDTH, 2.9 + 0.17 * len(models))
    places = ink.grid(figure, widths=[1] * len(shown), left=0.62, right=0.15, top=0.3, across=0.4,
                      bottom=0.92 + 0.17 * len(models))  # fmt: skip
    limits = _limits([seed for _, known in shown for seeds in known.values() for seed in seeds])
    for place, (unit, known) in zip(places, shown, strict=True):
        axes = ink.plot(figure, place)
        _panel(axes, known, target, unit)
        axes.set_ylim(limits)
        ink.plain_numbers(axes)
        if place is not places[0]:
            axes.tick_params(labelleft=False)
    figure.text(0.012, 1 - 0.06 / figure.get_figheight(), metric[:1].upper() + metric[1:], va="top", fontsize=9,
                fontweight="bold")  # fmt: skip
    return figure


def first_reached(points: Series, target: float) -> float | None:
    """The first of rising places (n,) whose value (n,) is the target or below; None where there is none."""
    places, values = finite(points)
    below = np.flatnonzero(values <= target)
    return float(places[below[0]]) if below.size else None


def _drawable(side: tuple[str, Mapping[str, Sequence[Series]]]) -> tuple[str, dict[str, list[Series]]]:
    unit, models = side
    seen = {label: [finite(seed) for seed in seeds] for label, seeds in models.items()}
    seen = {label: [seed for seed in seeds if seed[0].size] for label, seeds in seen.items()}
    return unit, {label: seeds for label, seeds in seen.items() if seeds}


def _limits(seeds: Sequence[Series]) -> tuple[float, float]:
    """Losses to show: those of the beginning, which are far above all others, are cut off."""
    low = min(float(values.min()) for _, values in seeds)
    late = [values[places >= places[0] + BEGINNING * (places[-1] - places[0])] for places, values in seeds]
    high = max(float(values.max()) for values in late)
    room = 0.06 * (high - low or 1e-6)
    return low - room, high + room


def _panel(axes: Axes, models: Mapping[str, Sequence[Series]], target: float | None, unit: str) -> None:
    colors = page.colors(list(models))
    muted = style.palette().muted
    for label, seeds in models.items():
        _curve(axes, seeds, colors[label], _text(label, seeds, target, unit))
    if target is not None:
        axes.axhline(target, color=muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
        axes.annotate(f"target {wording.number(target)}", (1, target), (0, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", va="bottom", fontsize=8, color=muted)  # fmt: skip
        for label, seeds in models.items():
            reached = [place for seed in seeds if (place := first_reached(seed, target)) is not None]
            axes.plot(reached, [target] * len(reached), "o", color=colors[label], markersize=4.5,
                      markeredgecolor=style.palette().ground, markeredgewidth=0.6, zorder=5)  # fmt: skip
    ink.step_axis(axes)
    axes.set_xlabel(unit)
    axes.legend(
        title=None if target is None else f"{unit} to the target, mean of the seeds", title_fontsize=8, fontsize=8,
        alignment="left", loc="upper left", bbox_to_anchor=(-0.02, -0.42 / ink.size(axes)[1]), borderpad=0,
        handlelength=1.4,
    )  # fmt: skip


def _text(label: str, seeds: Sequence[Series], target: float | None, unit: str) -> str:
    """What the legend says of a model."""
    count = f"{label} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})"
    if target is None:
        return count
    reached = [first_reached(seed, target) for seed in seeds]
    known = [place for place in reached if place is not None]
    if len(known) < len(seeds):
        return f"{count}: {len(known)} reach it"
    return f"{count}: {float(np.mean(known)):,.0f} {unit}"


def _curve(axes: Axes, seeds: Sequence[Series], color: str, label: str) -> None:
    places, values = together(seeds, POINTS)
    mean = values.mean(0)
    if len(values) >= BAND_FROM:
        spread: Array = values.std(0, ddof=1)
        axes.fill_between(places, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0, zorder=2)
    elif len(seeds) > 1:
        for seed in seeds:
            axes.plot(*seed, color=color, linewidth=0.7, alpha=0.5, zorder=2)
    axes.plot(places, mean, color=color, zorder=3, label=label)
