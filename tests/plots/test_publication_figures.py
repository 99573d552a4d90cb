"""The figures of the paper: they can be read at the width of a page, and show what they were given."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import (
    activations,
    architecture,
    breakdown,
    comparison,
    convergence,
    effects,
    forward_pass,
    heads,
    landscape,
    page,
    spelling,
    two_waves,
    waves,
)
from spectral_mlflow.plots.convergence import Curve
from spectral_mlflow.plots.effects import Effect
from spectral_mlflow.plots.palette import LIGHT
from spectral_mlflow.plots.passage import Passage, Spelling
from spectral_mlflow.plots.surface import Descent, Surface

Check = Callable[[Figure], None]
SMALLEST = 7  # Points of a letter in print.
NAMES = ("standard", "wave")


def _surface(low: float) -> Surface:
    axis = np.linspace(-1, 1, 7)
    losses = low + axis[:, None] ** 2 + 2 * axis**2
    losses[0, 0] = np.inf
    return Surface(axis, axis, losses, low, 100)


def _descent() -> Descent:
    path = np.array([[0.9, 0.5], [0.3, -0.4], [0.0, 0.0]])
    return Descent(_surface(1.5), path, [0, 500, 1000], (0.8, 0.1), np.array([4.2, 2.1, 1.5]))


def _passage(text: str = "To be, or") -> Passage:
    random = np.random.default_rng(len(text))
    size = len(text)
    weights = np.tril(random.random((2, 2, size, size)) + 1e-3)
    chances = np.array([0.5, 0.2, 0.1])
    return Passage(list(text), random.normal(size=(3, size, 16)), weights / weights.sum(-1, keepdims=True),
                   random.normal(size=(2, size, 64)), ["a", "\n", "?"], chances, 2.0)  # fmt: skip


def _spelling(word: str = "cat") -> Spelling:
    random = np.random.default_rng(0)
    shape = len(word), 4
    return Spelling(list(word), random.normal(size=(len(word), 32)), random.random(shape), random.random(shape),
                    random.random((*shape, 2)), np.geomspace(0.1, 3, 4))  # fmt: skip


def _curves(end: float, seeds: int) -> list[Curve]:
    steps = np.arange(0.0, 1001, 100)
    return [Curve(steps, steps * 0.1, end + seed / 50 + 2 * np.exp(-steps / 200)) for seed in range(seeds)]


def _parts(kind: str) -> list[architecture.Part]:
    lines = "16 waves, 4 harmonics a token", "mixed with a lookup of 65, 128"
    return [architecture.Part("embedding", kind, lines, "(B, 128, 128)", 16_625),
            architecture.Part("attention", kind, lines, "(B, 128, 128)", 196_624, 4),
            architecture.Part("feedforward", kind, lines, "(B, 128, 128)", 524_288, 4),
            architecture.Part("norms", "shared", (), "(B, 128, 128)", 1_152),
            architecture.Part("head", "shared", ("linear 128 → 65",), "(B, 128, 65)", 8_320)]  # fmt: skip


COSTS = {name: {"embedding": 16_625, "attention": 196_624, "head": 0, "total": 213_249} for name in NAMES}


def _printed(draw: Callable[[], Figure]) -> Figure:
    with page.printed():
        return draw()


def _packets() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(1)
    return random.random((9, 4)), random.random((9, 4)), random.random((9, 4, 3)), np.geomspace(0.1, 3, 4)


FIGURES: dict[str, Callable[[], Figure]] = {
    "architecture": lambda: architecture.architecture({name: _parts(name) for name in NAMES}),
    "parameters": lambda: breakdown.parameters(COSTS),
    "flops": lambda: breakdown.flops(COSTS),
    "convergence": lambda: convergence.convergence({"standard": _curves(1.6, 5), "wave": _curves(1.7, 2)}, target=1.75),
    "landscape": lambda: landscape.landscape({name: _surface(1.5) for name in NAMES}),
    "trajectories": lambda: landscape.trajectories({name: _descent() for name in NAMES}),
    "activations": activations.activations,
    "heads": lambda: heads.heads({name: _passage().attention for name in NAMES}, _passage().tokens),
    "effects": lambda: effects.effects(
        [Effect("without_feedforward", -0.02, -0.03, -0.01), Effect("qfe", 0.001, -0.01, 0.02), Effect("rgd", 0.03)],
        margin=0.01,
    ),
    "strip": lambda: forward_pass.strip({name: _passage() for name in NAMES}),
    "frame": lambda: list(forward_pass.frames({name: _passage() for name in NAMES}))[3],
    "spelling": lambda: spelling.spelling(_spelling(), _spelling()),
    "two_waves": two_waves.strip,
    "two_waves_frame": lambda: next(two_waves.frames(4)),
    "printed_frequencies": lambda: _printed(lambda: waves.frequencies(_packets()[0])),
    "printed_evolution": lambda: _printed(lambda: waves.frequency_evolution([0, 9], np.stack([_packets()[0]] * 2))),
    "printed_phases": lambda: _printed(lambda: waves.phases(_packets()[1])),
    "printed_harmonics": lambda: _printed(lambda: waves.harmonics(_packets()[2])),
    "printed_packets": lambda: _printed(lambda: waves.wave_packets(*_packets(), list("abcdefghi"))),
    "printed_interference": lambda: _printed(lambda: waves.interference(*_packets(), list("abcdefghi"))),
    "printed_curves": lambda: _printed(
        lambda: comparison.learning_curves({"wave": [(c.steps, c.losses) for c in _curves(1.6, 3)]})
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_the_paper_is_readable(name: str, readable: Check) -> None:
    """It is no wider than a page, no text is smaller than seven points, none overlaps another or leaves the figure."""
    figure = FIGURES[name]()
    assert figure.get_figwidth() <= page.WIDTH + 1e-9
    readable(figure)
    texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and hasattr(artist, "get_text"))
    assert min(text.get_fontsize() for text in texts if text.get_text().strip()) >= SMALLEST


EMPTY: dict[str, Callable[[], Figure]] = {
    "architecture": lambda: architecture.architecture({}),
    "parameters": lambda: breakdown.parameters({}),
    "convergence": lambda: convergence.convergence({"wave": [Curve([], [], [])]}),
    "landscape": lambda: landscape.landscape({}),
    "trajectories": lambda: landscape.trajectories({}),
    "heads": lambda: heads.heads({}, []),
    "effects": lambda: effects.effects([Effect("wave", np.nan)]),
    "strip": lambda: forward_pass.strip({}),
    "spelling": lambda: spelling.spelling(_spelling(""), _spelling("")),
}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_show_is_said(name: str) -> None:
    """Without data there is a small figure that says so."""
    assert "no data yet" in [text.get_text() for text in EMPTY[name]().texts]


def test_surfaces_without_a_finite_loss_are_drawn(readable: Check) -> None:
    """A model that gives no finite loss anywhere leaves its part of the figure empty."""
    axis = np.linspace(-1, 1, 3)
    readable(landscape.landscape({"wave": Surface(axis, axis, np.full((3, 3), np.nan), np.nan, 10)}))


def test_a_target_is_reached_at_a_measurement() -> None:
    """The first place with a value at or below the target, as the tables count it; none where it is never reached."""
    points = np.array([0.0, 10.0, 20.0]), np.array([3.0, 2.0, 1.0])
    assert convergence.first_reached(points, 1.5) == 20
    assert convergence.first_reached(points, 3.5) == 0
    assert convergence.first_reached(points, 0.5) is None


def test_seconds_are_left_out_where_they_are_not_known() -> None:
    """Without seconds the convergence is shown over steps alone."""
    steps = np.arange(5.0)
    assert len(convergence.convergence({"wave": [Curve(steps, [], 3 - steps / 9)]}).axes) == 1


def test_effects_show_where_zero_lies() -> None:
    """An effect is filled where its interval does not hold zero, hollow where it does, a cross without one."""
    found = [Effect("a", -2, -3, -1), Effect("b", 0.5, -1, 2), Effect("c", 1)]
    axes = effects.effects(found).axes[0]
    marks = {line.get_marker(): line for line in axes.lines if line.get_marker() in ("o", "x")}
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == LIGHT.ground for line in dots] == [False, True]
    assert marks["x"].get_xdata().tolist() == [1]


def test_a_derivative_is_that_of_its_function() -> None:
    """Both derivatives of the activations equal central differences."""
    x = np.linspace(-5, 5, 41)
    for function in (activations.gelu, activations.sine):
        difference = (function(x + 1e-5)[0] - function(x - 1e-5)[0]) / 2e-5
        np.testing.assert_allclose(function(x)[1], difference, atol=1e-8)


def test_print_leaves_nothing_behind() -> None:
    """After a figure for print those for the screen are as wide as before."""
    before = waves.phases(_packets()[1]).get_size_inches().tolist()
    _printed(lambda: waves.phases(_packets()[1]))
    assert waves.phases(_packets()[1]).get_size_inches().tolist() == before


def test_models_keep_their_colours() -> None:
    """The two models have one colour each in whatever order and company they come."""
    both, other = page.colors(["standard", "wave"]), page.colors(["x", "wave", "standard"])
    assert both["wave"] == other["wave"]
    assert both["standard"] == other["standard"]
    assert len(set(other.values())) == 3


@pytest.mark.parametrize(
    "draw", [two_waves.strip, lambda: forward_pass.strip({"wave": _passage()})], ids=["waves", "pass"]
)
def test_titles_stay_inside_in_print(draw: Callable[[], Figure]) -> None:
    """Figures for screens lose the room of their title in print; those that were made for print have none to lose."""
    figure = _printed(draw)
    figure.canvas.draw()
    assert max(axes.get_tightbbox().y1 for axes in figure.axes) <= figure.bbox.y1


def test_learning_curves_have_the_colours_of_their_models() -> None:
    """The order of the labels does not decide the colour."""
    curves = {name: [([0, 1, 2], [3.0, 2.0, 1.0])] for name in NAMES}
    axes = comparison.learning_curves(curves).axes[0]
    drawn = [line.get_color() for line in axes.lines if len(line.get_xdata()) == 3]
    assert set(drawn) == set(page.colors(NAMES).values())
    assert drawn[0] == page.colors(NAMES)["standard"]


def test_tokens_of_attention_must_fit() -> None:
    """Another number of tokens than the weights have is refused."""
    with pytest.raises(UserError, match="one label a row"):
        heads.heads({"wave": _passage().attention}, ["a"])
