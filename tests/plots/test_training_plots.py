"""The plots of a training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import style, training

Check = Callable[[Figure], None]

STEPS = np.arange(1, 1001)
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Shrinking pictures takes minutes.
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = [name for panel in (*training.PANELS, training.RATIO, training.HEADS) for name in panel.metrics]


def _loss(steps: np.ndarray) -> np.ndarray:
    return 1.5 + 2.7 * np.exp(-steps / 90) + np.random.default_rng(0).normal(0, 0.05, steps.size)


def _metrics() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    noise = np.random.default_rng(1)
    evaluated = STEPS[99::100]
    return {
        "loss": (STEPS, _loss(STEPS)),
        "val_loss": (evaluated, _loss(evaluated) + 0.1),
        "perplexity": (STEPS, np.exp(_loss(STEPS))),
        "val_perplexity": (evaluated, np.exp(_loss(evaluated) + 0.1)),
        "learning_rate": (STEPS, 1e-3 * np.cos(STEPS / 700)),
        "grad/norm": (STEPS, np.exp(noise.normal(0, 0.3, STEPS.size))),
        "tokens_per_sec": (STEPS, noise.normal(14e3, 500, STEPS.size)),
        "wave_ratio": (STEPS, np.linspace(0.5, 0.4, STEPS.size)),
        "coherence_loss": (STEPS, np.exp(-STEPS / 300)),
    }


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("count", [1, 2, 19, 1000, 20_000])
def test_a_loss_curve_is_readable(count: int, readable: Check) -> None:
    """From one point to thousands no texts overlap and none leaves the figure."""
    steps = np.arange(1, count + 1)
    readable(training.loss_curve(steps, _loss(steps)))


@pytest.mark.usefixtures("both_styles")
def test_the_panel_is_readable(readable: Check) -> None:
    """With any number of metrics no texts overlap and none leaves the figure."""
    everything = _metrics()
    for amount in (1, 3, 5, len(everything)):
        readable(training.training_dynamics(dict(list(everything.items())[:amount])))


def test_the_panel_has_a_plot_for_each_kind_of_metric() -> None:
    """Metrics of one kind share a plot; every other one that is there has its own, bookkeeping has none."""
    own = {"accuracy": (STEPS, STEPS / 1000), "epoch": (STEPS, STEPS), "system/rss_mb": (STEPS, STEPS)}
    figure = training.training_dynamics(_metrics() | own)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [panel.title for panel in training.PANELS] + ["accuracy"]


def test_what_never_changes_has_no_plot() -> None:
    """A metric that is constant, or known once, is no curve; the panel of a run is its five plots."""
    constants = {"flops_per_token": ([1000], [3e5]), "documents": (STEPS, np.ones(STEPS.size)), "flops_per_second": (
        [500, 1000], [1e9, 2e9])}  # fmt: skip
    run = {name: points for name, points in _metrics().items() if name != "coherence_loss"}
    figure = training.training_dynamics(run | constants)
    assert len(figure.axes) == 5


def test_very_many_metrics_are_cut(readable: Check) -> None:
    """Of more metrics than anybody reads the first are drawn, and the figure says how many are left out."""
    figure = training.training_dynamics(_metrics() | {f"metric {n}": (STEPS, STEPS) for n in range(30)})
    readable(figure)
    assert len(figure.axes) == training.MOST_PANELS
    assert "23 more metrics in the journal" in _texts(figure)


COURSE = {
    "wave_ratio": (STEPS, np.linspace(0.5, 0.4, STEPS.size)),
    "wave/temperature": (STEPS[::50], np.linspace(8, 10, 20)),
    "wave/temperature_min": (STEPS[::50], np.linspace(8, 6, 20)),
    "wave/temperature_max": (STEPS[::50], np.linspace(8, 15, 20)),
}


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize(
    ("missing", "plots"), [((), 2), (tuple(COURSE)[:1], 1), (tuple(COURSE)[1:], 1), (tuple(COURSE)[2:3], 2)]
)
def test_the_course_of_the_waves_is_readable(missing: tuple[str, ...], plots: int, readable: Check) -> None:
    """Whichever metrics there are, each plot is drawn from those that exist, and no texts overlap."""
    figure = training.wave_course({name: points for name, points in COURSE.items() if name not in missing})
    readable(figure)
    assert len(figure.axes) == plots


def test_the_band_reaches_from_the_lowest_to_the_highest_head() -> None:
    """The band of the temperatures has the smallest as lower and the largest as upper edge, where both are known."""
    metrics = {"wave/temperature_min": ([1, 2, 3], [4, np.nan, 2]), "wave/temperature_max": ([1, 2, 3], [5, 6, 7])}
    (axes,) = training.wave_course(metrics).axes
    (band,) = axes.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices} == {(1, 4), (1, 5), (3, 2), (3, 7)}


def test_a_course_without_metrics_is_said(readable: Check) -> None:
    """A run without wave parts has an empty course, and lengths that differ are refused."""
    figure = training.wave_course({"loss": (STEPS, STEPS)})
    readable(figure)
    assert "no data yet" in _texts(figure)
    with pytest.raises(UserError, match="2 steps for 1 values"):
        training.wave_course({"wave_ratio": ([1, 2], [0.5])})


def test_validation_is_shown_point_by_point() -> None:
    """The validation loss is drawn as it was measured, at its own steps."""
    metrics = _metrics()
    figure = training.training_dynamics({name: metrics[name] for name in ("loss", "val_loss")})
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in lines] == [list(range(100, 1001, 100))]
    np.testing.assert_array_equal(lines[0].get_ydata(), metrics["val_loss"][1])


def test_the_smoothed_line_follows_the_trend() -> None:
    """Away from the ends the smoothed loss is closer to the true curve than the noise is."""
    figure = training.loss_curve(STEPS, _loss(STEPS))
    raw, smoothed = figure.axes[0].lines[:2]
    true = 1.5 + 2.7 * np.exp(-STEPS / 90)
    error = np.abs(np.asarray(smoothed.get_ydata()) - true)[100:-100].mean()
    assert error < 0.4 * np.abs(np.asarray(raw.get_ydata()) - true)[100:-100].mean()


def test_what_is_not_finite_is_marked(readable: Check) -> None:
    """NaN and infinite losses are counted in words and marked at their steps; the rest is drawn."""
    losses = _loss(STEPS)
    losses[[300, 301]] = np.nan, np.inf
    figure = training.loss_curve(STEPS, losses)
    readable(figure)
    assert "2 not finite" in _texts(figure)
    marks = [line.get_xdata().tolist() for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert marks == [[301, 302]]


def test_what_has_no_logarithm_is_not_called_infinite() -> None:
    """On a logarithmic scale zero and below are counted as such."""
    texts = _texts(training.training_dynamics({"grad/norm": ([1, 2, 3, 4], [1, 0, np.nan, 2])}))
    assert "1 not finite · 1 not above 0" in texts


def test_a_steep_beginning_is_no_alarm() -> None:
    """A long curve that falls into its range is not marked; its first value is said; a later spike is."""
    steps = np.arange(1, 100_001)
    losses = 3.3 + 8.7 * np.exp(-steps / 100)
    assert "off scale" not in _texts(training.loss_curve(steps, losses))
    assert "from 11.91" in _texts(training.loss_curve(steps, losses))
    noisy = losses + np.random.default_rng(0).normal(0, 0.1, steps.size)
    assert "off scale" not in _texts(training.loss_curve(steps, noisy))
    losses[70_000] = 50
    assert "1 off scale" in _texts(training.loss_curve(steps, losses))


def test_many_notes_leave_room_for_the_title(readable: Check) -> None:
    """Notes beside the title of a narrow plot are summed up, long names of metrics are shortened."""
    speed = np.full(300, 1e4) + np.arange(300)
    speed[::3], speed[6:9] = np.nan, 1e9
    norm = np.where(np.arange(300) % 7 == 0, 0, speed)
    steps = np.arange(300)
    metrics = dict.fromkeys(("loss", "tokens_per_sec", "a_long_name_" * 9 + "1", "b" * 200), (steps, speed))
    figure = training.training_dynamics(metrics | {"grad/norm": (steps, norm)})
    readable(figure)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any(title.startswith("a_long") and title.endswith("_1") for title in titles)


def test_the_loss_has_the_name_that_it_is_given() -> None:
    """The loss is called a loss, and what it is by whoever knows."""
    assert _texts(training.loss_curve([1, 2], [3, 2])).splitlines().count("Loss") == 1
    for figure in (
        training.loss_curve([1, 2], [3, 2], loss="Squared error (m²)"),
        training.training_dynamics({"loss": ([1, 2], [3, 2])}, loss="Squared error (m²)"),
    ):
        assert figure.axes[0].get_title(loc="left") == "Squared error (m²)"


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        (np.arange(60), 0.5 + 2e-5 * np.arange(60) / 60),
        (np.arange(1_234_000, 1_234_101), 2 + 1e-6 * np.arange(101)),
        ([1, 2], [2.0, 2.0 + 1e-13]),
    ],
)
def test_ticks_can_be_told_apart(
    steps: np.ndarray, values: np.ndarray, readable: Check, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ticks have as many digits as their distance takes, however small it is beside the values."""
    figure = training.wave_course({"wave_ratio": (steps, values)})
    readable(figure)
    style.save(figure, tmp_path_factory.mktemp("plots") / "a.png")
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        ticks = [label.get_text() for label in axis.get_ticklabels()]
        assert len(set(ticks)) == len(ticks) > 1


def test_marks_are_inside_of_the_axes(readable: Check) -> None:
    """Where nearly nothing is finite, the marks still lie within the axes."""
    figure = training.loss_curve(range(500), [None] * 499 + [2.0])
    readable(figure)
    low, high = figure.axes[0].get_xlim()
    assert low <= 0 <= 498 <= high


def test_a_spike_does_not_flatten_the_curve(readable: Check) -> None:
    """One loss far above all others goes off the scale, and the plot says so."""
    losses = _loss(STEPS)
    losses[500] = 1e6
    figure = training.loss_curve(STEPS, losses)
    readable(figure)
    assert figure.axes[0].get_ylim()[1] < 6
    assert "1 off scale" in _texts(figure)


@pytest.mark.parametrize(("losses", "reason"), [([], "no data yet"), ([float("nan")], "no finite values yet")])
def test_nothing_to_see_is_said(losses: list[float], reason: str, readable: Check) -> None:
    """Without values there is a small figure that says why."""
    figure = training.loss_curve(range(1, len(losses) + 1), losses)
    readable(figure)
    assert reason in _texts(figure)
    assert "no data yet" in _texts(training.training_dynamics({}))
    assert "no data yet" in _texts(training.training_dynamics({"perplexity": ([1], [-1.0])}))


def test_lengths_must_agree() -> None:
    """Steps and values of different lengths are refused."""
    with pytest.raises(UserError, match="2 steps for 1 values"):
        training.loss_curve([1, 2], [1.0])


@settings(max_examples=15, phases=QUICK)
@given(losses=st.lists(FLOATS | st.none(), max_size=80))
def test_any_losses_can_be_drawn(losses: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the values, there is a picture and no warning."""
    path = tmp_path_factory.mktemp("plots") / "loss.png"
    style.save(training.loss_curve(range(len(losses)), losses), path)
    assert path.read_bytes().startswith(b"\x89PNG")


@settings(max_examples=8, phases=QUICK)
@given(
    metrics=st.dictionaries(
        st.sampled_from(NAMES) | st.text(min_size=1, max_size=8), st.lists(FLOATS, max_size=70), max_size=4
    )
)
def test_any_metrics_can_be_drawn(metrics: dict[str, list[float]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the names and values, there is a picture and no warning."""
    path: Path = tmp_path_factory.mktemp("plots") / "dynamics.png"
    known = {name: (range(len(values)), values) for name, values in metrics.items()}
    for draw in (training.training_dynamics, training.wave_course):
        assert style.save(draw(known), path).read_bytes().startswith(b"\x89PNG")
