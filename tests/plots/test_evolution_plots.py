"""How frequencies move."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import evolution, style, waves

Check = Callable[[Figure], None]
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Shrinking pictures takes minutes.
FREQUENCIES = arrays.arrays(np.float64, (3, 2, 4), elements=st.floats(-20, 20))


def _course(count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return 250 * np.arange(count), draw.random((1, 20, 4)) + np.cumsum(draw.normal(0, 0.02, (count, 20, 4)), 0)


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@given(FREQUENCIES)
def test_distances_are_the_shortest_way_around(f: np.ndarray) -> None:
    """The distance of two frequencies is the smallest over all whole turns between them, and at most half a turn."""
    moved = evolution.distances(f, f[0])
    twin = np.min([np.abs(f - f[0] + turns) for turns in range(-41, 42)], axis=0)
    np.testing.assert_allclose(moved, twin, atol=1e-9)
    assert moved.max() <= 0.5


@given(FREQUENCIES, st.integers(1, 50))
def test_density_is_one_in_the_mean(f: np.ndarray, bins: int) -> None:
    """The density of every step is a share for each bin that is 1 in the mean; a step without values has none."""
    np.testing.assert_allclose(evolution.density(f, bins).mean(1), 1)
    assert np.isnan(evolution.density(np.full_like(f, np.nan), bins)).all()


@given(arrays.arrays(np.float64, (2, 2, 3), elements=st.floats(-0.2, 0.2)), st.floats(-5, 5))
def test_the_window_holds_all_frequencies(f: np.ndarray, around: float) -> None:
    """Frequencies close to each other are shown on their part of the circle, over its end too, and none is lost."""
    low, high = evolution.window(f + around)
    shares = evolution.density(f + around, 10, (low, high))
    np.testing.assert_allclose(shares.mean(1) * (high - low), 1)
    assert high - low <= np.ptp(f) * 1.1 + 0.03


def test_the_window_of_many_is_the_circle() -> None:
    """Frequencies all around are shown from 0 to 1; a few about 0 are not torn apart."""
    assert evolution.window(np.linspace(0, 1, 50).reshape(1, 5, 10)) == (0, 1)
    assert evolution.window(np.array([[[0.98, 0.02, np.nan]]])) == pytest.approx((-0.03, 0.03))


def test_whole_turns_change_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Frequencies modulo 1 give the same picture, byte for byte."""
    f = np.array([[[0.25, 0.5]], [[0.375, 0.75]]])
    folder = tmp_path_factory.mktemp("plots")
    one, two = (
        style.save(waves.frequency_evolution([0, 250], values), folder / f"{name}.svg")
        for name, values in (("one", f), ("two", f + np.array([[[3, -2]], [[1, 0]]])))
    )
    assert one.read_bytes() == two.read_bytes()


def test_the_axis_is_modulo_one() -> None:
    """Frequencies about 0 are on an axis that goes from just below 1 on to just above 0, without a negative one."""
    figure = waves.frequency_evolution([0, 1], [[[-0.02], [0.03]]] * 2, of=50)
    axis = figure.axes[0].yaxis
    texts = axis.get_major_formatter().format_ticks([-0.02, 0.0, 0.02])
    assert texts == ["0.98", "0", "0.02"]
    assert "2 steps \N{MULTIPLICATION SIGN} 2 of 50 tokens" in _texts(figure)


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("count", [1, 2, 10, 500])
def test_the_evolution_is_readable(count: int, readable: Check) -> None:
    """From one step to hundreds no texts overlap and none leaves the figure."""
    readable(waves.frequency_evolution(*_course(count)))


def test_steps_are_drawn_in_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Steps come in their order; of equal ones the last counts, and one that is not finite is left out."""
    steps, f = _course(4)
    shuffled = waves.frequency_evolution([750, 250, np.nan, 0, 250, 500], f[[3, 0, 0, 0, 1, 2]])
    folder = tmp_path_factory.mktemp("plots")
    one = style.save(shuffled, folder / "one.svg")
    two = style.save(waves.frequency_evolution(steps, f), folder / "two.svg")
    assert one.read_bytes() == two.read_bytes()


def test_what_is_not_finite_is_counted(readable: Check) -> None:
    """Frequencies that are not finite are left out and counted; without others the figure says so."""
    steps, f = _course(3)
    f[1, 0, :2] = np.nan, np.inf
    figure = waves.frequency_evolution(steps, f)
    readable(figure)
    assert "2 not finite" in _texts(figure)
    f[0] = np.nan
    assert "Distance from step 250" in _texts(waves.frequency_evolution(steps, f))
    assert "no finite values" in _texts(waves.frequency_evolution(steps, np.full_like(f, np.nan)))
    assert "no data yet" in _texts(waves.frequency_evolution([], f[:0]))


def test_steps_and_sets_must_agree() -> None:
    """Another number of steps than of sets, or of dimensions, is refused with what was given."""
    with pytest.raises(UserError, match="2 steps for 3 sets"):
        waves.frequency_evolution([0, 1], _course(3)[1])
    with pytest.raises(UserError, match="allowed: \\(S, N, W\\)"):
        waves.frequency_evolution([0, 1], np.ones((2, 2)))


@settings(max_examples=8, phases=QUICK)
@given(data=st.data(), shape=st.tuples(*[st.integers(0, 4)] * 3))
def test_any_evolution_can_be_drawn(
    data: st.DataObject, shape: tuple[int, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the steps and the values, there is a picture and no warning."""
    floats = st.floats(allow_nan=True, allow_infinity=True)
    steps = data.draw(
        arrays.arrays(np.float64, shape[:1], elements=st.integers(0, 10**9) | st.sampled_from([np.nan, np.inf]))
    )
    values = data.draw(arrays.arrays(np.float64, shape, elements=floats))
    path = style.save(waves.frequency_evolution(steps, values), tmp_path_factory.mktemp("plots") / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")
