"""Samples of music as files: .abc that programs open, .mid that plays what is written."""

import io
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tunes import made

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.music import files
from spectral_mlflow.monitoring.music.abc import parse

needs_mido = pytest.mark.skipif(find_spec("mido") is None, reason="mido is not installed")
needs_music21 = pytest.mark.skipif(find_spec("music21") is None, reason="music21 is not installed")

Played = list[tuple[int, int, int]]


def played(content: bytes) -> Played:
    """(start, end, pitch) of the notes of a MIDI file, in ticks."""
    mido = pytest.importorskip("mido")
    time, begun, notes = 0, {}, []
    [track] = mido.MidiFile(file=io.BytesIO(content)).tracks
    for message in track:
        time += message.time
        if message.type == "note_on":
            begun[message.note] = time
        elif message.type == "note_off":
            notes.append((begun.pop(message.note), time, message.note))
    assert not begun
    return sorted(notes)


def midi(text: str) -> bytes:
    """A tune as a file."""
    return files.midi(parse(text), "test")


@needs_mido
def test_a_sample_is_notation_and_sound(tmp_path: Path) -> None:
    """Two files by the number of the step; the notation has a version and numbered tunes, the sound the valid one."""
    text = f"{made(1).replace('M:6/8', 'M:5/8')}\n{made(2)}\nX:1\nM:6/8\n"
    notation, sound = files.save(text, tmp_path / "samples", 7)
    assert (notation.name, sound.name) == ("sample_step_7.abc", "sample_step_7.mid")
    written = notation.read_text()
    assert written.startswith("%abc-2.1\nX:1\nT:sample of step 7\nM:5/8\n")
    assert re.findall(r"(?m)^X:(\d+)$", written) == ["1", "2", "3"]
    assert played(sound.read_bytes()) == played(midi(made(2)))


@needs_mido
@pytest.mark.parametrize("text", ["", "noise \ufffd\x00\x1b[31m", "X:1\nK:G\n??"])
def test_noise_has_no_sound(tmp_path: Path, text: str) -> None:
    """Only the notation is written, without characters that a terminal would obey."""
    [notation] = files.save(text, tmp_path, 1)
    written = notation.read_text()
    assert written.startswith("%abc-2.1\nX:1\nT:sample of step 1\n")
    assert not re.search(r"[^\n\x20-\x7e]", written)


@needs_mido
def test_metre_key_tempo_and_title() -> None:
    """Stand in the file, and again where they change."""
    mido = pytest.importorskip("mido")
    tune = "X:1\nM:6/8\nL:1/8\nK:Em\nefg gfe | [M:C|] [K:D] d8 | [K:Ador] A8 |]\n"
    [track] = mido.MidiFile(file=io.BytesIO(midi(tune))).tracks
    time, found = 0, []
    for message in track:
        time += message.time
        if message.type == "time_signature":
            found.append((time, f"{message.numerator}/{message.denominator}"))
        elif message.type == "key_signature":
            found.append((time, message.key))
    assert found == [(0, "Em"), (0, "6/8"), (1440, "2/2"), (1440, "D"), (3360, "G")]
    assert mido.tempo2bpm(next(m.tempo for m in track if m.type == "set_tempo")) == 120
    assert track.name == "test"


@needs_mido
def test_ties_chords_and_rests() -> None:
    """A tied note sounds once, those of a chord together, a rest not at all."""
    tune = "X:1\nM:4/4\nL:1/4\nK:C\nC-C z [CE]- | [CE] D D D |\n"
    assert played(midi(tune)) == [
        (0, 960, 60), (1440, 2400, 60), (1440, 2400, 64), (2400, 2880, 62), (2880, 3360, 62), (3360, 3840, 62),
    ]  # fmt: skip


@needs_mido
@settings(max_examples=100)
@given(text=st.text(alphabet="ABCdef'^_=2/3<>(|[]-z{}ZKM:G \n", max_size=80))
def test_whatever_a_model_writes_can_be_played(text: str) -> None:
    """Each note that begins also ends, once."""
    played(midi(f"X:1\nM:6/8\nL:1/8\nK:G\n{text}"))


@needs_mido
@needs_music21
def test_real_tunes_sound_as_music21_reads_them(tmp_path: Path) -> None:
    """30 of the collection: same pitches, starts and lengths as in its own reading of the notation.

    Those with signs that music21 (10.5) passes over together with their note (H, M, k, R, v, u), or where it forgets a
    broken rhythm (before a slur, a tie or an ornament, or twice on one note), cannot be compared.
    """
    from music21 import converter

    from spectral_mlflow.config import DatasetConfig
    from spectral_mlflow.data import corpora

    tunes = [piece.text for piece in corpora.find(DatasetConfig(name="oneills")).read()]
    fair = [
        tune for tune in tunes
        if not re.search(r"[HMkRvuTxZ~]|[<>] *[-({.\[]|[<>] ?[^ |<>]+[<>]", tune.partition("K:")[2])
        and parse(tune).parses and parse(tune).full_bars() == 1
    ]  # fmt: skip
    chosen = fair[:: len(fair) // 30][:30]
    assert len(chosen) == 30
    for tune in chosen:
        notation, sound = files.save(tune, tmp_path, 1)
        score = converter.parse(notation, format="abc").stripTies()
        read = [
            (float(element.getOffsetInHierarchy(score)), float(element.quarterLength), pitch.midi)
            for element in score.recurse().notes if not element.duration.isGrace
            for pitch in element.pitches
        ]  # fmt: skip
        expected = sorted((round(480 * start), round(480 * (start + length)), pitch) for start, length, pitch in read)
        assert played(sound.read_bytes()) == expected, tune


@needs_mido
@needs_music21
def test_music21_opens_the_sound(tmp_path: Path) -> None:
    """With its metre, its key and as many notes."""
    from music21 import converter

    _, sound = files.save(made(3), tmp_path, 1)
    score = converter.parse(sound)
    assert len(score.recurse().notes) == len(parse(made(3)).notes)
    assert {signature.ratioString for signature in score.recurse().getElementsByClass("TimeSignature")} == {"6/8"}
    assert {signature.sharps for signature in score.recurse().getElementsByClass("KeySignature")} == {1}


def test_without_mido_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is written."""
    monkeypatch.delitem(sys.modules, "mido", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"mido.*spectral-mlflow\[music\]"):
        files.save(made(0), tmp_path, 1)
    assert list(tmp_path.iterdir()) == []
