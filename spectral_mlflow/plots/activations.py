"""The two activation functions of the feed-forward layers, and their derivatives."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from spectral_mlflow.plots import ink, page, style
from spectral_mlflow.plots.series import Array

REACH = 7.0


def gelu(x: Array) -> tuple[Array, Array]:
    """``x Phi(x)`` and its derivative ``Phi(x) + x phi(x)``, with the normal distribution Phi and its density phi."""
    share = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return x * share, share + x * density


def sine(x: Array) -> tuple[Array, Array]:
    """``sin x + 0.1 x`` and its derivative ``cos x + 0.1``."""
    return np.sin(x) + 0.1 * x, np.cos(x) + 0.1


@style.house_style
def activations() -> Figure:
    """GELU and the sine with a slope, and beside them their derivatives."""
    figure = ink.new(page.WIDTH, 2.35)
    places = ink.grid(figure, widths=[1, 1], left=0.45, right=0.15, top=0.42, bottom=0.72, across=0.55)
    x = np.linspace(-REACH, REACH, 281)
    colors = page.colors(["standard", "wave"])
    functions = {"standard": (gelu(x), "GELU (standard)", (0, (5, 2))), "wave": (sine(x), "sin x + 0.1 x (wave)", "-")}
    for derivative, (place, title) in enumerate(zip(places, ("Activation", "Derivative"), strict=True)):
        axes = ink.plot(figure, place, title)
        for model, (values, label, stroke) in functions.items():
            axes.plot(x, values[derivative], color=colors[model], linestyle=stroke, label=label)
        axes.axhline(0, color=style.palette().muted, linewidth=0.7, zorder=1)
        axes.set_ylim((-2.1, 4.2) if not derivative else (-1.15, 1.35))
        axes.set_xlabel("input x")
        ink.plain_numbers(axes)
        axes.xaxis.set_major_locator(MultipleLocator(2))
        axes.xaxis.set_major_formatter(ink.Numbers())
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=8.5)
    return figure
