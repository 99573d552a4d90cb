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
