"""Samples of music as files: the notation as .abc, and as .mid to listen to."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from typing import Any

from spectral_mlflow.data.abc_key import Key
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.monitoring.music.abc import parse, split
from spectral_mlflow.monitoring.music.quality import complete, is_valid
from spectral_mlflow.monitoring.music.tune import Note, Tune

TICKS = 480  # Of a quarter note.
BEATS_PER_MINUTE = 120  # Quarter notes, as ABC has them where no tempo is given.
VERSION = "%abc-2.1\n"  # Without it programs read accidentals by older rules.

# By their signature, from seven flats to seven sharps.
_MAJOR = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
_MINOR = ("Abm", "Ebm", "Bbm", "Fm", "Cm", "Gm", "Dm", "Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m")
_UNWRITABLE = re.compile(r"[^\n\x20-\x7e]")


def check_extra() -> None:
    """See that .mid can be written.

    Raises:
        UserError: the package that writes it is not installed.
    """
    if importlib.util.find_spec("mido") is None:
        raise UserError(
            "files of music need the package mido, which is not installed: pip install 'spectral-mlflow[music]' "
            "(in a clone: pip install -e '.[music]'), or choose another dataset.name"
        )


def save(text: str, folder: Path, step: int) -> list[Path]:
    """Write a sample as ``sample_step_N.abc``, and as ``sample_step_N.mid`` where a tune in it can be played.

    The .abc file holds what was generated, numbered tune by tune, without characters that no ABC file may have. The
    .mid file plays its first valid tune, or if there is none the first one that parses; without one there is none.

    Args:
        text: any number of tunes.
        folder: made if missing.
        step: of the run.

    Returns:
        The files, .abc first.

    Raises:
        UserError: mido is not installed.
        OSError: the disk refuses.
    """
    check_extra()
    notation = folder / f"sample_step_{step}.abc"
    replace_file(notation, readable(text, step).encode())
    tune = playable(text)
    if tune is None:
        return [notation]
    sound = notation.with_suffix(".mid")
    replace_file(sound, midi(tune, f"step {step}"))
    return [notation, sound]


def readable(text: str, step: int) -> str:
    """The notation as a file that other programs open: a version, and numbered tunes with titles."""
    tunes = split(_UNWRITABLE.sub("", text)) or [f"X:1\n{_UNWRITABLE.sub('', text)}\n"]
    numbered = (
        re.sub(r"^X:.*\n", f"X:{number}\nT:sample of step {step}\n", tune, count=1)
        for number, tune in enumerate(tunes, 1)
    )
    return VERSION + "\n".join(numbered)


def playable(text: str) -> Tune | None:
    """The first valid tune of a sample, else the first one that parses; None without one."""
    tunes = [tune for tune in map(parse, complete(text)) if tune.parses]
    return next(filter(is_valid, tunes), tunes[0] if tunes else None)


def midi(tune: Tune, title: str) -> bytes:
    """A tune as a MIDI file: one track with title, tempo, metres, keys and notes; repeats and ornaments are not played.

    Args:
        tune: as it was read.
        title: name of the track.
    """
    import mido

    track = mido.MidiTrack()
    track.append(mido.MetaMessage("track_name", name=title))
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(BEATS_PER_MINUTE)))
    now = 0
    for tick, message in _messages(mido, tune):
        track.append(message.copy(time=tick - now))
        now = tick
    file = mido.MidiFile(ticks_per_beat=TICKS, tracks=[track])
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def _messages(mido: Any, tune: Tune) -> list[tuple[int, Any]]:
    """Messages by their ticks; at one tick what ends comes first, then what changes, then what begins."""
    found: list[tuple[int, int, Any]] = []
    starts, ends = _ticks(tune.notes)
    for place, change in tune.changes:
        tick = starts[place] if place < len(starts) else (ends[-1] if ends else 0)
        found.append((tick, 1, _meta(mido, change)))
    held: dict[int, int] = {}
    for number, note in enumerate(tune.notes):
        following = tune.notes[number + 1].pitches if number + 1 < len(tune.notes) else ()
        for pitch in note.pitches:
            begun = held.pop(pitch, starts[number])
            if note.tied and pitch in following:
                held[pitch] = begun
                continue
            found.append((begun, 2, mido.Message("note_on", note=pitch, velocity=80)))
            found.append((ends[number], 0, mido.Message("note_off", note=pitch, velocity=0)))
    return [(tick, message) for tick, _, message in sorted(found, key=lambda row: row[:2])]


def _ticks(notes: list[Note]) -> tuple[list[int], list[int]]:
    """Where each note begins and ends; sums are rounded, not notes, so that nothing drifts."""
    starts, ends, time = [], [], 0.0
    for note in notes:
        starts.append(round(time * TICKS))
        time += note.length
        ends.append(round(time * TICKS))
    return starts, ends


def _meta(mido: Any, change: tuple[int, int] | Key) -> Any:
    if isinstance(change, Key):
        return mido.MetaMessage("key_signature", key=_signature(change))
    beats, unit = change
    return mido.MetaMessage("time_signature", numerator=beats, denominator=unit)


def _signature(key: Key) -> str:
    """In the words of mido, which knows major and minor keys alone; of other modes the major key of the signature."""
    names = _MINOR if key.mode.lower()[:3] in ("m", "min", "aeo") else _MAJOR
    return names[max(-7, min(7, key.sharps)) + 7]
