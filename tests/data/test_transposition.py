"""Tunes in other keys: every interval stays, every note is written correctly, in characters that are known."""

import contextlib
import re
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora
from spectral_mlflow.data.abc_key import Key
from spectral_mlflow.data.transposition import transpose, transpositions

needs_music21 = pytest.mark.skipif(find_spec("music21") is None, reason="music21 is not installed")

TUNE = "X:1\nM:6/8\nL:1/8\nK:G\nD|G2B ^cdf|{c}=f3 [G2B2]z|[K:Gmix] (3fga b'3:|\nM:C\nK:Gm\nB,_E ^F||\n"


def test_a_tune_by_hand() -> None:
    """Up a tone: G major becomes A major, each accidental is that of its letter in the new key, octaves follow."""
    assert transpose(TUNE, 1, 2) == (
        "X:1\nM:6/8\nL:1/8\nK:A\nE|A2c ^deg|{d}=g3 [A2c2]z|[K:Amix] (3gab c''3:|\nM:C\nK:Am\nC=F ^G||\n"
    )


@pytest.mark.parametrize(
    ("field", "sharps"),
    [
        ("C", 0),
        ("G", 1),
        ("Em", 1),
        ("Ador", 1),
        ("Dmix", 1),
        ("Bphr", 1),
        ("Glyd", 2),
        ("Bb", -2),
        ("F#m", 3),
        ("AMix", 2),
    ],
)
def test_signatures(field: str, sharps: int) -> None:
    """Of major, minor and the modes, however they are written."""
    key = Key.parse(field)
    assert key is not None
    assert (key.sharps, len(key.alterations())) == (sharps, abs(sharps))
    assert str(key) == field


@pytest.mark.parametrize("field", ["", "H", "Bn", "Hp", "C##", "clef=bass"])
def test_what_is_no_key(field: str) -> None:
    """Nothing is guessed."""
    assert Key.parse(field) is None


@given(letters=st.integers(-3, 3), semitones=st.integers(-5, 5))
def test_there_and_back(letters: int, semitones: int) -> None:
    """A tune comes back to the letter, wherever it could be written at all."""
    try:
        moved = transpose(TUNE, letters, semitones)
    except ValueError:
        return
    assert transpose(moved, -letters, -semitones) == TUNE


def test_the_choice_of_keys_is_fixed() -> None:
    """The same on every machine; fewer keys are the first of more; all differ."""
    six = list(transpositions(TUNE, 6))
    assert list(transpositions(TUNE, 2)) == six[:2]
    assert list(transpositions(TUNE, 0)) == []
    assert len({TUNE, *six}) == len(six) + 1
    assert list(transpositions(TUNE.replace("K:G\n", "K:nonsense\n"), 3)) == []


@needs_music21
def test_no_tune_gets_a_new_character() -> None:
    """Every transposition is written with the characters of the collection, and with no double accidental."""
    tunes = [piece.text for piece in corpora.find(DatasetConfig(name="oneills")).read()]
    known = set("".join(tunes))
    for tune in tunes[::20]:
        for moved in transpositions(tune, 6):
            assert set(moved) <= known
            assert not re.search(r"\^\^|__", moved)


@needs_music21
def test_music21_hears_the_same_intervals() -> None:
    """In an independent reader each note of a tune moves by one and the same interval, in semitones and in letters."""
    from music21 import converter

    def notes(text: str) -> list[tuple[int, int, float]]:
        score = converter.parse("%abc-2.1\n" + text, format="abc")
        return [(p.midi, p.diatonicNoteNum, float(n.quarterLength)) for n in score.recurse().notes for p in n.pitches]

    chosen = [piece.text for piece in corpora.find(DatasetConfig(name="oneills")).read()][::250]
    assert len(chosen) == 9
    for tune in chosen:
        before = notes(tune)
        for moved in transpositions(tune, 2):
            after = notes(moved)
            moves = {(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)}
            assert len(moves) == 1
            assert moves != {(0, 0)}
            assert [note[2] for note in after] == [note[2] for note in before]


@settings(max_examples=50)
@given(text=st.text(alphabet="ABcdef'^=_,|[]():23/ zKM\n", max_size=60))
def test_whatever_a_model_writes_can_be_moved(text: str) -> None:
    """Nothing is lost on the way: there is a note, and as many lines, where there were."""
    with contextlib.suppress(ValueError):
        moved = transpose("K:C\n" + text, 1, 2)
        assert moved.count("\n") == text.count("\n") + 1
        assert len(re.findall("[A-Ga-g]", moved)) == len(re.findall("[A-Ga-g]", "K:C\n" + text))
