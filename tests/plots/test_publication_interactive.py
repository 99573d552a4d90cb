"""The interactive twins: what they show, that they ask nobody for anything, and what happens without Plotly."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import interactive
from spectral_mlflow.plots.packet import packets, single_waves
from spectral_mlflow.plots.surface import Surface

AXIS = np.linspace(-1, 1, 3)
LOSSES = np.array([[3.0, 2.0, 3.0], [2.0, 1.0, np.inf], [3.0, 2.0, 3.0]])
F, PHI, A, GAMMA = np.array([0.1, 0.6]), np.array([0.0, 1.0]), np.ones((2, 2)), np.array([0.1, 1.0])
STEPS = np.arange(4.0)

FIGURES: dict[str, Callable[[], Any]] = {
    "learning_curves": lambda: interactive.learning_curves(
        {"<b>wave</b>": [(STEPS, STEPS), (STEPS, STEPS + 2)], "no values": [([], [])]}
    ),
    "landscape": lambda: interactive.landscape({name: Surface(AXIS, AXIS, LOSSES, 1.0, 9) for name in ("a", "b")}),
    "wave_packet": lambda: interactive.wave_packet(F, PHI, A, GAMMA),
    "frequency_evolution": lambda: interactive.frequency_evolution([5, 0], np.array([[[0.2]], [[0.4]]])),
}


@pytest.fixture(autouse=True)
def _plotly() -> None:
    pytest.importorskip("plotly")


@pytest.mark.parametrize("name", FIGURES)
def test_a_part_of_a_page_stands_alone(name: str) -> None:
    """It is the same every time, refers to no other place, and its numbers are plain JSON."""
    part = interactive.div(FIGURES[name](), name)
    assert part == interactive.div(FIGURES[name](), name)
    assert f'id="{name}"' in part
    assert not re.search(r"(src|href)=|https?:", part)
    assert '"bdata"' not in json.dumps(FIGURES[name]().to_plotly_json(), default=str)


def test_the_band_is_that_of_the_seeds() -> None:
    """The line is the mean of the seeds, and the band one standard deviation around it."""
    band, line = FIGURES["learning_curves"]().data
    np.testing.assert_allclose(line.y, STEPS + 1)
    np.testing.assert_allclose(band.y[:4], STEPS + 1 + np.sqrt(2), rtol=1e-5)


def test_what_is_not_finite_has_a_place() -> None:
    """A loss that is not finite is cut off or left out, never written as what JSON does not know."""
    assert "Infinity" not in interactive.div(FIGURES["landscape"](), "x")
    assert "NaN" not in interactive.div(FIGURES["landscape"](), "x")


def test_a_slider_shows_the_packet_that_it_says() -> None:
    """The curve behind a place of the slider is the packet with that much added."""
    figure = FIGURES["wave_packet"]()
    frequency, phase = figure.layout.sliders
    p = np.asarray(figure.data[0].x, dtype=float)
    for slider, f, phi in ((frequency, F + 0.25, PHI), (phase, F, PHI + np.pi / 2)):
        (curve,) = slider.steps[5].args[0]["y"]
        waves = single_waves(f[None], phi[None], A[None], GAMMA, p)
        np.testing.assert_allclose(curve, packets(waves)[0], rtol=1e-4, atol=1e-4)
        assert slider.steps[5].label == "0.25"


def test_steps_come_in_their_order() -> None:
    """The density is drawn from the first step to the last."""
    assert list(FIGURES["frequency_evolution"]().data[0].x) == ["0", "5"]


def test_an_element_has_a_plain_name() -> None:
    """A name that would break out of its attribute is refused."""
    with pytest.raises(ValueError, match="letters, digits"):
        interactive.div(FIGURES["landscape"](), 'x" onload="')


def test_without_plotly_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Plotly is not installed the message says what to install."""
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(UserError, match=r"spectral-mlflow\[paper\]"):
        FIGURES["landscape"]()
