"""The plots of the waves."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import packet, style, tables, waves, wording

Check = Callable[[Figure], None]
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Shrinking pictures takes minutes.
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
PLOTS = {"frequencies": 2, "phases": 2, "harmonics": 3}


def _values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def _save(figure: Figure, folder: pytest.TempPathFactory) -> bool:
    return style.save(figure, folder.mktemp("plots") / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("shape", [(65, 16, 4), (1, 1, 1), (3, 100, 30), (5000, 2, 1)])
@pytest.mark.parametrize("name", PLOTS)
def test_wave_plots_are_readable(name: str, shape: tuple[int, ...], readable: Check) -> None:
    """For any number of tokens, waves and harmonics no texts overlap and none leaves the figure."""
    readable(getattr(waves, name)(_values(*shape[: PLOTS[name]])))


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("tokens", [1, 5, 30])
def test_wave_packets_are_readable(tokens: int, readable: Check) -> None:
    """From one token to more than are shown no texts overlap and none leaves the figure."""
    labels = ["\n", " the", "$x$", "漢", "a"] * 6
    figure = waves.wave_packets(
        _values(tokens, 3), _values(tokens, 3), _values(tokens, 3, 2), [0.1, 1, 3], labels[:tokens]
    )
    readable(figure)
    named = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert named == [wording.token(label) for label in labels[: min(tokens, waves.MOST_PACKETS)]]


@pytest.mark.parametrize("name", ["frequencies", "phases"])
def test_whole_turns_change_nothing(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Frequencies modulo 1 and phases modulo 2 pi give the same picture, byte for byte."""
    values = np.array([[0.25, 0.5], [0.125, 0.75]])
    turn = {"frequencies": 1.0, "phases": 2 * np.pi}[name]
    folder = tmp_path_factory.mktemp("plots")
    one = style.save(getattr(waves, name)(values), folder / "one.svg")
    two = style.save(getattr(waves, name)(values + turn * np.array([[3], [-2]])), folder / "two.svg")
    if name == "frequencies":
        assert one.read_bytes() == two.read_bytes()
    else:  # 2 pi has no exact multiple.
        assert abs(one.stat().st_size - two.stat().st_size) < 64


def test_agreement_is_the_mean_resultant() -> None:
    """A wave with one phase for all tokens stands at that phase with R = 1; one with opposite phases in the middle."""
    figure = waves.phases([[0.5, 0.0], [0.5, np.pi]])
    (dots,) = [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_xdata(), [np.cos(0.5), 0], atol=1e-12)
    np.testing.assert_allclose(dots.get_ydata(), [np.sin(0.5), 0], atol=1e-12)


@pytest.mark.parametrize("name", PLOTS)
def test_what_is_not_finite_is_counted(name: str, readable: Check) -> None:
    """Values that are not finite are left out and counted; without others the figure says so."""
    values = _values(*(6, 4, 3)[: PLOTS[name]])
    values[0] = np.nan
    figure = getattr(waves, name)(values)
    readable(figure)
    assert f"{values[0].size} not finite" in _texts(figure)
    assert "no finite values" in _texts(getattr(waves, name)(np.full_like(values, np.inf)))
    assert "no data yet" in _texts(getattr(waves, name)(values[:0]))


@pytest.mark.parametrize("name", PLOTS)
def test_wrong_shapes_are_refused(name: str) -> None:
    """An array of another number of dimensions is a mistake and is named."""
    with pytest.raises(UserError, match="allowed: \\(V, W"):
        getattr(waves, name)(_values(5))


def test_packets_need_shapes_that_go_together() -> None:
    """Arrays of packets with different numbers of waves are refused with all their shapes."""
    with pytest.raises(UserError, match=r"gamma \(2,\)"):
        waves.wave_packets(_values(2, 3), _values(2, 3), _values(2, 3, 1), [1, 2], ["a", "b"])


def test_very_many_tokens_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more values than anybody can see, evenly chosen tokens are drawn, and the figure says which."""
    monkeypatch.setattr(tables, "MOST_VALUES", 100)
    texts = _texts(waves.frequencies(_values(150, 2)))
    assert "50 of 150 tokens \N{MULTIPLICATION SIGN} 2 waves" in texts


@pytest.mark.parametrize("name", PLOTS)
def test_chosen_tokens_are_not_all(name: str) -> None:
    """Where the tokens are chosen from a vocabulary, the note has both numbers and no title says all tokens."""
    values = _values(*(1030, 2, 2)[: PLOTS[name]])
    texts = _texts(getattr(waves, name)(values, of=2000))
    assert "1,030 of 2,000 tokens \N{MULTIPLICATION SIGN} 2 waves" in texts
    assert "all tokens" not in texts
    with pytest.raises(UserError, match="1,030 of 10;"):
        getattr(waves, name)(values, of=10)


def test_a_pair_that_does_not_interfere_has_no_minus_zero() -> None:
    """What the lines and colours of the pairs mean is said, and the number of a pair is 0, not minus 0."""
    f, phi = np.zeros((2, 1)), np.array([[0.0], [np.pi / 2 + 1e-4]])
    texts = _texts(waves.interference(f, phi, np.ones((2, 1, 1)), [0.5], ["a", "b"]))
    assert "waves kept apart" in texts
    assert {"first token", "second token", "both together", "they strengthen", "they cancel"} <= set(texts.splitlines())
    assert "\N{MINUS SIGN}0\n" not in texts + "\n"


def test_rounding_does_not_hide_the_size_of_packets() -> None:
    """A largest value a rounding error below a power of ten has its bar."""
    waves.wave_packets([[0.0]], [[0.0]], [[[999.9999999999999]]], [0.0], ["a"])


@settings(max_examples=6, phases=QUICK)
@given(data=st.data(), name=st.sampled_from(sorted(PLOTS)))
def test_any_waves_can_be_drawn(data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the shape and the values, there is a picture and no warning."""
    shape = data.draw(st.tuples(*[st.integers(0, 5)] * PLOTS[name]))
    values = data.draw(arrays.arrays(np.float64, shape, elements=FLOATS))
    assert _save(getattr(waves, name)(values), tmp_path_factory)


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("tokens", [2, 3, 24, 65])
def test_interference_is_readable(tokens: int, readable: Check) -> None:
    """From one pair to a vocabulary no texts overlap, none leaves the figure, and the pairs are named."""
    labels = [*("\n", "W" * 20, "$x$", "漢", "\u202ea"), *(chr(letter) for letter in range(48, 108))][:tokens]
    tables_of = _values(tokens, 8), _values(tokens, 8), _values(tokens, 8, 2)
    figure = waves.interference(*tables_of, np.linspace(0, 1, 8), labels)
    readable(figure)
    matrix, pairs = figure.axes
    values = matrix.images[0].get_array()
    assert values.shape == (tokens, tokens)
    named = [text.get_text().split("\n")[0] for text in pairs.texts if " + " in text.get_text()]
    assert named == [
        f"{wording.token(labels[i])} + {wording.token(labels[j])}" for i, j in packet.telling_pairs(values)
    ]


def test_interference_needs_two_tokens(readable: Check) -> None:
    """One token, none, or packets without a finite value give a figure that says why there is nothing to see."""
    for count, value, reason in ((1, 1.0, "one token"), (0, 1.0, "no data yet"), (3, np.nan, "no finite values")):
        part = np.full((count, 2), value)
        figure = waves.interference(part, part, np.full((count, 2, 1), value), [0, 1], ["a"] * count)
        readable(figure)
        assert reason in _texts(figure)


@settings(max_examples=8, phases=QUICK)
@given(data=st.data(), size=st.tuples(*[st.integers(0, 3)] * 3), name=st.sampled_from(["wave_packets", "interference"]))
def test_any_packets_can_be_drawn(
    data: st.DataObject, size: tuple[int, int, int], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the values and the labels, there is a picture and no warning."""
    f, phi, amplitudes, gamma = (
        data.draw(arrays.arrays(np.float64, shape, elements=FLOATS)) for shape in (size[:2], size[:2], size, size[1:2])
    )
    labels = data.draw(st.lists(st.text(max_size=6), min_size=size[0], max_size=size[0]))
    assert _save(getattr(waves, name)(f, phi, amplitudes, gamma, labels, positions=5), tmp_path_factory)
