"""The colours of the house styles: names of colours, and matplotlib's colour maps made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


@dataclass(frozen=True)
class Palette:
    """The colours of a style, after those of Okabe and Ito (Color Universal Design, 2008).

    Attributes:
        ground: behind everything; a figure's style is known by it.
        ink, muted, faint: texts; secondary texts and axes; grid lines.
        alert: what went wrong.
        lines: colours of lines, the most important first; the first four can be told apart with any colour vision.
        ramp: from nothing to much, for heat maps.
        wheel: from nothing once around and back, for cyclic quantities.
    """

    ground: str
    ink: str
    muted: str
    faint: str
    alert: str
    lines: tuple[str, ...]
    ramp: tuple[str, ...]
    wheel: tuple[str, ...]

    def sequential(self) -> Colormap:
        """Colour map for amounts; what is not a number keeps the ground's colour."""
        return _colormap("amount", self.ramp, self.ground)

    def diverging(self) -> Colormap:
        """Colour map for amounts with a sign, the ground's colour in the middle; no number looks like an axis."""
        return _colormap("sign", (self.lines[1], self.ground, self.lines[0]), self.faint)

    def cyclic(self) -> Colormap:
        """Colour map for quantities that come around, such as phases: both ends look the same."""
        return _colormap("cycle", self.wheel, self.ground)


DARK = Palette(
    ground="#10151d",
    ink="#e8ecf2",
    muted="#93a0b0",
    faint="#232c38",
    alert="#ff7a59",
    lines=("#5bc0f8", "#f2ac3c", "#2fb57c", "#dc8fbb", "#f0e05a", "#e8693a", "#a7b4ff"),
    ramp=("#141c27", "#17456b", "#2c86bd", "#7fcdf5", "#f3fbff"),
    wheel=("#1b2a41", "#2a78b0", "#9bd8f5", "#f6ead2", "#f2ac3c", "#9a4b2c", "#1b2a41"),
)
LIGHT = Palette(
    ground="#fffffe",
    ink="#1a212b",
    muted="#5d6876",
    faint="#e6e9ee",
    alert="#c2410c",
    lines=("#0072b2", "#d97706", "#009e73", "#b3568f", "#8a7a00", "#c2410c", "#5563c1"),
    ramp=("#f6f9fc", "#bcd9ee", "#5fa8d3", "#1f6ea8", "#0a2f52"),
    wheel=("#16324f", "#2f7fb8", "#a9d8ee", "#fbf4e4", "#efa53a", "#a4532d", "#16324f"),
)


def _colormap(name: str, colors: tuple[str, ...], bad: str) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap  # Takes long, and a page needs only the names of colours.

    return LinearSegmentedColormap.from_list(name, colors).with_extremes(bad=bad)
