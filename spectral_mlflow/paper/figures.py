"""The figures of the documents: what was measured, and drawings of what the formulas say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_mlflow.paper.facts import Facts
from spectral_mlflow.plots import style
from spectral_mlflow.plots.comparison import learning_curves

FOLDER = "figures"
SMOOTHING = 0.01  # The loss of single batches is too rough to see two curves apart.


class FigureManager:
    """Writes the figures of a document and knows which ones there are.

    Attributes:
        folder: where the figures lie, ``figures/`` beside the documents.
    """

    def __init__(self, output_dir: Path) -> None:
        self.folder = output_dir / FOLDER

    def measured(self, facts: Facts) -> dict[str, str]:
        """Figures made from the store: name to path relative to the documents; only those that have data."""
        runs = ", ".join(run.run_id for run in facts.results)
        drawn: dict[str, str] = {}
        for name, key, smoothing in (("validation", "val_loss", 0.0), ("training", "loss", SMOOTHING)):
            curves = facts.curves(key)
            if curves:
                metric = f"{name} loss (nats per token)"
                figure = learning_curves(curves, metric=metric, smoothing=smoothing)
                drawn[f"{name}_curves"] = self._write(figure, f"{name}_curves", f"{name} loss of the runs {runs}")
        if facts.results:
            drawn["loss_by_run"] = self._write(
                loss_by_run(facts), "loss_by_run", f"best validation loss of the runs {runs}"
            )
        return drawn

    def illustrations(self) -> dict[str, str]:
        """Drawings of the formulas, which hold for any run: name to path relative to the documents."""
        return {draw.__name__: self._write(draw(), draw.__name__, str(draw.__doc__)) for draw in ILLUSTRATIONS}

    def _write(self, figure: Figure, name: str, description: str) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = style.save(figure, self.folder / f"{name}.svg", title=name.replace("_", " "), description=description)
        return f"{FOLDER}/{path.name}"


@style.house_style
def loss_by_run(facts: Facts) -> Figure:
    """Best validation loss of every run, by variant, with the mean of several seeds."""
    figure = Figure(figsize=(6.4, 0.9 + 0.42 * len(facts.variants)), layout="constrained")
    axes = figure.subplots()
    colors = style.palette().lines
    for place, variant in enumerate(facts.variants):
        color = colors[place % len(colors)]
        losses = list(variant.losses.values())
        axes.plot(losses, [place] * len(losses), "o", color=color, alpha=0.75, markersize=5)
        if len(losses) > 1:
            axes.plot([variant.loss.mean] * 2, [place - 0.25, place + 0.25], "-", color=color)
    axes.set_yticks(range(len(facts.variants)), [facts.name(v) for v in facts.variants])
    axes.set_ylim(len(facts.variants) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel("best validation loss (nats per token)")
    axes.grid(axis="x")
    return figure


@style.house_style
def activations() -> Figure:
    """The two activation functions: GELU(x) = x Phi(x), and sin(x) + 0.1 x."""
    figure, axes = _panel("input x", "output")
    x = np.linspace(-8, 8, 400)
    gelu = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    axes.plot(x, gelu, color=style.palette().lines[1], label="GELU (standard)")
    axes.plot(x, np.sin(x) + 0.1 * x, color=style.palette().lines[0], label="sin(x) + 0.1 x (wave)")
    axes.legend()
    return figure


@style.house_style
def wave_packet() -> Figure:
    """One wave of a token: four harmonics with amplitudes 1/h and their sum, over its frequency f."""
    figure, axes = _panel("frequency f (repeats after 1)", "value")
    f = np.linspace(0, 1, 500)
    total = np.zeros_like(f)
    for h in range(1, 5):
        part = (np.sin(2 * np.pi * h * f) + np.cos(2 * np.pi * h * f)) / h
        total += part
        axes.plot(f, part, color=style.palette().lines[h % 7], linewidth=0.9, alpha=0.8, label=f"harmonic {h}")
    axes.plot(f, total, color=style.palette().lines[0], linewidth=2.2, label="sum")
    axes.legend(ncols=2)
    return figure


@style.house_style
def interference() -> Figure:
    """Two waves of equal strength with phases equal, a quarter turn and half a turn apart."""
    figure = Figure(figsize=(6.4, 2.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    x = np.linspace(0, 4 * np.pi, 300)
    for axes, shift, turn in zip(
        panels, (0, math.pi / 2, math.pi), ("0", "a quarter turn", "half a turn"), strict=True
    ):
        first, second = np.sin(x), np.sin(x + shift)
        axes.plot(x, first, color=style.palette().lines[0], linewidth=0.9)
        axes.plot(x, second, color=style.palette().lines[1], linewidth=0.9)
        axes.plot(x, first + second, color=style.palette().ink, linewidth=2)
        axes.set_title(f"{turn}: cos = {round(math.cos(shift))}")
        axes.set_xticks([])
    return figure


ILLUSTRATIONS: tuple[Callable[[], Figure], ...] = (wave_packet, interference, activations)


def _panel(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes
