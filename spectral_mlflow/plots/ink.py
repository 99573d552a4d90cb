"""What several plots draw alike: headings, numbers on axes, labels at the ends of lines, an empty figure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from spectral_mlflow.plots import style
from spectral_mlflow.plots.series import Array, Series

LABEL = 8.5  # Size in points of what labels a line, a bar or a tick.

MOST_LETTERS = 14  # Of a token.
TICKS = 5  # Intervals of an axis at most: ticks take half of the time of a plot.

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "\\r"})


class EndLabel(NamedTuple):
    """A text at the end of a line, at the height of its last value, in its colour."""

    value: float
    text: str
    color: str


def new(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height))


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
    axes.set_title(title)
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


def width(text: str, size: float) -> float:
    """How wide a text is at a size in points, in inches."""
    font = get_font(findfont("DejaVu Sans"))
    font.set_size(size, 72)
    font.set_text(printable(text))
    return float(font.get_width_height()[0] / 64 / 72)


def heading(figure: Figure, title: str, note: str = "") -> None:
    """Title at the top left, a note in a quiet colour at the top right."""
    margin = 0.14 / figure.get_figwidth()
    color, height = style.palette().muted, 1 - 0.13 / figure.get_figheight()
    figure.suptitle(printable(title), x=margin, y=height, ha="left", va="top")
    figure.text(1 - margin, height, printable(note), ha="right", va="top", color=color, fontsize=8.5)


def empty(title: str, reason: str = "no data yet") -> Figure:
    """A small figure that says why there is nothing to see."""
    figure = new(5, 2.4)
    heading(figure, title)
    figure.text(0.5, 0.45, reason, ha="center", va="center", color=style.palette().muted, fontsize=11)
    return figure


def counts(parts: Iterable[tuple[int, str]]) -> str:
    """Amounts with their nouns, multiplied: 1,024 tokens times 1 wave."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{amount:,} {noun}{'' if amount == 1 else 's'}" for amount, noun in parts)


def number(value: float, *_: object) -> str:
    """A number in few characters: 12.5k, 0.003, 4e-6."""
    for unit, letter in _UNITS:
        if unit <= abs(value) < 1e15:
            return f"{value / unit:.4g}{letter}"
    text = f"{value:.4g}"
    mantissa, exponent = text.split("e") if "e" in text else (text, "")
    return (f"{mantissa}e{int(exponent)}" if exponent else text).replace("-", "\N{MINUS SIGN}")


def plain_numbers(axes: Axes) -> None:
    """Let the y axis carry numbers as people write them, without an offset at its end."""
    axes.yaxis.set_major_locator(MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(number))


def log_numbers(axes: Axes) -> None:
    """Logarithmic y axis with plain numbers on it."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(number))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def step_axis(axes: Axes) -> None:
    """Whole numbers along x; a single step gets room around it."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 1, high + 1)
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
    small = max(abs(low), abs(high)) < 1e5
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}" if small else number(step)))


def whole_numbers(axis: Axis, amount: int) -> None:
    """An axis that counts things from 1 on."""
    axis.set_major_locator(FixedLocator(range(1, amount + 1, -(-amount // 8))))
    axis.set_major_formatter(FuncFormatter(number))


def mark_unseen(axes: Axes, known: Iterable[Series], limit: float) -> None:
    """Show at the upper edge where values are NaN, infinite or above the limit, and how many.

    To be called before `step_axis`, which then makes room for the marks too.
    """
    steps, values = (np.concatenate(parts) for parts in zip(*known, strict=True))
    broken = ~np.isfinite(values)
    above = ~broken & (values > limit)
    notes = [f"{count} {what}" for count, what in ((broken.sum(), "not finite"), (above.sum(), "off scale")) if count]
    if not notes:
        return
    color = style.palette().alert
    shown = steps[broken | above]
    shown = shown[:: max(1, shown.size // 200)]
    axes.plot(
        shown, np.ones(shown.size), linestyle="none", marker="|", markersize=9, color=color,
        transform=axes.get_xaxis_transform(), clip_on=False, zorder=4,
    )  # fmt: skip
    axes.set_title(" · ".join(notes), loc="right", color=color, fontsize=8, fontweight="normal")


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
            1.012, height, printable(label.text), transform=axes.transAxes,
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


def token(text: str) -> str:
    """A token as a label: its white space visible, its end left out where it is very long."""
    label = printable(text.translate(_VISIBLE))
    return label if len(label) <= MOST_LETTERS else label[: MOST_LETTERS - 1] + "…"


def printable(text: str) -> str:
    """A text with everything escaped that the font cannot show."""
    known = _letters()
    return "".join(letter if letter == "\n" or ord(letter) in known else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


@functools.cache
def _letters() -> frozenset[int]:
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
