"""How each figure of the documents is drawn from its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spectral_mlflow.analysis.significance import LOSS_MARGIN
from spectral_mlflow.plots import (
    activations,
    architecture,
    attention,
    breakdown,
    comparison,
    convergence,
    effects,
    forward_pass,
    heads,
    interactive,
    landscape,
    page,
    spelling,
    style,
    training,
    two_waves,
    waves,
)

SMOOTHING = 0.01  # The loss of single batches is too rough to see two curves apart.


@style.house_style
def loss_by_run(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Best validation loss of every run, by cell, with the mean of several seeds.

    Args:
        losses: name of a cell to the losses of its seeds, nats per token.
    """
    figure = Figure(figsize=(page.WIDTH, 0.9 + 0.36 * len(losses)), layout="constrained")
    axes = figure.subplots()
    colors = page.colors(list(losses))
    for place, (name, values) in enumerate(losses.items()):
        axes.plot(values, [place] * len(values), "o", color=colors[name], alpha=0.75, markersize=5)
        if len(values) > 1:
            axes.plot([float(np.mean(values))] * 2, [place - 0.25, place + 0.25], "-", color=colors[name])
    axes.set_yticks(range(len(losses)), list(losses))
    axes.set_ylim(len(losses) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel("best validation loss (nats per token)")
    axes.grid(axis="x")
    return figure


@style.house_style
def wave_packet() -> Figure:
    """One wave of a token: four harmonics with amplitudes 1/h and their sum, over its frequency f."""
    figure = Figure(figsize=(page.WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("frequency f (repeats after 1)")
    axes.set_ylabel("value")
    f = np.linspace(0, 1, 500)
    total = np.zeros_like(f)
    lines = style.palette().lines
    for h in range(1, 5):
        part = (np.sin(2 * np.pi * h * f) + np.cos(2 * np.pi * h * f)) / h
        total += part
        axes.plot(f, part, color=lines[h % 7], linewidth=0.9, alpha=0.8, label=f"harmonic {h}")
    axes.plot(f, total, color=lines[0], linewidth=2.2, label="sum")
    axes.legend(ncols=2)
    return figure


def _convergence(data: Any) -> Figure:
    models = {name: [convergence.Curve(*curve) for curve in curves] for name, curves in data["models"].items()}
    return convergence.convergence(models, target=data["target"])


def _effects(data: Any) -> Figure:
    return effects.effects([effects.Effect(*row) for row in data], margin=LOSS_MARGIN, against="the reference")


def _heads(data: Any) -> Figure:
    tokens = next(iter(data.values())).tokens
    return heads.heads({label: passage.attention for label, passage in data.items()}, list(tokens))


def _coherence(data: Any) -> Figure:
    return attention.phase_coherence(
        data.coherence, list(data.labels), layers=data.layers, heads=data.heads, of=tuple(data.of)
    )


def _shown(draw: Callable[..., Figure]) -> Callable[[Any], Figure]:
    """A plot of the tokens that are shown by name."""

    def drawn(data: Any) -> Figure:
        last = data["last"]
        rows = list(last.shown)
        return draw(
            last.frequencies[rows], last.phases[rows], last.amplitudes[rows], last.phase_speeds, list(last.labels)
        )

    return drawn


def _all(draw: Callable[..., Figure], name: str) -> Callable[[Any], Figure]:
    """A plot of all tokens."""
    return lambda data: draw(getattr(data["last"], name), of=data["last"].vocabulary)


FIGURES: dict[str, Callable[[Any], Figure]] = {
    "validation_curves": lambda data: comparison.learning_curves(data, metric="validation loss (nats per token)"),
    "training_curves": lambda data: comparison.learning_curves(
        data, metric="training loss (nats per token)", smoothing=SMOOTHING
    ),
    "loss_by_run": loss_by_run,
    "convergence": _convergence,
    "architecture": architecture.architecture,
    "parameters": breakdown.parameters,
    "flops": breakdown.flops,
    "effects": _effects,
    "landscape": landscape.landscape,
    "trajectories": landscape.trajectories,
    "heads": _heads,
    "forward_pass": forward_pass.strip,
    "token_vectors": lambda data: spelling.spelling(data["standard"], data["wave"]),
    "frequencies": _all(waves.frequencies, "frequencies"),
    "phases": _all(waves.phases, "phases"),
    "harmonics": _all(waves.harmonics, "amplitudes"),
    "frequency_evolution": lambda data: waves.frequency_evolution(data["steps"], data["f"], of=data["last"].vocabulary),
    "wave_packets": _shown(waves.wave_packets),
    "interference": _shown(waves.interference),
    "phase_coherence": _coherence,
    "wave_course": training.wave_course,
    "wave_packet": lambda _: wave_packet(),
    "two_waves": lambda _: two_waves.strip(),
    "activations": lambda _: activations.activations(),
}

MOVING: dict[str, Callable[[Any], Iterable[Figure]]] = {
    "two_waves": lambda _: two_waves.frames(),
    "forward_pass": forward_pass.frames,
}


def _packet(data: Any) -> Any:
    last = data["last"]
    row = next(iter(last.shown))
    token = str(next(iter(last.labels)))
    return interactive.wave_packet(
        last.frequencies[row], last.phases[row], last.amplitudes[row], last.phase_speeds, token=token
    )


# Interactive twins, for the guide's HTML.
TWINS: dict[str, Callable[[Any], Any]] = {
    "validation_curves": interactive.learning_curves,
    "landscape": interactive.landscape,
    "wave_packets": _packet,
    "frequency_evolution": lambda data: interactive.frequency_evolution(data["steps"], data["f"]),
}
