"""Figures to play with, as parts of an HTML page: twins of those in print, drawn by Plotly.

Plotly is optional (``pip install 'spectral-mlflow[paper]'``). Nothing here asks the network: a page carries the library
once (`library`), and each figure as its own data (`div`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import evolution, packet, page
from spectral_mlflow.plots.palette import LIGHT
from spectral_mlflow.plots.series import Array, array, finite, in_order, series, together
from spectral_mlflow.plots.surface import Surface, limits

Figure = Any  # Of Plotly, which has no types.

POSITIONS = 48
TURNS = 21  # Places of a slider.
HEIGHT = 420  # Pixels.


def learning_curves(
    curves: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]], *, metric: str = "validation loss (nats per token)"
) -> Figure:
    """The mean of each label over its seeds, with a band of one standard deviation.

    Args:
        curves: label to its seeds, each a pair of steps (n,) and values (n,).
        metric: name and unit of the values.

    Raises:
        UserError: Plotly is not installed, or steps and values of different lengths.
    """
    figure = _figure("step", metric)
    colors = page.colors(list(curves))
    for label, seeds in curves.items():
        known = [points for seed in seeds if (points := finite(series(*seed)))[0].size]
        if not known:
            continue
        steps, values = together(known)
        mean = values.mean(0)
        if len(values) > 1:
            spread = values.std(0, ddof=1)
            edge = np.concatenate([mean + spread, (mean - spread)[::-1]])
            figure.add_scatter(x=_list(np.concatenate([steps, steps[::-1]])), y=_list(edge), fill="toself", opacity=0.2,
                               fillcolor=colors[label], line={"width": 0}, hoverinfo="skip", showlegend=False,
                               legendgroup=label)  # fmt: skip
        figure.add_scatter(x=_list(steps), y=_list(mean), name=f"{_escaped(label)} ({len(values)} seeds)", mode="lines",
                           line={"color": colors[label], "width": 2}, legendgroup=label)  # fmt: skip
    return figure


def landscape(surfaces: Mapping[str, Surface]) -> Figure:
    """Losses around the weights of models over their first and second direction, on one scale; to be turned.

    Args:
        surfaces: label to the losses around the weights of its model.

    Raises:
        UserError: Plotly is not installed.
    """
    figure = _figure()
    low, high = limits([surface.losses for surface in surfaces.values()])
    colors = [[place / (len(LIGHT.ramp) - 1), color] for place, color in enumerate(LIGHT.ramp)]
    axis = {"backgroundcolor": LIGHT.ground, "gridcolor": LIGHT.faint}
    for number, (label, surface) in enumerate(surfaces.items()):
        name = "scene" if number == 0 else f"scene{number + 1}"
        share = [number / len(surfaces), (number + 1) / len(surfaces)]
        figure.add_surface(x=_list(surface.across), y=_list(surface.along), z=_list(np.clip(surface.losses, low, high)),
                           scene=name, cmin=low, cmax=high, colorscale=colors, showscale=number == len(surfaces) - 1,
                           name=label, colorbar={"title": {"text": "loss"}, "thickness": 12})  # fmt: skip
        figure.add_annotation(text=f"<b>{_escaped(label)}</b>", x=sum(share) / 2, y=1, xref="paper", yref="paper",
                              showarrow=False)  # fmt: skip
        figure.update_layout({name: {
            "domain": {"x": share, "y": [0, 0.95]}, "xaxis": {**axis, "title": {"text": "first"}},
            "yaxis": {**axis, "title": {"text": "second"}},
            "zaxis": {**axis, "title": {"text": "loss"}, "range": [low, high]},
            "camera": {"eye": {"x": 1.7, "y": -1.7, "z": 1.0}},
        }})  # fmt: skip
    return figure


def wave_packet(
    frequencies: ArrayLike, phases: ArrayLike, amplitudes: ArrayLike, phase_speeds: ArrayLike, *, token: str = ""
) -> Figure:
    """The packet of a token over the positions, with sliders that add to all its frequencies or to all its phases.

    The last slider that was moved decides: each starts from the packet as it is.

    Args:
        frequencies: f (W,), in turns.
        phases: phi (W,), in radians.
        amplitudes: A (W, H).
        phase_speeds: gamma (W,), in radians a position.
        token: what to call it.

    Raises:
        UserError: Plotly is not installed, or shapes that do not go together.
    """
    f, phi, A = array(frequencies, "W"), array(phases, "W"), array(amplitudes, "WH")
    gamma = array(phase_speeds, "W")
    figure = _figure("position p (tokens)", "amplitude before the projection")
    p = packet.fine(POSITIONS)
    shifts = np.linspace(0, 1, TURNS)

    def curves(more: Array, turned: Array) -> Array:
        count = len(shifts)
        waves = packet.single_waves(f + more[:, None], phi + turned[:, None], np.repeat(A[None], count, 0), gamma, p)
        return np.asarray(packet.packets(waves))

    none = np.zeros(TURNS)
    by_frequency, by_phase = curves(shifts, none), curves(none, packet.TURN * shifts)
    colors = LIGHT
    figure.add_scatter(x=_list(p), y=_list(by_phase[0]), name=f"{_escaped(token)} as it is".strip(), mode="lines",
                       line={"color": colors.muted, "dash": "dot", "width": 1.5})  # fmt: skip
    figure.add_scatter(x=_list(p), y=_list(by_phase[0]), name="changed", mode="lines",
                       line={"color": colors.lines[0], "width": 2.5})  # fmt: skip
    most = 1.1 * float(np.nanmax(np.abs([by_frequency, by_phase]))) or 1.0
    figure.update_layout(
        height=HEIGHT + 130, yaxis={"range": [-most, most]},
        sliders=[_slider("frequency + ", " turns", shifts, by_frequency, -0.2),
                 _slider("phase + ", " · 2π", shifts, by_phase, -0.47)],
    )  # fmt: skip
    return figure


def frequency_evolution(steps: ArrayLike, f: ArrayLike) -> Figure:
    """Density of all frequencies modulo 1 over the steps of a training.

    Args:
        steps: (S,), at which the frequencies were taken.
        f: (S, N, W), one frequency for each step, token and wave, in turns.

    Raises:
        UserError: Plotly is not installed, or shapes that do not go together.
    """
    x, values = array(steps, "S"), array(f, "SNW")
    if len(x) != len(values):
        raise UserError(f"plot: given {len(x)} steps for {len(values)} sets of frequencies; allowed: one step a set")
    order = in_order(x)
    x, values = x[order], values[order]
    figure = _figure("step", "f mod 1 (turns)")
    if not np.isfinite(values).any():
        return figure
    arc = evolution.window(values)
    density = evolution.density(values, evolution.BINS, arc)
    places = np.linspace(*arc, evolution.BINS + 1)
    ramp = LIGHT.ramp
    figure.add_heatmap(x=[f"{step:,.0f}" for step in x], y=_list((places[1:] + places[:-1]) / 2), z=_list(density.T),
                       colorscale=[[place / (len(ramp) - 1), color] for place, color in enumerate(ramp)],
                       colorbar={"title": {"text": "density"}, "thickness": 12})  # fmt: skip
    figure.update_xaxes(type="category")
    return figure


def div(figure: Figure, name: str) -> str:
    """A figure as part of an HTML page that has the `library`.

    Args:
        figure: what to show.
        name: of the element, of letters, digits, ``-`` and ``_``.

    Raises:
        ValueError: a name with other characters.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise ValueError(f"an element's name has letters, digits, - and _ only, given {name!r}")
    options = {"displayModeBar": False, "responsive": True}  # Some of the buttons lead to other sites.
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=options))


def library() -> str:
    """The JavaScript that draws the figures, for one script element of a page.

    Raises:
        UserError: Plotly is not installed.
    """
    return str(_plotly("offline").get_plotlyjs())


def _plotly(module: str) -> Any:
    try:
        return import_module(f"plotly.{module}")
    except ImportError:
        raise UserError(
            "interactive figures need plotly, which is not installed; pip install 'spectral-mlflow[paper]'"
        ) from None


def _figure(across: str = "", along: str = "") -> Figure:
    """An empty figure in the house style."""
    figure = _plotly("graph_objects").Figure()
    colors = LIGHT
    axis = {"gridcolor": colors.faint, "linecolor": colors.muted, "zerolinecolor": colors.faint}
    figure.update_layout(
        template="none", height=HEIGHT, font={"family": "system-ui, sans-serif", "size": 13, "color": colors.ink},
        paper_bgcolor=colors.ground, plot_bgcolor=colors.ground, margin={"l": 60, "r": 20, "t": 30, "b": 50},
        legend={"orientation": "h", "y": 1.08}, xaxis={**axis, "title": {"text": across}},
        yaxis={**axis, "title": {"text": along}},
    )  # fmt: skip
    return figure


def _slider(before: str, after: str, shifts: Array, curves: Array, height: float) -> dict[str, Any]:
    """A slider that puts one of the curves in the place of the second."""
    steps = [
        {"method": "restyle", "label": f"{shift:.2f}", "args": [{"y": [_list(curve)]}, [1]]}
        for shift, curve in zip(shifts, curves, strict=True)
    ]
    return {"steps": steps, "y": height, "currentvalue": {"prefix": before, "suffix": after}, "pad": {"t": 20}}


def _list(values: Array) -> list[Any]:
    """Numbers of six digits, None for what is not finite: as plain JSON, which stays small and the same everywhere."""
    rounded = [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.ravel()]
    if values.ndim == 1:
        return rounded
    width = values.shape[1]
    return [rounded[place : place + width] for place in range(0, len(rounded), width)]


def _escaped(text: str) -> str:
    return html.escape(text)
