"""MusicQuality: tunes like those it knows are told from noise, at any moment of training."""

from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tunes import made, shuffled

from spectral_mlflow.monitoring.music.abc import parse
from spectral_mlflow.monitoring.music.metrics import METRICS
from spectral_mlflow.monitoring.music.quality import MusicQuality, complete, is_valid
from spectral_mlflow.monitoring.sample_quality import tune

QUALITY = MusicQuality.of("\n".join(made(seed) for seed in range(100)))
HELD_OUT = [made(seed) for seed in range(1000, 1030)]


def test_tunes_are_told_from_noise() -> None:
    """Every one of 30 new tunes scores higher than every shuffled one."""
    real = [QUALITY.score(tune) for tune in HELD_OUT]
    noise = [QUALITY.score(shuffled(tune, 0)) for tune in HELD_OUT]
    assert min(real) > max(noise)
    assert fmean(real) > 0.7
    assert fmean(noise) < 0.1


def test_measures_of_a_sample() -> None:
    """Values and distances of nine metrics, overall and valid tunes, as means over the tunes."""
    found = QUALITY.measure("\n".join(HELD_OUT[:3]) + "\n")
    assert found["music/valid_tunes"] == 1.0
    assert found["music/overall"] == pytest.approx(fmean(QUALITY.score(tune) for tune in HELD_OUT[:3]))
    assert set(found) == {"music/valid_tunes", "music/overall"} | {
        f"{group}/{name}" for group in ("music", "music_distance") for name in METRICS
    }
    assert all(found[f"music_distance/{name}"] >= 0 for name in METRICS)


def test_reference_is_the_mean_and_deviation_of_what_is_measured() -> None:
    """Of all metrics and of the overall quality, by their names."""
    assert set(QUALITY.reference) == {*METRICS, "overall"}
    mean, deviation = QUALITY.reference["pitch_range"]
    assert 8 < mean < 20
    assert 0 < deviation < 5
    assert QUALITY.reference["overall"][0] > 0.8


def test_half_of_the_tunes_broken() -> None:
    """What does not parse is not valid and counts as nothing in the overall quality."""
    good = HELD_OUT[0]
    found = QUALITY.measure(f"{good}\nX:1\nK:G\nnoise #?\n\n")
    assert found["music/valid_tunes"] == 0.5
    assert found["music/overall"] == pytest.approx(QUALITY.score(good) / 2)


@pytest.mark.parametrize("text", ["", "no tune at all", "X:1\n", "X:1\nM:6/8\nL:1/8\nK:G\n|||||\n"])
def test_samples_without_a_tune(text: str) -> None:
    """At the beginning of training there is nothing else: 0, and no metrics of notes that are not there."""
    assert QUALITY.measure(text) == {"music/valid_tunes": 0.0, "music/overall": 0.0}


def test_a_tune_out_of_its_metre_is_not_valid() -> None:
    """Three quarters of the bars must be full."""
    tune = made(0)
    assert is_valid(parse(tune))
    assert not is_valid(parse(tune.replace("M:6/8", "M:5/8")))


def test_the_last_tune_of_a_sample_may_be_cut() -> None:
    """It counts where it is the only one, or where it has ended."""
    one, other = made(0), made(1)
    assert complete(f"{one}\n{other[:60]}") == [one]
    assert complete(other[:60]) == [other[:60] + "\n"]
    assert complete(f"{one}\n{other}\n") == [one, other]


def test_many_tunes_are_as_many() -> None:
    """What a model begins as another tune within one is no further tune of the sample."""
    texts = [made(0).replace("|:", "|:\nX:2\n", 1), *map(made, range(1, 16))]
    assert len(complete("".join(map(tune, texts)))) == 16


def test_nothing_to_compare_with() -> None:
    """Is a mistake of the caller."""
    with pytest.raises(ValueError, match="two are needed"):
        MusicQuality.of("no tune")


@settings(max_examples=100)
@given(text=st.text(alphabet="\nXMLKG:1/68 ABCdef2|>(3z^[]-'", max_size=200))
def test_scores_are_between_0_and_1(text: str) -> None:
    """Whatever the model writes."""
    found = QUALITY.measure(f"X:1\nM:6/8\nL:1/8\nK:G\n{text}")
    assert 0 <= found["music/overall"] <= 1
    assert 0 <= found["music/valid_tunes"] <= 1
