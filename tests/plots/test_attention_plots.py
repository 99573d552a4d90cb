"""The maps of attention and of the agreement of phases."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import attention, style

Check = Callable[[Figure], None]
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # Shrinking pictures takes minutes.
PLOTS = [attention.attention_maps, attention.phase_coherence]
LABELS = ["\n", " the", "$x$", "漢", "a", "internationalisation", "b", "c"]


def _maps(layers: int, heads: int, size: int) -> np.ndarray:
    """Causal weights: the softmax of random scores over what each token sees."""
    scores = np.random.default_rng(0).normal(size=(layers, heads, size, size))
    scores[..., ~np.tril(np.ones((size, size), dtype=bool))] = -np.inf
    weights = np.exp(scores)
    return weights / weights.sum(-1, keepdims=True)


def _labels(size: int) -> list[str]:
    return [LABELS[place % len(LABELS)] for place in range(size)]


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.usefixtures("both_styles")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 8), (2, 3, 6), (4, 4, 64), (12, 12, 4), (1, 8, 48)])
@pytest.mark.parametrize("draw", PLOTS)
def test_maps_are_readable(draw: Callable[..., Figure], shape: tuple[int, int, int], readable: Check) -> None:
    """From one token of one head to twelve layers and heads no texts overlap and none leaves the figure."""
    readable(draw(_maps(*shape), _labels(shape[2])))


def test_tokens_are_named_where_there_is_room() -> None:
    """Few tokens are named along their map; of many, the text that was read stands below."""
    assert _texts(attention.attention_maps(_maps(1, 1, 8), list("abcdefgh"))).count("c") > 0
    few = attention.attention_maps(_maps(1, 1, 4), ["one", "two", "three", "four"])
    assert _texts(few).splitlines().count("three") == 2
    many = attention.attention_maps(_maps(4, 4, 64), list("ab" * 32))
    assert "tokens: abab" in _texts(many)


def test_of_many_heads_some_are_shown() -> None:
    """Of more than eight layers or heads, eight evenly chosen ones are drawn, and the figure says so."""
    figure = attention.attention_maps(_maps(12, 9, 4), list("abcd"))
    texts = _texts(figure)
    assert "8 of 12 layers \N{MULTIPLICATION SIGN} 8 of 9 heads \N{MULTIPLICATION SIGN} 4 tokens" in texts
    assert {"layer 1", "layer 12", "head 1", "head 9"} <= set(texts.splitlines())


@pytest.mark.parametrize("draw", PLOTS)
def test_chosen_heads_keep_their_numbers(draw: Callable[..., Figure]) -> None:
    """Layers and heads that are given out of more have the numbers that the model knows them by."""
    texts = _texts(draw(_maps(2, 3, 4), list("abcd"), layers=[1, 12], heads=[2, 5, 9], of=(12, 9))).splitlines()
    assert "2 of 12 layers \N{MULTIPLICATION SIGN} 3 of 9 heads \N{MULTIPLICATION SIGN} 4 tokens" in texts
    assert {"layer 1", "layer 12", "head 2", "head 5", "head 9"} <= set(texts)
    with pytest.raises(UserError, match="3 of 2"):
        draw(_maps(2, 3, 4), list("abcd"), of=(12, 2))


def test_no_numbers_are_announced_where_there_are_none() -> None:
    """Maps of fewer than four tokens have no room for a number, and the title speaks of none."""
    assert "numbers" not in _texts(attention.attention_maps(_maps(1, 1, 3), list("abc")))
    assert "numbers" in _texts(attention.attention_maps(_maps(1, 1, 4), list("abcd")))


@given(st.integers(1, 50), st.integers(1, 10))
def test_the_choice_is_even(count: int, most: int) -> None:
    """At most so many are chosen, in order, without repeats, at nearly even distances, the first one always."""
    chosen = attention.evenly(count, most)
    assert len(chosen) == min(count, most)
    assert chosen[0] == 0
    assert chosen[-1] == count - 1 or most == 1
    gaps = np.diff(chosen)
    assert gaps.size == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


@pytest.mark.parametrize("draw", PLOTS)
def test_what_is_not_seen_is_not_drawn(draw: Callable[..., Figure], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever stands above the diagonal, zeros, NaN or numbers, the picture is the same, byte for byte."""
    folder, above = tmp_path_factory.mktemp("plots"), ~np.tril(np.ones((5, 5), dtype=bool))
    pictures = set()
    for value in (0.0, np.nan, 0.7):
        maps = _maps(2, 1, 5)
        maps[..., above] = value
        pictures.add(style.save(draw(maps, list("abcde")), folder / "a.svg").read_bytes())
    assert len(pictures) == 1


def test_every_weight_has_its_place() -> None:
    """The image holds the square root of each weight at its layer, head, query and key, and nothing in between."""
    maps = _maps(2, 3, 40)
    image = attention.attention_maps(maps, ["a"] * 40).axes[0].images[0].get_array().filled(np.nan)
    gap = image.shape[0] - 80
    for layer in range(2):
        for head in range(3):
            top, left = layer * (40 + gap), head * (40 + gap)
            part = image[top : top + 40, left : left + 40]
            seen = np.tril(np.ones((40, 40), dtype=bool))
            np.testing.assert_allclose(part[seen], np.sqrt(maps[layer, head][seen]))
            assert np.isnan(part[~seen]).all()
    assert np.isnan(image[40 : 40 + gap]).all()


@given(st.integers(1, 6), st.integers(0, 99))
def test_entropy_equals_its_definition(size: int, seed: int) -> None:
    """The entropy of a head is the mean over its rows of -sum a ln a, term by term; evenly spread it is ln(i + 1)."""
    weights = np.random.default_rng(seed).dirichlet(np.ones(size), size)
    twin = sum(-sum(a * math.log(a) for a in row if a > 0) for row in weights.tolist()) / size
    assert float(attention.entropy(weights)) == pytest.approx(twin)
    even = np.array([[1 / (i + 1) if j <= i else np.nan for j in range(size)] for i in range(size)])
    assert float(attention.entropy(even)) == pytest.approx(np.mean([math.log(i + 1) for i in range(size)]))


def test_the_number_of_a_head_is_the_mean_of_what_is_seen() -> None:
    """Coherence is averaged over the pairs of query and key that there are, and written into the map."""
    maps = np.zeros((1, 1, 4, 4))
    maps[0, 0, 3] = 1
    assert "0.40" in _texts(attention.phase_coherence(maps, list("abcd")))


@pytest.mark.parametrize("draw", PLOTS)
def test_what_is_not_finite_is_counted(draw: Callable[..., Figure], readable: Check) -> None:
    """Values that are not finite are left out and counted; without others the figure says so."""
    maps = _maps(1, 2, 4)
    maps[0, 0, 3, :2] = np.nan, np.inf
    figure = draw(maps, list("abcd"))
    readable(figure)
    assert "2 not finite" in _texts(figure)
    assert "no finite values" in _texts(draw(np.full((1, 1, 2, 2), np.nan), ["a", "b"]))
    assert "no data yet" in _texts(draw(np.empty((0, 0, 0, 0)), []))


@pytest.mark.parametrize("draw", PLOTS)
def test_shapes_must_go_together(draw: Callable[..., Figure]) -> None:
    """Maps that are not square, another number of labels or of dimensions are refused with what was given."""
    with pytest.raises(UserError, match=r"shape \(2, 3\); allowed: \(T, T\)"):
        draw(np.ones((1, 1, 2, 3)), ["a", "b"])
    with pytest.raises(UserError, match="1 labels for 2 rows"):
        draw(np.ones((1, 1, 2, 2)), ["a"])
    with pytest.raises(UserError, match="allowed: \\(L, H, T, T\\)"):
        draw(np.ones((2, 2)), ["a", "b"])


@settings(max_examples=8, phases=QUICK)
@given(data=st.data(), draw=st.sampled_from(PLOTS), shape=st.tuples(*[st.integers(0, 3)] * 3))
def test_any_maps_can_be_drawn(
    data: st.DataObject,
    draw: Callable[..., Figure],
    shape: tuple[int, int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever the values and the labels, there is a picture and no warning."""
    floats = st.floats(allow_nan=True, allow_infinity=True)
    maps = data.draw(arrays.arrays(np.float64, (*shape, shape[-1]), elements=floats))
    labels = data.draw(st.lists(st.text(max_size=6), min_size=shape[-1], max_size=shape[-1]))
    path = style.save(draw(maps, labels), tmp_path_factory.mktemp("plots") / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")
