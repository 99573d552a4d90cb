"""The house style, dark (a run's own plots) and light (paper), and how a figure becomes a file.

Every plot function draws in the style in force (``with dark(): ...``) and in the light one when
there is none. Nothing here or in the plots touches pyplot, and matplotlib's settings are changed
inside of a context only. Texts are never mathematics, so that a ``$`` in a token stays a dollar sign.
"""

from __future__ import annotations

import functools
import os
import threading
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from cycler import cycler
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots.palette import DARK, LIGHT, Palette

DPI = 120
FORMATS = ("png", "svg", "pdf")
PACKING = {"compress_level": 1, "compress_type": zlib.Z_RLE}  # Half the time of the usual, and as few bytes of plots.

_LOCK = threading.RLock()  # Settings of matplotlib are those of all threads: one draws at a time.
_P = ParamSpec("_P")


class Style(dict[Any, Any]):
    """Settings of matplotlib, in force inside of ``with dark():`` or ``with matplotlib.rc_context(dark()):``.

    In the first spelling other threads wait until the context ends.
    """

    def __init__(self, palette: Palette) -> None:
        super().__init__(_settings(palette))
        self._exit = ExitStack()

    def __enter__(self) -> Style:
        with ExitStack() as stack:
            stack.enter_context(_LOCK)
            stack.enter_context(matplotlib.rc_context(self))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._exit.close()


def dark() -> Style:
    """The style of a run's own plots."""
    return Style(DARK)


def light() -> Style:
    """The style of a paper."""
    return Style(LIGHT)


def palette(ground: str | None = None) -> Palette:
    """The colours that go with a ground, by default with the one in force; light ones for an unknown ground."""
    known = to_hex(ground or matplotlib.rcParams["figure.facecolor"])
    return DARK if known == DARK.ground else LIGHT


def ground(figure: Figure) -> str:
    """By what the style of a figure is known."""
    return to_hex(figure.get_facecolor())


def house_style(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Let a plot function draw in the house style in force, else in the light one."""

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with _LOCK, Style(palette()):
            return draw(*args, **kwargs)

    return drawn


def save(
    figure: Figure,
    path: str | Path,
    *,
    title: str | None = None,
    author: str | None = None,
    description: str | None = None,
) -> Path:
    """Write a figure as PNG, SVG or PDF, by the suffix of the path.

    The file is whole or not there: it is written beside its place and moved. No time stamp and no
    random name goes into it, so that the same figure always gives the same bytes.

    Args:
        figure: what to write; nothing of it is changed.
        path: where to; its folder must exist, a file that is there is replaced.
        title: kept in the file, for whoever finds it alone.
        author: kept in the file.
        description: kept in the file, for example the runs that it was made from.

    Returns:
        The path.

    Raises:
        UserError: the suffix is another one.
        OSError: the folder or the disk refuses.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UserError(f"figure {path.name}: given the suffix {path.suffix!r}; allowed: .{', .'.join(FORMATS)}")
    known = {"title": title, "author": author, "description": description}
    fields = {name: text for name, text in known.items() if text is not None}
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with Style(palette(ground(figure))):  # Axes make most of their ticks when they are drawn.
            packing: dict[str, Any] = {"pil_kwargs": PACKING} if kind == "png" else {}
            figure.savefig(beside, format=kind, metadata=_metadata(kind, fields), **packing)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _metadata(kind: str, fields: dict[str, str]) -> dict[str, str | None]:
    """The fields by their names in the format, and None for what would change between two runs."""
    names = {"pdf": {"description": "Subject"}, "svg": {"author": "Creator"}}.get(kind, {})
    changing = {"pdf": "CreationDate", "svg": "Date", "png": "Software"}
    return {changing[kind]: None} | {names.get(name, name.capitalize()): text for name, text in fields.items()}


def _settings(colors: Palette) -> dict[str, Any]:
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": colors.muted,
        "axes.facecolor": colors.ground,
        "axes.formatter.use_mathtext": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": colors.muted,
        "axes.labelsize": 9,
        "axes.linewidth": 0.7,
        "axes.prop_cycle": cycler(color=colors.lines),
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": colors.ink,
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titley": 1.0,  # Where a title stands is not searched for, which would lay out all ticks once more.
        "axes.xmargin": 0.01,
        "figure.constrained_layout.h_pad": 0.1,
        "figure.constrained_layout.hspace": 0.06,
        "figure.constrained_layout.w_pad": 0.12,
        "figure.constrained_layout.wspace": 0.04,
        "figure.dpi": DPI,
        "figure.facecolor": colors.ground,
        "figure.titlesize": 13,
        "figure.titleweight": "bold",
        "font.family": "DejaVu Sans",  # Comes with matplotlib: the same bytes everywhere.
        "font.size": 9,
        "grid.color": colors.faint,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
        "pdf.fonttype": 42,
        "savefig.dpi": DPI,
        "savefig.facecolor": "auto",
        "svg.hashsalt": "spectral_mlflow",
        "text.color": colors.ink,
        "text.hinting": "none",  # A third less time for a text, and its letters keep their shape.
        "text.parse_math": False,
        "xtick.color": colors.muted,
        "xtick.labelsize": 8.5,
        "xtick.major.size": 3,
        "xtick.minor.visible": False,
        "ytick.color": colors.muted,
        "ytick.labelsize": 8.5,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
    }
