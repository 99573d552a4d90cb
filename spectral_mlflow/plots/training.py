"""How a training went: the loss alone, and a panel of everything that was measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, style
from spectral_mlflow.plots.series import Series, finite, series, smooth, thin

SMOOTHING = 50  # A smoothed line averages over this part of its points, to either side.

Scale = Literal["linear", "from zero", "log"]


class Panel(NamedTuple):
    """One plot of the panel: its title with the unit, the metrics in it with their labels, and its scale."""

    title: str
    metrics: Mapping[str, str]
    scale: Scale = "linear"


PANELS = (
    Panel("Cross-entropy loss (nats per token)", {"loss": "training", "val_loss": "validation"}),
    Panel("Perplexity (log scale)", {"perplexity": "training", "val_perplexity": "validation"}, "log"),
    Panel("Learning rate", {"learning_rate": "schedule"}, "from zero"),
    Panel("Gradient norm (L2, log scale)", {"grad/norm": "norm"}, "log"),
    Panel("Throughput (tokens per second)", {"tokens_per_sec": "speed"}, "from zero"),
    Panel("Wave ratio r (share of the wave in the embedding)", {"wave_ratio": "ratio"}),
    Panel("Coherence loss (QFE)", {"coherence_loss": "coherence"}),
)
ALIASES = {"lr": "learning_rate", "grad_norm": "grad/norm"}
SILENT = (
    "step",
    "epoch",
    "objective",
    "best_val_loss",
    "val_bits_per_char",
    "gpu_memory_mb",
)  # Say nothing as a curve.
POINTWISE = ("val_loss", "val_perplexity")  # Measured now and then: every point is shown.
EXACT = ("learning_rate", "wave_ratio")  # Without noise: nothing to smooth.


@style.house_style
def loss_curve(steps: ArrayLike, losses: ArrayLike) -> Figure:
    """The training loss, thin, and smoothed.

    Args:
        steps: (n,), at which the losses were measured.
        losses: (n,) in nats per token; what cannot be drawn is marked at the upper edge.

    Raises:
        UserError: the lengths differ.
    """
    points = series(steps, losses)
    if not finite(points)[0].size:
        return ink.empty("Training loss", "no finite values yet" if points[0].size else "no data yet")
    figure = ink.new(8, 4.4)
    lowest = ink.number(finite(points)[1].min())
    ink.heading(figure, "Training loss", f"{_last_step(points)} · lowest {lowest}")
    panel = Panel("Cross-entropy (nats per token)", {"loss": "loss"})
    axes = figure.add_subplot()
    _draw(axes, panel, {"loss": points})
    axes.set_xlabel("step")
    return figure


@style.house_style
def training_dynamics(metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """A panel of the metrics that exist: loss, perplexity, learning rate, gradient norm, speed and the like.

    Args:
        metrics: name, as in the journal, to steps (n,) and values (n,). A name that is not known gets a plot
            of its own, unless it is one of a group (`system/rss_mb`) or says nothing as a curve (`epoch`).

    Raises:
        UserError: a metric whose lengths differ.
    """
    metrics = {ALIASES.get(name, name): points for name, points in metrics.items()}
    panels = [(panel, known) for panel in (*PANELS, *_unknown(metrics)) if (known := _known(panel, metrics))]
    if not panels:
        return ink.empty("Training dynamics")
    others = panels[1:]
    rows = -(-len(others) // 2)
    figure = ink.new(10, 4.1 + 2.2 * rows)
    longest = max((points for _, known in panels for points in known.values()), key=lambda points: points[0][-1])
    ink.heading(figure, "Training dynamics", _last_step(longest))
    grid = figure.add_gridspec(1 + rows, 2, height_ratios=[1.5] + [1] * rows)
    places = [grid[0, :], *(grid[1 + place // 2, place % 2] for place in range(len(others)))]
    if len(others) % 2:
        places[-1] = grid[rows, :]
    for place, (panel, known) in zip(places, panels, strict=True):
        axes = figure.add_subplot(place)
        _draw(axes, panel, known)
        axes.set_xlabel("step" if place.is_last_row() else "")
    return figure


def _unknown(metrics: Iterable[str]) -> list[Panel]:
    known = {name for panel in PANELS for name in panel.metrics}.union(SILENT)
    return [Panel(ink.printable(name), {name: name}) for name in metrics if name not in known and "/" not in name]


def _known(panel: Panel, metrics: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> dict[str, Series]:
    """What of a panel there is to draw; a logarithmic one has no place for zero and below."""
    known = {}
    for name in panel.metrics:
        steps, values = series(*metrics.get(name, ((), ())))
        if panel.scale == "log":
            values = np.where(values <= 0, np.nan, values)
        if np.isfinite(values).any():
            known[name] = steps, values
    return known


def _last_step(points: Series) -> str:
    return f"step {points[0][-1]:,.0f}"


def _draw(axes: Axes, panel: Panel, known: Mapping[str, Series]) -> None:
    axes.set_title(panel.title)
    limits = _limits(known.values(), panel.scale)
    labels = []
    for color, (name, points) in zip(style.palette().lines, known.items(), strict=False):
        end = _line(axes, name, finite(points), color, limits[1], log=panel.scale == "log")
        text = f"{panel.metrics[name]}\n{ink.number(end)}" if len(panel.metrics) > 1 else ink.number(end)
        labels.append(ink.EndLabel(end, text, color))
    ink.mark_unseen(axes, known.values(), limits[1])
    ink.step_axis(axes)
    if panel.scale == "log":
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


def _limits(known: Collection[Series], scale: Scale) -> tuple[float, float]:
    """Lower and upper limit of the y axis, infinite where all may be seen.

    A few spikes far above everything else do not get to flatten the rest.
    """
    values = np.concatenate([finite(points)[1] for points in known])
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
