"""The plots that compare runs."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from spectral_mlflow.plots import comparison, style

Check = Callable[[Figure], None]
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Shrinking pictures takes minutes.
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
STEPS = np.arange(100, 1001, 100)


def _seeds(count: int, end: float) -> list[tuple[np.ndarray, np.ndarray]]:
    noise = np.random.default_rng(int(end * 100))
    return [(STEPS, end + np.exp(-STEPS / 200) + noise.normal(0, 0.03, STEPS.size)) for _ in range(count)]


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("labels", [1, 4, 12])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_learning_curves_are_readable(labels: int, seeds: int, readable: Check) -> None:
    """For any number of labels and seeds every curve is named at its end and no texts overlap."""
    figure = comparison.learning_curves({f"cell {n}": _seeds(seeds, 1.5 + n / 100) for n in range(labels)})
    readable(figure)
    assert all(f"cell {n} " in _texts(figure) for n in range(labels))


def test_the_band_is_one_standard_deviation() -> None:
    """With three seeds the line is their mean, and the band one standard deviation (n - 1) to either side."""
    seeds = [([1, 2], [1.0, 2.0]), ([1, 2], [2.0, 2.0]), ([1, 2], [3.0, 2.0])]
    axes = comparison.learning_curves({"wave": seeds}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [2, 2])
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert sorted({round(y, 9) for x, y in corners if x == 1}) == [1, 3]
    assert {round(y, 9) for x, y in corners if x == 2} == {2}


def test_seeds_are_compared_where_all_have_values() -> None:
    """The mean covers the steps that every seed covers, interpolated in between."""
    axes = comparison.learning_curves({"wave": [([1, 3, 5], [1, 3, 5]), ([2, 4], [0, 0])]}).axes[0]
    mean = axes.lines[-1]
    assert mean.get_xdata().tolist() == [2, 3, 4]
    np.testing.assert_allclose(mean.get_ydata(), [1, 1.5, 2])


def test_seeds_without_common_steps_have_no_mean(readable: Check) -> None:
    """Where seeds share no steps, the figure says that the longest is drawn, and speaks of no mean."""
    figure = comparison.learning_curves({"wave": [([1, 2], [1, 1]), ([11, 12], [1, 1]), ([21, 22, 23], [1, 1, 1])]})
    readable(figure)
    assert "the longest alone" in _texts(figure)
    assert "mean" not in _texts(figure)


def test_a_mean_that_ends_early_is_said(readable: Check) -> None:
    """A seed that diverges ends the mean: the figure says so, and shows the others, thin."""
    seeds = [(STEPS, np.full(10, 2.0)), (STEPS, [2.0, 2.0, 2.0, *[np.nan] * 7]), (STEPS, np.full(10, 3.0))]
    figure = comparison.learning_curves({"wave": seeds, "standard": _seeds(3, 1.5)})
    readable(figure)
    assert "1 of 2: the mean ends where a seed ends" in _texts(figure)
    assert max(line.get_xdata()[-1] for line in figure.axes[0].lines[:2]) == 1000


def test_long_labels_keep_their_difference_and_value(readable: Check) -> None:
    """Labels too long for their place lose what all have in common, then their middle, never the value."""
    long = "wave optimizer RGD loss QFE num_harmonics 16 learning_rate 0.002 warmup_steps 100 rgd_strength"
    figure = comparison.learning_curves({f"{long} {n}": [([1, 2], [2, n])] for n in range(1, 9)})
    readable(figure)
    assert "… = wave optimizer RGD" in _texts(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == [f"… {n} {n}" for n in range(1, 9)]
    alike = comparison.learning_curves({f"{'a' * 80}{n}{'b' * 80}": [([1, 2], [2, n])] for n in range(1, 9)})
    readable(alike)
    assert len({text.get_text()[:-2] for text in alike.axes[0].texts}) == 8
    readable(comparison.parameters({"a" * 120: 500, "$x$\n<b>": 3, f"{'part ' * 30}": 1}))
    readable(comparison.learning_curves({"two\nlines": _seeds(1, 1.5)}))


@pytest.mark.parametrize("labels", [40, 60])
def test_very_many_curves_are_readable(labels: int, readable: Check) -> None:
    """The figure grows with its labels up to a number; of more, so many are named, and it says so."""
    figure = comparison.learning_curves({f"cell {n}": [([1, 2], [2, n])] for n in range(labels)})
    readable(figure)
    assert ("40 of 60 are named" in _texts(figure)) == (labels == 60)


def test_nothing_to_compare_is_said(readable: Check) -> None:
    """Without curves, or with empty ones, the figure says so."""
    for curves in ({}, {"wave": []}, {"wave": [([], [])]}, {"wave": [([1], [float("nan")])]}):
        figure = comparison.learning_curves(curves)
        readable(figure)
        assert "no data yet" in _texts(figure)


@pytest.mark.usefixtures("both_styles")
def test_parameters_are_readable(readable: Check) -> None:
    """Every part has its number and its share, the largest on top; a model without parameters is said to have none."""
    figure = comparison.parameters({"embedding": 8320, "attention": 262_144, "feed-forward": 524_288, "norms": 0})
    readable(figure)
    assert all(text in _texts(figure) for text in ("524,288  (66.0%)", "794,752 in all", "norms"))
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "feed-forward"
    assert "no data yet" in _texts(comparison.parameters({}))


@settings(max_examples=10, phases=QUICK)
@given(
    curves=st.dictionaries(
        st.text(max_size=5),
        st.lists(st.lists(st.tuples(st.integers(0, 10**9), FLOATS), max_size=5), max_size=4),
        max_size=3,
    ),
    smoothing=st.floats(0, 1),
    log=st.booleans(),
)
def test_any_curves_can_be_drawn(
    curves: dict[str, list[list[tuple[int, float]]]],
    smoothing: float,
    log: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever the curves, there is a picture and no warning."""
    seeds = {label: [([s for s, _ in seed], [v for _, v in seed]) for seed in known] for label, known in curves.items()}
    figure = comparison.learning_curves(seeds, smoothing=smoothing, log=log)
    assert style.save(figure, tmp_path_factory.mktemp("plots") / "a.png").read_bytes().startswith(b"\x89PNG")
