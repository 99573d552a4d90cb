"""TextQuality: values by hand, distances to pieces of the corpus, collapse and noise seen at once."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.monitoring.monitor import StepRecord
from spectral_mlflow.monitoring.quality_trend import QualityTrend
from spectral_mlflow.monitoring.text_quality import TextQuality

VOCABULARY = [
    f"{start}{end}" for start in ("tr", "st", "m", "gl", "p", "n") for end in ("one", "ave", "ill", "oom", "et")
]
LENGTH = 500
NAMES = {"distinct_1", "distinct_2", "distinct_3", "repetition", "word_validity", "entropy"}


def written(seed: int, words: int) -> str:
    """A text of many words, common and rare ones."""
    chance = random.Random(seed)
    return " ".join(VOCABULARY[min(len(VOCABULARY) - 1, int(chance.expovariate(0.15)))] for _ in range(words))


QUALITY = TextQuality.of(written(0, 10_000), LENGTH)


def test_values_by_hand() -> None:
    """Different runs over all runs, ten characters that come again, words that the corpus has, bits a character."""
    quality = TextQuality.of("one two three two one four", 26)
    found = quality.measure("one two one two one two zwei one")
    assert found["quality/distinct_1"] == 3 / 8
    assert found["quality/distinct_2"] == 4 / 7
    assert found["quality/distinct_3"] == 4 / 6
    assert found["quality/repetition"] == pytest.approx(7 / 23)
    assert found["quality/word_validity"] == 5 / 6
    assert TextQuality.of("abab", 4).measure("abcd")["quality/entropy"] == 2


def test_a_text_like_the_corpus_is_near() -> None:
    """Every quality of fresh texts of the same source is within a few deviations."""
    for seed in range(1, 6):
        found = QUALITY.measure(written(seed, 200)[:LENGTH])
        assert {name.removeprefix("quality/") for name in found if name.startswith("quality/")} == NAMES
        assert all(found[f"quality_distance/{name}"] < 4.5 for name in NAMES)
        assert found["quality_distance/overall"] < 2


@pytest.mark.parametrize(
    "text", ["a" * LENGTH, "trone stave " * 40, "".join(chr(97 + i * 7919 % 26) for i in range(LENGTH)), ""]
)
def test_collapse_and_noise_are_far(text: str) -> None:
    """One letter, one phrase for ever, letters at random, and nothing at all."""
    assert QUALITY.measure(text)["quality_distance/overall"] > 5


@given(text=st.text(max_size=300))
def test_any_text_can_be_measured(text: str) -> None:
    """Shares are shares, bits are bits, distances are finite."""
    found = QUALITY.measure(text)
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    assert all(found[f"quality/{name}"] <= 1 for name in NAMES - {"entropy"})
    assert found["quality/entropy"] <= math.log2(max(1, len(text))) + 1e-9


def test_the_reference_is_of_the_length_of_a_sample() -> None:
    """Longer pieces have fewer different words for their size, so each length has its own."""
    corpus = written(0, 10_000)
    short, long = (TextQuality.of(corpus, length).reference for length in (200, 2000))
    assert short["distinct_1"][0] > long["distinct_1"][0]
    assert all(deviation >= 0.01 for _, deviation in short.values())
    assert short == TextQuality.of(corpus, 200).reference


def test_words_of_a_piece_must_stand_elsewhere() -> None:
    """So the corpus itself is no better than a new text of its kind."""
    rare = " ".join(f"single{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(600))
    assert TextQuality.of(rare, LENGTH).reference["word_validity"][0] == 0
    assert QUALITY.reference["word_validity"][0] == pytest.approx(1)


@pytest.mark.parametrize("corpus", ["a", "ab", "one two"])
def test_a_tiny_corpus_will_do(corpus: str) -> None:
    """Shorter than a sample, it is compared with itself again and again."""
    quality = TextQuality.of(corpus, 100)
    assert quality.measure("\n".join([corpus] * 100)[:100])["quality_distance/overall"] < 1
    assert quality.measure("zwei drei " * 10)["quality_distance/overall"] > 10


@pytest.mark.parametrize("size", [170, 360, 700, 2000])
def test_a_small_corpus_is_nearest_to_itself(size: int) -> None:
    """The fewer letters of it are wrong the nearer a sample is, and no alert says that it has become worse."""
    rare = " ".join(f"{chr(97 + i % 26)}{VOCABULARY[i % 30]}{chr(97 + i // 26)}" for i in range(400))[:size]
    quality, trend, chance = TextQuality.of(rare, 300), QualityTrend(), random.Random(0)
    distances, alerts = [], []
    for step in range(12):
        noise = max(0.0, 0.5 - step / 16)
        text = "".join(chance.choice("abcdefghij ") if chance.random() < noise else letter for letter in rare * 2)[:300]
        found = quality.measure(text)
        distances.append(found["quality_distance/overall"])
        alerts += trend.observe(StepRecord(step, found, 1.0)).alerts
    assert alerts == []
    assert distances[-1] == min(distances)
    assert distances[-1] < distances[0] / 5


def test_an_empty_corpus_is_a_mistake() -> None:
    """There is nothing to compare with."""
    with pytest.raises(ValueError, match="empty corpus"):
        TextQuality.of("", 100)
