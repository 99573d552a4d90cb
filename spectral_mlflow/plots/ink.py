"""What several plots draw alike: headings, numbers on axes, labels at the ends of lines, an empty figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import (
    FixedLocator,
    Formatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from matplotlib.transforms import ScaledTranslation, Transform

from spectral_mlflow.plots import page, style, wording
from spectral_mlflow.plots.series import Array, Series, beginning

FLATTEST = 1e-6  # What a y axis spans at least, as a share of its values: less takes more digits than there is room.
TITLE = 0.14  # Inches of a title that a note does not take,
TITLED = 0.6  # the least margin at the top that has one,
ACROSS = 1.0  # and what is between plots beside each other, in print.
TICKS = 5  # Intervals of an axis at most: ticks take half of the time of a plot.


class EndLabel(NamedTuple):
    """A text at the end of a line, at the height of its last value, in its colour."""

    value: float
    text: str
    color: str


def new(width: float, height: float, *, printed: float | None = None) -> Figure:
    """An empty figure of so many inches; in print not wider than a page.

    Args:
        width: on a screen, and in print as far as the page is that wide.
        height: on a screen; in print, without the room of the title that a figure for screens has.
        printed: height in print, where it is another one.
    """
    widest = page.widest()
    if widest is None:
        return Figure(figsize=(width, height))
    titled = TITLE if width > page.WIDTH else 0
    return Figure(figsize=(min(width, widest), height - titled if printed is None else printed))


def grid(
    figure: Figure,
    heights: Sequence[float] = (1,),
    widths: Sequence[float] = (1,),
    *,
    left: float = 0.72,
    right: float = 0.85,
    top: float = 0.82,
    bottom: float = 0.55,
    across: float = 1.4,
    between: float = 0.75,
) -> list[SubplotSpec]:
    """Places for axes, row by row, by the ratios of their heights and widths; margins and what lies between in inches.

    The margins have room for the texts of the house style. Nothing is measured: a layout that fits itself to the texts
    takes half of the time of a figure, and its axes move from one step of a run to the next.
    """
    width, height = figure.get_size_inches()
    if page.widest():
        top = top - TITLE if top >= TITLED else top
        across = across if len(widths) == 1 else min(across, ACROSS)
    columns, rows = len(widths), len(heights)
    places = figure.add_gridspec(
        rows, columns, height_ratios=heights, width_ratios=widths,
        left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - top / height,
        wspace=across * columns / (width - left - right - across * (columns - 1)),
        hspace=between * rows / (height - top - bottom - between * (rows - 1)),
    )  # fmt: skip
    return [places[row, column] for row in range(rows) for column in range(columns)]


def plot(figure: Figure, place: SubplotSpec, title: str = "") -> Axes:
    """Axes at a place, their labels at fixed distances: where they stand is not searched for."""
    axes, inches = figure.add_subplot(place), figure.dpi_scale_trans
    axes.set_title(wording.wrapped(title, size(axes)[0], wording.TITLE) if title and page.widest() else title)
    below, beside = ScaledTranslation(0, -0.28, inches), ScaledTranslation(-0.44, 0, inches)
    axes.xaxis.set_label_coords(0.5, 0, transform=axes.transAxes + below)
    axes.yaxis.set_label_coords(0, 0.5, transform=axes.transAxes + beside)
    return axes


def shifted(axes: Axes, right: float, up: float) -> Transform:
    """From the units of the axes' data to so many points beside it."""
    return axes.transData + ScaledTranslation(right / 72, up / 72, axes.figure.dpi_scale_trans)


def size(axes: Axes) -> tuple[float, float]:
    """Width and height of axes in inches."""
    (width, height), dpi = axes.bbox.size, axes.figure.dpi
    return float(width / dpi), float(height / dpi)


def heading(figure: Figure, title: str, note: str = "") -> None:
    """Title at the top left, a note in a quiet colour at the top right; in print the note alone."""
    margin = 0.14 / figure.get_figwidth()
    color, height = style.palette().muted, 1 - 0.13 / figure.get_figheight()
    if page.widest():
        figure.text(1 - margin, 1 - 0.05 / figure.get_figheight(), wording.printable(note.replace("\n", " · ")),
                    ha="right", va="top", color=color, fontsize=8)  # fmt: skip
        return
    figure.suptitle(wording.printable(title), x=margin, y=height, ha="left", va="top")
    figure.text(1 - margin, height, wording.printable(note), ha="right", va="top", color=color, fontsize=8.5)


def empty(title: str, reason: str = "no data yet") -> Figure:
    """A small figure that says why there is nothing to see."""
    figure = new(5, 2.4)
    heading(figure, title)
    figure.text(0.5, 0.45, reason, ha="center", va="center", color=style.palette().muted, fontsize=11)
    return figure


class Numbers(Formatter):
    """Numbers at ticks, with as many digits as their distance takes."""

    digits = 4

    def __call__(self, value: float, *_: object) -> str:
        """The number at a tick."""
        return wording.number(value, self.digits)

    def set_locs(self, locs: Any) -> None:
        """Take the places of all ticks."""
        places = np.unique(locs)
        if places.size > 1:
            apart, most = np.diff(places).min(), np.abs(places).max()
            self.digits = int(np.clip(np.floor(np.log10(most)) - np.floor(np.log10(apart)) + 2, 4, 15))


def plain_numbers(axes: Axes) -> None:
    """Let the y axis carry numbers as people write them, without an offset at its end."""
    low, high = axes.get_ylim()
    least = FLATTEST * max(abs(low), abs(high))
    if high - low < least:
        axes.set_ylim((low + high - least) / 2, (low + high + least) / 2)
    axes.yaxis.set_major_locator(MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(Numbers())


def log_numbers(axes: Axes) -> None:
    """Logarithmic y axis with plain numbers on it."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.yaxis.set_major_formatter(Numbers())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def step_axis(axes: Axes) -> None:
    """Whole numbers along x; a single step gets room around it."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 1, high + 1)
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
    small = max(abs(low), abs(high)) < 1e5
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}") if small else Numbers())


def whole_numbers(axis: Axis, amount: int) -> None:
    """An axis that counts things from 1 on."""
    axis.set_major_locator(FixedLocator(range(1, amount + 1, -(-amount // 8))))
    axis.set_major_formatter(Numbers())


def mark_unseen(axes: Axes, known: Iterable[Series], limit: float, *, log: bool = False) -> None:
    """Show at the upper edge where values are NaN, infinite or above the limit, and how many.

    On a logarithmic scale zero and below is not seen either. That a curve begins above the limit is no alarm. To be
    called when the title stands and before `step_axis`, which then makes room for the marks too.
    """
    known = list(known)
    steps, values = (np.concatenate(parts) for parts in zip(*known, strict=True))
    early = np.concatenate([beginning(values, limit) for _, values in known])
    broken = ~np.isfinite(values)
    low = ~broken & (values <= 0) & log
    above = ~broken & (values > limit)
    alarms = ((broken, "not finite"), (low, "not above 0"), (above & ~early, "off scale"))
    notes = [f"{where.sum():,} {what}" for where, what in alarms if where.any()]
    first = [f"from {wording.number(values[above & early].max())}"] if (above & early).any() else []
    colors = style.palette()
    title, room = axes.get_title(loc="left"), size(axes)[0] - 0.15
    text = " · ".join(first + notes)
    if notes and wording.width(text, 8) > room - wording.width(title, wording.TITLE):
        text = f"{sum(int(where.sum()) for where, _ in alarms):,} not shown"
    if text:
        axes.set_title(wording.shortened(title, room - wording.width(text, 8), wording.TITLE), loc="left")
    axes.set_title(text, loc="right", color=colors.alert if notes else colors.muted, fontsize=8, fontweight="normal")
    shown = steps[np.any([where for where, _ in alarms], axis=0)]
    shown = shown[:: max(1, shown.size // 200)]
    if notes:
        axes.plot(
            shown, np.ones(shown.size), linestyle="none", marker="|", markersize=9, color=colors.alert,
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=4,
        )  # fmt: skip


def end_labels(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write each label right of the axes at its height, moved apart where they would touch.

    To be called last: limits and scale of the axes must stand.
    """
    shown = sorted((label for label in labels if np.isfinite(label.value)), key=lambda label: label.value)
    if not shown:
        return
    lines = max(label.text.count("\n") + 1 for label in shown)
    gap = lines * 0.165 / size(axes)[1]
    points = np.array([(0.0, label.value) for label in shown])
    wanted = axes.transAxes.inverted().transform(axes.transData.transform(points))[:, 1]
    for label, height in zip(shown, _apart(wanted, gap), strict=True):
        axes.text(
            1.012, height, wording.printable(label.text), transform=axes.transAxes,
            color=label.color, fontsize=8.5, va="center", ha="left",
        )  # fmt: skip


def _apart(heights: Array, gap: float) -> Array:
    """Rising heights moved as little as it takes to keep the gap and stay within 0 and 1.

    Labels that touch become a group around their common middle.
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([float(height)])
        while len(groups) > 1 and _lower_end(groups[-1], gap) < _lower_end(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return np.array([_lower_end(group, gap) + gap * (i + 0.5) for group in groups for i in range(len(group))])


def _lower_end(group: Sequence[float], gap: float) -> float:
    height = gap * len(group)
    return max(0.0, min(1 - height, sum(group) / len(group) - height / 2))
