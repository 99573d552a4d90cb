"""Reading ABC: every sign of it by hand, whatever a model writes, and as music21 reads it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.monitoring.music.abc import parse, read_metre, split
from spectral_mlflow.monitoring.music.tune import Tune, melody

HEADER = "X:1\nM:4/4\nL:1/8\nK:C\n"


def read(notes: str, header: str = HEADER) -> Tune:
    """A tune of these notes."""
    return parse(header + notes + "\n")


def pitches(notes: str, header: str = HEADER) -> list[int]:
    """Its pitches, one after the other."""
    return [pitch for note in read(notes, header).notes for pitch in note.pitches]


def lengths(notes: str, header: str = HEADER) -> list[float]:
    """Its lengths in eighths, to three digits."""
    return [round(2 * note.length, 3) for note in read(notes, header).notes]


def test_pitches() -> None:
    """Letters, octaves, accidentals up to the bar line in every octave, and signatures."""
    assert pitches("C D E c d e C, c'") == [60, 62, 64, 72, 74, 76, 48, 84]
    assert pitches("^C C c | C _B =B B ^^C __E") == [61, 61, 73, 60, 70, 71, 71, 62, 62]
    assert pitches("F C B", HEADER.replace("K:C", "K:D")) == [66, 61, 71]
    assert pitches("B E F", HEADER.replace("K:C", "K:Gm")) == [70, 63, 65]
    assert pitches("F [K:G] F\nK:F\nB") == [65, 66, 70]
    assert pitches("[CEG]2 {d}e") == [60, 64, 67, 76]


def test_lengths() -> None:
    """Multiples, parts, broken rhythms, tuplets, rests and units."""
    assert lengths("C C2 C/ C// C3/2 C/4 z2 x") == [1, 2, 0.5, 0.25, 1.5, 0.25, 2, 1]
    assert lengths("C>D E<F G>>A C2>D2") == [1.5, 0.5, 0.5, 1.5, 1.75, 0.25, 3, 1]
    assert lengths("(3CDE (2CD (5CDEFG C") == [0.667] * 3 + [1.5] * 2 + [0.4] * 5 + [1]
    assert lengths("(5CDEFG", HEADER.replace("4/4", "6/8")) == [0.6] * 5
    assert lengths("(3:2:2CDE") == [0.667, 0.667, 1]
    assert lengths("C [L:1/16] C\nL:1/4\nC") == [1, 0.5, 2]
    assert lengths("C", "X:1\nM:2/4\nK:C\n") == [0.5]
    assert lengths("Z2 | Z") == [16, 8]


@pytest.mark.parametrize(
    ("text", "metre"), [("C", (4, 4)), ("C|", (2, 2)), (" 6/8 ", (6, 8)), ("7/5", None), ("", None), ("free", None)]
)
def test_metres(text: str, metre: tuple[int, int] | None) -> None:
    """Named ones, fractions, and what is none."""
    assert read_metre(text) == metre


def test_bars() -> None:
    """Full ones count, and those that begin or end a part may be short, since an upbeat belongs to them."""
    tune = read("G | CDEF GABc | C4 D4 | CDEF GAB |1 c8 :|2 c6 || CDE | CDEF GABc | c8 |]")
    assert [bar.length for bar in tune.bars] == [0.5, 4, 4, 3.5, 4, 3, 1.5, 4, 4]
    assert [bar.at_edge for bar in tune.bars] == [True, False, False, True, True, True, True, False, True]
    assert tune.full_bars() == 1.0
    assert read("CDEF GABc | CDEF | CDEF GABc | c8 |]").full_bars() == 0.5
    assert read("CDEF GABc").full_bars() == 0.0


def test_ties_join_notes_of_one_pitch() -> None:
    """A hyphen between different ones is a slur."""
    assert [(n.pitches, n.length) for n in melody(read("C2-C2 D-E z E"))] == [
        ((60,), 2), ((62,), 0.5), ((64,), 0.5), ((64,), 0.5),
    ]  # fmt: skip
    assert [note.pitches for note in melody(read("[CEG] C"))] == [((67,)), ((60,))]
    assert [(n.pitches, n.length) for n in melody(read("[AE]-A [A,C,]"))] == [((69,), 1), ((57,), 0.5)]


@pytest.mark.parametrize(
    "notes", ["CDEFGABc ?", "CDEFGABc #", "CDEFGABc C999", "CDEFGABc >>>>> C", "c''''''' CDEFGABc", "CDEFGABc [M:x]"]
)  # fmt: skip
def test_what_means_nothing_is_counted(notes: str) -> None:
    """Such a tune does not parse, though the rest of it is read."""
    tune = read(notes)
    assert tune.unknown > 0
    assert not tune.parses
    assert len(tune.notes) >= 8


@pytest.mark.parametrize("header", ["X:1\nL:1/8\nK:C\n", "X:1\nM:4/4\nL:1/8\nK:H\n", "X:1\nM:4/4\n"])
def test_metre_and_key_are_needed(header: str) -> None:
    """Without them nobody knows what is to be played."""
    assert not parse(header + "CDEF GABc | c8 |]\n").parses
    assert parse(HEADER + "CDEF GABc | c8 |]\n").parses
    assert not parse(HEADER + "CDEF GAB |]\n").parses


def test_tunes_of_a_text() -> None:
    """Each from its number to the next empty line or number."""
    text = f"noise\n{HEADER}CDE\n\nmore noise\n{HEADER}FGA\n{HEADER}B"
    assert split(text) == [HEADER + "CDE\n", HEADER + "FGA\n", HEADER + "B\n"]
    assert split("no tune") == []


@settings(max_examples=300)
@given(
    header=st.sampled_from(["", "X:1\n", HEADER, "K:Am\n", "X:1\nM:6/8\nK:Ebmix\n"]),
    text=st.text(
        alphabet="\n #'(),-./0123456789:<=>ABCDEFGHKLMRTXZ[]^_abcdefghijklmnopruvxyz{|}~\\\"!\ufffd\x00", max_size=80
    ),
)
def test_anything_can_be_read(header: str, text: str) -> None:
    """Nothing is raised, every note can be played, and time only goes on."""
    tune = parse(header + text)
    for note in tune.notes:
        assert all(0 <= pitch <= 127 for pitch in note.pitches)
        assert 0 < note.length <= 128
    assert 0 <= tune.full_bars() <= 1
    assert all(bar.length > 0 for bar in tune.bars)


def test_what_is_never_closed_ends_where_the_next_one_opens() -> None:
    """Reading a line of nothing else takes no longer than any other line."""
    tune = read("{{d}F [K:[K:D] F")
    assert [note.pitches for note in tune.notes] == [(65,), (66,)]
    assert tune.unknown == len("{[K:")
    assert read("{" * 200_000).unknown == 200_000


@pytest.mark.parametrize(
    "text",
    ["C" + "9" * 5000, "Z" + "9" * 5000, "C/" + "9" * 5000, "C/" + "/" * 5000, "C" + "'" * 5000, "K:" + "C" * 5000],
)
def test_absurd_numbers_are_no_music(text: str) -> None:
    """They are counted, and nothing overflows."""
    tune = read("CDEF GABc\n" + text)
    assert not tune.parses
