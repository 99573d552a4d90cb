"""Heat maps and the colour scales beside them, as few artists as it takes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from spectral_mlflow.plots import ink, style, wording
from spectral_mlflow.plots.series import Array

Extent = tuple[float, float, float, float]
Limits = tuple[float, float]

SCALE = 0.1  # Width of a colour scale in inches, and its distance from the axes.
ENDS = 0.25  # Inches that the meaning of an end takes from the height of a scale.


def heat(axes: Axes, values: Array, colors: Colormap, limits: Limits, extent: Extent) -> AxesImage:
    """Draw values (rows, columns) as colours, the first row on top.

    Args:
        axes: loses its grid and its lower edge.
        values: NaN where there is nothing.
        colors: from the lower to the upper limit.
        limits: of the values.
        extent: left, right, bottom and top in the units of the axes.
    """
    low, high = limits
    image = axes.imshow(values, aspect="auto", cmap=colors, extent=extent, interpolation="nearest", vmin=low, vmax=high)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return image


def waves_down(axes: Axes, count: int) -> None:
    """A y axis with so many waves, the first on top."""
    axes.set_ylabel("wave")
    ink.whole_numbers(axes.yaxis, count)


def color_scale(axes: Axes, colors: Colormap, label: str, ends: tuple[str, str]) -> None:
    """A strip of the colours right of the axes, what it shows, and what its two ends mean.

    To be called last: the limits of the axes must stand.
    """
    inch = 1 / ink.size(axes)[0]
    left, right = 1 + SCALE * inch, 1 + 2 * SCALE * inch
    text = right + 0.06 * inch
    limits = axes.get_xlim(), axes.get_ylim()
    strip: ArrayLike = [[step / 127] for step in range(128)]
    axes.imshow(
        strip, cmap=colors, origin="lower", aspect="auto", extent=(left, right, 0, 1), transform=axes.transAxes,
        clip_on=False, interpolation="nearest",
    )  # fmt: skip
    axes.set(xlim=limits[0], ylim=limits[1])
    muted = style.palette().muted
    for height, end, va in ((0, ends[0], "bottom"), (1, ends[1], "top")):
        axes.text(text, height, end, transform=axes.transAxes, va=va, color=muted, fontsize=8.5)
    low = ink.size(axes)[1] < wording.width(label, 9) + 2 * ENDS
    beside = (max(wording.width(end, 8.5) for end in ends) + 0.06) * inch if low else 0.0
    axes.text(text + beside, 0.5, label, transform=axes.transAxes, va="center", rotation=90, color=muted)
