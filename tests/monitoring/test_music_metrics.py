"""The metrics of a tune, each by a tune whose value is known, and by what must not change it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tunes import made, shuffled

from spectral_mlflow.data.transposition import transpose
from spectral_mlflow.monitoring.music import metrics
from spectral_mlflow.monitoring.music.abc import parse
from spectral_mlflow.monitoring.music.metrics import METRICS, Melody


def of(notes: str, metre: str = "4/4") -> Melody:
    """The melody of some notes, in eighths."""
    return Melody.of(parse(f"X:1\nM:{metre}\nL:1/8\nK:C\n{notes}\n"))


@pytest.mark.parametrize(
    ("metric", "notes", "value"),
    [
        (metrics.rhythm_consistency, "C8 | C8 | C4 | C8 | C8 |]", 2 / 3),
        (metrics.rhythm_diversity, "C2 C2 C2 C2 | C2 C2 C2 C2 |", 0.0),
        (metrics.rhythm_diversity, "C2 C C2 C2 C C C2 C2 C2 C C", 1.0000),
        (metrics.harmonic_coherence, "C2 E2 G4 | F2 A2 c2 B2 |]", (4 + 3) / 8),
        (metrics.melodic_contour, "C D E F G g", (4 - 1) / 5),
        (metrics.melodic_contour, "C C C", 0.0),
        (metrics.dynamic_range, "C4 D E C4 D E |", math.log2((2 + 0.5 + 2 + 0.5) / 4 / 0.5)),
        (metrics.note_density, "C D E F G A B c | C4 C4 |", 10 / 8),
        (metrics.pitch_range, "C G c E", 12.0),
        (metrics.repetition, "CDEFG z cdefg", 2 / 6),
        (metrics.repetition, "C D E F G A B", 0.0),
        (metrics.structural_coherence, "CDEF GABc | CDEF GABd | edcB c4 | G8 |]", 7 / 8),
    ],
)
def test_known_values(metric: metrics.Callable[[Melody], float], notes: str, value: float) -> None:
    """By hand."""
    assert metric(of(notes)) == pytest.approx(value, abs=1e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), semitones=st.sampled_from([(1, 2), (-1, -2), (2, 3), (3, 5), (-3, -5)]))
def test_another_key_changes_nothing(seed: int, semitones: tuple[int, int]) -> None:
    """Every metric is the same for a tune and its transposition."""
    tune = made(seed)
    one, other = (Melody.of(parse(text)) for text in (tune, transpose(tune, *semitones)))
    for metric in METRICS.values():
        assert metric(one) == pytest.approx(metric(other))


@pytest.mark.parametrize("name", ["melodic_contour", "repetition", "structural_coherence"])
def test_order_matters(name: str) -> None:
    """These are lower where the same notes stand in another order, in each of 20 tunes."""
    for seed in range(20):
        tune = made(seed)
        real, noise = (METRICS[name](Melody.of(parse(text))) for text in (tune, shuffled(tune, seed)))
        assert real > noise


def test_the_first_bars_of_an_endless_tune_are_compared() -> None:
    """Comparing each with each takes time that grows with their number squared; 256 are more than a tune has."""
    others = [" ".join("CDEFGABc"[number >> place & 7] for place in range(0, 24, 3)) for number in range(1, 1000)]
    assert metrics.structural_coherence(of(" | ".join(["C8"] * 100 + others))) < 1
    assert metrics.structural_coherence(of(" | ".join(["C8"] * 256 + others))) == 1


def test_each_metric_says_what_it_is() -> None:
    """Nine, each with a docstring; the tenth is what they are together."""
    assert len(METRICS) == 9
    assert all(metric.__doc__ for metric in METRICS.values())
