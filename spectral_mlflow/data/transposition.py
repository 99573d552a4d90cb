"""Tunes in other keys: the same intervals, written as correctly as before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from spectral_mlflow.data.abc_key import LETTERS, Key, shift

MOST_SEMITONES = 5
MOST_ACCIDENTALS = 4  # Of a signature.

_ALTERATIONS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_SIGNS = {alteration: sign for sign, alteration in _ALTERATIONS.items()}
# A field on a line of its own or in the line, else a note.
_PART = re.compile(r"(?m)^K:(?P<line>.*)$|\[K:(?P<inline>[^\]\n]*)\]|^[A-Za-z]:(?![|:]).*$|\[[A-Za-z]:[^\]\n]*\]"
                   r"|(?P<sign>\^{1,2}|_{1,2}|=)?(?P<letter>[A-Ga-g])(?P<octave>[,']*)")  # fmt: skip


class _UnwritableError(ValueError):
    """A note or key would need signs that no musician would write."""


def transpositions(tune: str, count: int) -> Iterator[str]:
    """The tune in other keys, chosen by its hash, so that they are the same on every machine.

    Args:
        tune: ABC notation, without quoted text.
        count: most keys; a tune for which fewer can be written well has fewer.

    Yields:
        The tune, moved by at most five semitones, in a key without a sharp in its name and with at most four
        accidentals in its signature, so that every character is one that the collection has.
    """
    moves = [semitones for semitones in range(-MOST_SEMITONES, MOST_SEMITONES + 1) if semitones]
    for semitones in sorted(moves, key=lambda move: hashlib.sha256(f"{move}\n{tune}".encode()).digest()):
        moved = _moved(tune, semitones) if count else None
        if moved is not None:
            count -= 1
            yield moved


def _moved(tune: str, semitones: int) -> str | None:
    """In the spelling with the fewest accidentals of those that can be written."""
    near = round(semitones * 7 / 12)
    writable = []
    for letters in range(near - 1, near + 2):
        try:
            writable.append(transpose(tune, letters, semitones))
        except _UnwritableError:
            continue
    return min(writable, key=lambda text: abs(_first_key(text).sharps), default=None)


def transpose(tune: str, letters: int, semitones: int) -> str:
    """Move all notes and keys of a tune by one interval.

    Implicit notes follow from the key, since its signature moves along; an accidental becomes the one that raises
    the new letter by what is left of the interval.

    Args:
        tune: ABC notation, without quoted text.
        letters: of the interval, such as 2 for any third upwards.
        semitones: of the interval.

    Raises:
        ValueError: a key or a note would be unusual: see `transpositions`.
    """

    def replace(part: re.Match[str]) -> str:
        if part["letter"]:
            return _note(part, letters, semitones)
        for field, form in ((part["line"], "K:{}"), (part["inline"], "[K:{}]")):
            if field is not None:
                return form.format(_key(field, letters, semitones))
        return part[0]

    return _PART.sub(replace, tune)


def _first_key(tune: str) -> Key:
    found = re.search(r"(?m)^K:(.*)$", tune)
    key = Key.parse(found[1]) if found else None
    if key is None:
        raise _UnwritableError
    return key


def _key(field: str, letters: int, semitones: int) -> Key:
    key = Key.parse(field)
    moved = key.moved(letters, semitones) if key else None
    if moved is None or "#" in moved.tonic or abs(moved.sharps) > MOST_ACCIDENTALS:
        raise _UnwritableError(f"K:{field} by {semitones} semitones")
    return moved


def _note(part: re.Match[str], letters: int, semitones: int) -> str:
    place = LETTERS.index(part["letter"].upper()) + 7 * part["letter"].islower()
    place += 7 * (part["octave"].count("'") - part["octave"].count(","))
    place, alteration = shift(place, letters, semitones)
    sign = ""
    if part["sign"]:
        alteration += _ALTERATIONS[part["sign"]]
        if abs(alteration) > 1:
            raise _UnwritableError(f"{part[0]} by {semitones} semitones")
        sign = _SIGNS[alteration]
    octave, letter = divmod(place, 7)
    name = LETTERS[letter].lower() if octave >= 1 else LETTERS[letter]
    return sign + name + ("'" * (octave - 1) if octave >= 1 else "," * -octave)
