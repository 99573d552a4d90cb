"""Effects side by side: differences with their intervals, the line of no difference, and what counts as equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from spectral_mlflow.plots import ink, page, style, wording

ROW = 0.22  # Inches.
LABELS = 2.0  # Inches for labels at most.


class Effect(NamedTuple):
    """A difference between two means.

    Attributes:
        label: what is compared.
        mean: the difference; not finite where it is not known.
        low, high: its interval; None where there is none, as with one seed.
    """

    label: str
    mean: float
    low: float | None = None
    high: float | None = None


@style.house_style
def effects(
    found: Sequence[Effect],
    *,
    margin: float | None = None,
    unit: str = "nats per token",
    against: str = "none",
    lower_is: str = "better",
) -> Figure:
    """A row for each difference: its mean, its interval, both as numbers, and where it lies to zero.

    Filled dots have an interval on one side of zero, hollow ones do not; a cross has no interval.

    Args:
        found: the differences, drawn from top to bottom.
        margin: differences smaller than this count as none, drawn as a band; None: no band.
        unit: of the differences.
        against: what was subtracted.
        lower_is: what the left side means; empty: neither side is better.
    """
    known = [effect for effect in found if np.isfinite(effect.mean)]
    if not known:
        return ink.empty("Effects")
    figure = ink.new(page.WIDTH, 0.95 + ROW * len(known))
    texts = [_numbers(effect) for effect in known]
    labels, _ = wording.told_apart([effect.label for effect in known], LABELS)
    left = 0.2 + max(wording.width(label, wording.LABEL) for label in labels)
    right = 0.2 + max(wording.width(text, 8) for text in texts)
    axes = ink.plot(figure, ink.grid(figure, left=left, right=right, top=0.4, bottom=0.5)[0])
    _ground(axes, margin, len(known))
    for row, (effect, text) in enumerate(zip(known, texts, strict=True)):
        _row(axes, row, effect, text)
    axes.set_yticks(range(len(known)), labels)
    axes.tick_params(axis="y", labelcolor=style.palette().ink)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_xlim(_limits(known, margin))
    axes.xaxis.set_major_formatter(ink.Numbers())
    axes.xaxis.set_major_locator(MaxNLocator(ink.TICKS, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(f"difference to {against} ({unit})" + (f", lower is {lower_is}" if lower_is else ""))
    _legend(figure, margin, known)
    return figure


def _numbers(effect: Effect) -> str:
    def signed(value: float) -> str:
        return f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")

    if effect.low is None or effect.high is None:
        return f"{signed(effect.mean)} (no interval)"
    return f"{signed(effect.mean)} [{signed(effect.low)}, {signed(effect.high)}]"


def _ground(axes: Axes, margin: float | None, rows: int) -> None:
    colors = style.palette()
    if margin is not None:
        axes.axvspan(-margin, margin, color=colors.lines[2], alpha=0.16, linewidth=0, zorder=0)
    axes.axvline(0, color=colors.ink, linewidth=0.9, zorder=1.5)
    axes.hlines(np.arange(rows - 1) + 0.5, 0, 1, color=colors.faint, linewidth=0.6,
                transform=axes.get_yaxis_transform(), zorder=0.5)  # fmt: skip


def _row(axes: Axes, row: int, effect: Effect, text: str) -> None:
    colors = style.palette()
    color = colors.lines[0]
    if effect.low is None or effect.high is None:
        axes.plot([effect.mean], [row], "x", color=color, markersize=5.5, zorder=4)
    else:
        sure = effect.low > 0 or effect.high < 0
        axes.plot([effect.low, effect.high], [row, row], color=color, linewidth=1.6, zorder=3)
        axes.plot([effect.mean], [row], "o", color=color, markersize=5.5, zorder=4,
                  markerfacecolor=color if sure else colors.ground)  # fmt: skip
    axes.annotate(text, (1, row), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                  fontsize=8, color=colors.muted)  # fmt: skip


def _limits(known: Sequence[Effect], margin: float | None) -> tuple[float, float]:
    ends = [end for effect in known for end in (effect.mean, effect.low, effect.high) if end is not None]
    ends = [*(end for end in ends if np.isfinite(end)), 0.0, margin or 0.0, -(margin or 0.0)]
    room = 0.04 * (max(ends) - min(ends) or 1.0)
    return min(ends) - room, max(ends) + room


def _legend(figure: Figure, margin: float | None, known: Sequence[Effect]) -> None:
    """Above the axes, what is in the picture."""
    colors = style.palette()
    look: dict[str, Any] = {"color": colors.lines[0], "markersize": 5.5}
    bounds = [(effect.low, effect.high) for effect in known]
    sure = [low > 0 or high < 0 for low, high in bounds if low is not None and high is not None]
    handles: list[Artist] = []
    if any(sure):
        handles.append(Line2D([], [], marker="o", label="interval without 0", **look))
    if not all(sure):
        handles.append(Line2D([], [], marker="o", markerfacecolor=colors.ground, label="interval with 0", **look))
    if len(sure) < len(known):
        handles.append(Line2D([], [], marker="x", linestyle="none", label="one seed", **look))
    if margin is not None:
        handles.append(Patch(color=colors.lines[2], alpha=0.16, label=f"within ± {wording.number(margin)}: equivalent"))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.01, 1), ncols=4, fontsize=8, handlelength=1.6)
