"""How a training went: the loss alone, and a panel of everything that was measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, style, wording
from spectral_mlflow.plots.series import Series, drawable, finite, series, smooth, thin

SMOOTHING = 50  # A smoothed line averages over this part of its points, to either side.

Scale = Literal["linear", "from zero", "log"]


class Panel(NamedTuple):
    """One plot of the panel: its title with the unit, the metrics in it with their labels, and its scale."""

    title: str
    metrics: Mapping[str, str]
    scale: Scale = "linear"


PANELS = (
    Panel("Loss", {"loss": "training", "val_loss": "validation"}),
    Panel("Perplexity (log scale)", {"perplexity": "training", "val_perplexity": "validation"}, "log"),
    Panel("Learning rate", {"learning_rate": "schedule"}, "from zero"),
    Panel("Gradient norm (L2, log scale)", {"grad/norm": "norm"}, "log"),
    Panel("Throughput (tokens per second)", {"tokens_per_sec": "speed"}, "from zero"),
    Panel("Coherence loss (QFE)", {"coherence_loss": "coherence"}),
)
ALIASES = {"lr": "learning_rate", "grad_norm": "grad/norm"}
SILENT = (  # Say nothing as a curve, or are in other plots.
    *("step", "epoch", "objective", "best_val_loss", "val_bits_per_char", "gpu_memory_mb", "wave_ratio"),
    *("flops_per_token", "flops_per_second", "matmul_flops_per_second", "flops_utilisation"),
)
RATIO = Panel("Wave ratio r (share of the wave in the embedding)", {"wave_ratio": "ratio"})
HEADS = Panel(
    "Temperature τ of the attention heads (higher: sharper)",
    {"wave/temperature": "mean", "wave/temperature_max": "highest", "wave/temperature_min": "lowest"},
)
MOST_PANELS = 13  # Of a training; nobody reads more, and the journal has them all.
POINTWISE = ("val_loss", "val_perplexity")  # Measured now and then: every point is shown.
EXACT = ("learning_rate", *RATIO.metrics, *HEADS.metrics)  # Without noise: nothing to smooth.


@style.house_style
def loss_curve(steps: ArrayLike, losses: ArrayLike, *, loss: str = "Loss") -> Figure:
    """The training loss, thin, and smoothed.

    Args:
        steps: (n,), at which the losses were measured.
        losses: (n,); what cannot be drawn is marked at the upper edge.
        loss: what the losses are, with their unit.

    Raises:
        UserError: the lengths differ.
    """
    points = series(steps, losses)
    if not finite(points)[0].size:
        return ink.empty("Training loss", "no finite values yet" if points[0].size else "no data yet")
    figure = ink.new(8, 4)
    lowest = wording.number(finite(points)[1].min())
    ink.heading(figure, "Training loss", f"{_last_step(points)} · lowest {lowest}")
    panel = Panel(loss, {"loss": "loss"})
    axes = ink.plot(figure, ink.grid(figure)[0])
    _draw(axes, panel, {"loss": points})
    axes.set_xlabel("step")
    return figure


@style.house_style
def training_dynamics(metrics: Mapping[str, tuple[ArrayLike, ArrayLike]], *, loss: str = "Loss") -> Figure:
    """A panel of the metrics that exist: loss, perplexity, learning rate, gradient norm, speed and the like.

    Args:
        metrics: name, as in the journal, to steps (n,) and values (n,). A name that is not known gets a plot
            of its own, unless it is one of a group (`system/rss_mb`), never changes, or says nothing as a curve
            (`epoch`).
        loss: what the losses are, with their unit.

    Raises:
        UserError: a metric whose lengths differ.
    """
    metrics = {ALIASES.get(name, name): points for name, points in metrics.items()}
    first = PANELS[0]._replace(title=loss)
    panels = [(panel, known) for panel in (first, *PANELS[1:], *_unknown(metrics)) if (known := _known(panel, metrics))]
    if not panels:
        return ink.empty("Training dynamics")
    left_out = len(panels) - MOST_PANELS
    panels = panels[:MOST_PANELS]
    others = panels[1:]
    rows = -(-len(others) // 2)
    figure = ink.new(10, 3.6 + 2.1 * rows)
    longest = max((points for _, known in panels for points in known.values()), key=lambda points: points[0][-1])
    more = f" · {left_out} more metrics in the journal" if left_out > 0 else ""
    ink.heading(figure, "Training dynamics", _last_step(longest) + more)
    cells = ink.grid(figure, [1.6] + [1] * rows, [1, 1])
    grid = cells[0].get_gridspec()
    places = [grid[0, :], *cells[2:]][: len(panels)]
    if len(others) % 2:
        places[-1] = grid[rows, :]
    for place, (panel, known) in zip(places, panels, strict=True):
        axes = ink.plot(figure, place)
        _draw(axes, panel, known)
        axes.set_xlabel("step" if place.is_last_row() else "")
    return figure


@style.house_style
def wave_course(metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """How the share of the wave in the embedding and the temperature of the attention heads went.

    Args:
        metrics: name to steps (n,) and values (n,). Drawn are `wave_ratio` and `wave/temperature`, the mean over all
            heads, with `wave/temperature_min` and `wave/temperature_max`, as far as they are there.

    Raises:
        UserError: a metric whose lengths differ.
    """
    panels = [(panel, known) for panel in (RATIO, HEADS) if (known := _known(panel, metrics))]
    if not panels:
        return ink.empty("Course of the waves")
    figure, colors = ink.new(8, 1.0 + 2.2 * len(panels), printed=0.7 + 1.45 * len(panels)), style.palette()
    longest = max((points for _, known in panels for points in known.values()), key=lambda points: points[0][-1])
    ink.heading(figure, "Course of the waves", _last_step(longest))
    for place, (panel, known) in zip(ink.grid(figure, [1] * len(panels)), panels, strict=True):
        axes = ink.plot(figure, place)
        if {"wave/temperature_min", "wave/temperature_max"} <= set(known):
            _band(axes, finite(known["wave/temperature_min"]), finite(known["wave/temperature_max"]))
        _draw(axes, panel, known, (colors.lines[0], colors.muted, colors.muted))
    axes.set_xlabel("step")
    return figure


def _band(axes: Axes, low: Series, high: Series) -> None:
    """Fill what lies between two series, where both have values."""
    steps = np.intersect1d(low[0], high[0])
    lower, upper = (np.interp(steps, *points) for points in (low, high))
    axes.fill_between(steps, lower, upper, color=style.palette().lines[0], alpha=0.14, linewidth=0, zorder=1)


def _unknown(metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> list[Panel]:
    """Plots of what has none, as far as it changes: a constant says nothing as a curve."""
    known = {name for panel in PANELS for name in panel.metrics}.union(SILENT)
    others = {name: points for name, points in metrics.items() if name not in known and "/" not in name}
    changing = [name for name, points in others.items() if np.unique(finite(series(*points))[1]).size > 1]
    return [Panel(name, {name: name}) for name in changing]


def _known(panel: Panel, metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> dict[str, Series]:
    """The metrics of a panel of which there is something to draw."""
    known = {name: series(*metrics.get(name, ((), ()))) for name in panel.metrics}
    return {name: points for name, points in known.items() if drawable(points, log=panel.scale == "log")[0].size}


def _last_step(points: Series) -> str:
    return f"step {points[0][-1]:,.0f}"


def _draw(axes: Axes, panel: Panel, known: Mapping[str, Series], colors: Sequence[str] = ()) -> None:
    log = panel.scale == "log"
    axes.set_title(wording.shortened(panel.title, ink.size(axes)[0], wording.TITLE))
    drawn = {name: drawable(points, log=log) for name, points in known.items()}
    limits = _limits(drawn.values(), panel.scale)
    labels = []
    for color, (name, points) in zip(colors or style.palette().lines, drawn.items(), strict=False):
        end = _line(axes, name, points, color, limits[1], log=log)
        text = f"{panel.metrics[name]}\n{wording.number(end)}" if len(panel.metrics) > 1 else wording.number(end)
        labels.append(ink.EndLabel(end, text, color))
    ink.mark_unseen(axes, known.values(), limits[1], log=log)
    ink.step_axis(axes)
    if log:
        ink.log_numbers(axes)
    else:
        axes.set_ylim(*(limit if np.isfinite(limit) else None for limit in limits))
        ink.plain_numbers(axes)
    ink.end_labels(axes, labels)


def _line(axes: Axes, name: str, points: Series, color: str, limit: float, *, log: bool) -> float:
    """Draw one metric and return the value at the end of its line."""
    reach = 0 if name in POINTWISE + EXACT else points[0].size // SMOOTHING
    if reach:
        axes.plot(*thin(points), color=color, linewidth=0.7, alpha=0.38, zorder=2)
        points = _smoothed(points, reach, limit, log=log)
    few = points[0].size <= (60 if name in POINTWISE else 20)
    axes.plot(*thin(points), color=color, marker="o" if few else "", markersize=4, zorder=3)
    return float(points[1][-1])


def _limits(drawn: Collection[Series], scale: Scale) -> tuple[float, float]:
    """Lower and upper limit of the y axis, infinite where all may be seen.

    A few spikes far above everything else do not get to flatten the rest, nor does a steep beginning.
    """
    values = np.concatenate([points[1] for points in drawn])
    low, usual, high = np.quantile(values, [0, 0.995, 1])
    spread = usual - low
    flat = scale != "log" and high - usual > 3 * spread > 0
    zero = scale == "from zero" and low >= 0 < high
    lower = 0.0 if zero else low - 0.05 * spread if flat else -np.inf
    return lower, usual + 0.3 * spread if flat else np.inf


def _smoothed(points: Series, reach: int, limit: float, *, log: bool) -> Series:
    """The trend of what is below the limit; on a logarithmic scale the mean is a geometric one."""
    steps, values = points[0][points[1] <= limit], points[1][points[1] <= limit]
    return steps, np.exp(smooth(np.log(values), reach)) if log else smooth(values, reach)
