"""Losses around trained weights, as surfaces and contours, and the paths of trainings in their own planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from spectral_mlflow.plots import ink, page, style, wording
from spectral_mlflow.plots.series import Array
from spectral_mlflow.plots.surface import Descent, Surface, limits

LEVELS = 14
MESH = 26  # Rows and columns of a drawn surface at most: more makes the file large and not the figure better.
HEIGHT = 4.7  # Inches of surfaces with their contours,
SIDE = 2.5  # Inches of a contour plot.
VIEW = (32, -58)  # Elevation and azimuth of surfaces, in degrees.


@style.house_style
def landscape(surfaces: Mapping[str, Surface]) -> Figure:
    """Loss surfaces side by side, in three dimensions and below as contours, on the same levels.

    The weights of each model lie in the middle. Losses above the highest level are cut off, as are those that are not
    finite.

    Args:
        surfaces: label to the losses around the weights of its model.
    """
    if not surfaces:
        return ink.empty("Loss landscape")
    levels = _levels([surface.losses for surface in surfaces.values()])
    count = len(surfaces)
    figure = Figure(figsize=(page.WIDTH, HEIGHT))
    places = ink.grid(figure, widths=[1] * count, left=0.6, right=0.75, top=2.64, bottom=0.45, across=0.4)
    colors = style.palette().sequential()
    for number, (place, (label, surface)) in enumerate(zip(places, surfaces.items(), strict=True)):
        _relief(figure, number, count, label, surface, levels)
        axes = ink.plot(figure, place)
        _contours(axes, surface, levels, colors)
        axes.plot(0, 0, "+", color=style.palette().alert, markersize=8, markeredgewidth=1.6)
        axes.set_xlabel("first direction")
        axes.tick_params(labelleft=number == 0)
    _scale(figure, axes, levels, colors)
    figure.text(0.14 / page.WIDTH, (0.45 + 0.9) / HEIGHT, "second direction", rotation=90, va="center", fontsize=9,
                color=style.palette().muted)  # fmt: skip
    return figure


@style.house_style
def trajectories(descents: Mapping[str, Descent]) -> Figure:
    """The path of each training over the losses in the plane of its own two principal directions.

    Args:
        descents: label to the path of its model.
    """
    if not descents:
        return ink.empty("Paths of the trainings")
    levels = _levels([descent.surface.losses for descent in descents.values()])
    figure = ink.new(page.WIDTH, SIDE + 0.5)
    places = ink.grid(figure, widths=[1] * len(descents), left=0.6, right=0.75, top=0.32, bottom=0.5, across=0.62)
    colors = style.palette().sequential()
    for place, (label, descent) in zip(places, descents.items(), strict=True):
        axes = ink.plot(figure, place, label)
        _contours(axes, descent.surface, levels, colors)
        _path(axes, descent)
        first, second = descent.explained
        axes.set_xlabel(f"first direction ({first:.1%})")
        axes.set_ylabel(f"second direction ({second:.1%})")
    _scale(figure, axes, levels, colors)
    return figure


def _levels(losses: Sequence[Array]) -> Array:
    """Levels that all surfaces share, closer to each other where losses are low."""
    low, high = limits(losses)
    return np.asarray(low + (high - low) * np.linspace(0, 1, LEVELS) ** 1.5)


def _contours(axes: Axes, surface: Surface, levels: Array, colors: Colormap) -> None:
    shown = np.ma.masked_invalid(np.clip(surface.losses, levels[0], levels[-1]))
    grid = surface.across, surface.along, shown
    axes.contourf(*grid, levels=levels, cmap=colors, norm=Normalize(levels[0], levels[-1]))
    axes.contour(*grid, levels=levels[1:-1], colors=[style.palette().ground], linewidths=0.5, alpha=0.8)
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(ink.TICKS))
    axes.yaxis.set_major_locator(MaxNLocator(ink.TICKS))
    axes.xaxis.set_major_formatter(ink.Numbers())
    axes.yaxis.set_major_formatter(ink.Numbers())


def _path(axes: Axes, descent: Descent) -> None:
    colors = style.palette()
    x, y = descent.path.T
    axes.plot(x, y, color=colors.ground, linewidth=3.2, zorder=3)
    axes.plot(x, y, color=colors.alert, linewidth=1.5, marker="o", markersize=3, zorder=4)
    axes.plot(x[-1], y[-1], "*", color=colors.alert, markeredgecolor=colors.ground, markersize=11, zorder=5)
    # The first weights have no negative coordinates: left of them and above the last there is room.
    _name_step(axes, descent, 0, (-7, 0), {"ha": "right", "va": "center"})
    _name_step(axes, descent, -1, (-16, 9), {"ha": "left", "va": "bottom"})


def _name_step(axes: Axes, descent: Descent, place: int, offset: tuple[float, float], where: dict[str, Any]) -> None:
    text = f"step {descent.steps[place]:,}: {wording.number(descent.losses[place], 3)}"
    box = {"facecolor": style.palette().ground, "alpha": 0.8, "edgecolor": "none", "pad": 1.2}
    axes.annotate(text, descent.path[place], offset, textcoords="offset points", fontsize=7.5, zorder=6, bbox=box,
                  **where)  # fmt: skip


def _relief(figure: Figure, number: int, count: int, label: str, surface: Surface, levels: Array) -> None:
    """A surface in three dimensions in the upper half."""
    width = 1 / count
    axes: Any = figure.add_axes((number * width - 0.02, 0.46, width, 0.545), projection="3d")
    axes.computed_zorder = False
    x, y = np.meshgrid(surface.across, surface.along)
    losses = np.clip(surface.losses, levels[0], levels[-1])
    axes.plot_surface(x, y, losses, cmap=style.palette().sequential(), norm=Normalize(levels[0], levels[-1]),
                      rcount=MESH, ccount=MESH, linewidth=0.15, edgecolor=style.palette().ground)  # fmt: skip
    axes.set_zlim(levels[0], levels[-1])
    axes.view_init(*VIEW)
    axes.set_box_aspect((1, 1, 0.72), zoom=0.97)
    _quiet(axes)
    axes.text2D(0.04, 0.93, f"{label}: {wording.number(surface.center)} in the middle", transform=axes.transAxes,
                fontsize=9, fontweight="bold")  # fmt: skip


def _quiet(axes: Any) -> None:
    """Thin walls and few numbers."""
    colors = style.palette()
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color(colors.ground)
        axis.line.set_color(colors.muted)
        low, high = axis.get_view_interval()
        places = MaxNLocator(4).tick_values(low, high)
        axis.set_major_locator(FixedLocator(places[(places > low) & (places < high)]))
        axis.set_major_formatter(ink.Numbers())
        axis._axinfo["grid"].update(color=colors.faint, linewidth=0.6)
        axis.set_tick_params(labelsize=7.5, pad=-2)
    axes.zaxis.set_tick_params(pad=1)


def _scale(figure: Figure, axes: Axes, levels: Array, colors: Colormap) -> None:
    """Which colour is which loss, right of the last axes."""
    place = axes.get_position()
    strip = figure.add_axes((place.x1 + 0.1 / page.WIDTH, place.y0, 0.1 / page.WIDTH, place.height))
    heights = np.linspace(levels[0], levels[-1], 128)[:, None]
    strip.imshow(heights, cmap=colors, origin="lower", aspect="auto", extent=(0, 1, levels[0], levels[-1]))
    strip.yaxis.tick_right()
    strip.yaxis.set_major_locator(MaxNLocator(ink.TICKS))
    strip.yaxis.set_major_formatter(ink.Numbers())
    strip.tick_params(labelsize=8, pad=2)
    strip.set_xticks([])
    strip.grid(visible=False)
    strip.spines["bottom"].set_visible(False)
    strip.set_title("loss", fontsize=8.5, fontweight="normal", pad=4, color=style.palette().muted)
