"""Keys of ABC notation (standard 2.1, section 4.6): what ``K:`` names, its signature, the key an interval away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

LETTERS = "CDEFGAB"
NATURALS = (0, 2, 4, 5, 7, 9, 11)  # Semitones of the letters above C.

_FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_MODES = {"ion": 0, "maj": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "lyd": 1, "loc": -5}
_KEY = re.compile(r"([A-G])([#b]?) *([A-Za-z]*)")


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        tonic: letter, with # or b.
        mode: as it was written, such as m or Mix; empty for major.
    """

    tonic: str
    mode: str

    @classmethod
    def parse(cls, field: str) -> Self | None:
        """The key of a ``K:`` field; None where it names none."""
        found = _KEY.fullmatch(field.strip())
        if found is None or _mode(found[3]) is None:
            return None
        return cls(found[1] + found[2], found[3])

    def __str__(self) -> str:
        return self.tonic + self.mode

    @property
    def sharps(self) -> int:
        """Number of sharps of the signature; flats are negative."""
        accidental = 7 * (self.tonic.count("#") - self.tonic.count("b"))
        return _FIFTHS[self.tonic[0]] + accidental + (_mode(self.mode) or 0)

    def alterations(self) -> dict[str, int]:
        """Semitones by which the signature raises each letter that it changes."""
        order, sign = ("FCGDAEB", 1) if self.sharps >= 0 else ("BEADGCF", -1)
        count = abs(self.sharps)
        return {letter: sign * (1 + (count - 1 - place) // 7) for place, letter in enumerate(order[:count])}

    def moved(self, letters: int, semitones: int) -> Key | None:
        """The key an interval away; None where its tonic has more than one accidental."""
        letter, alteration = shift(LETTERS.index(self.tonic[0]), letters, semitones)
        alteration += self.tonic.count("#") - self.tonic.count("b")
        if abs(alteration) > 1:
            return None
        return Key(LETTERS[letter % 7] + ("", "#", "b")[alteration], self.mode)


def shift(letter: int, letters: int, semitones: int) -> tuple[int, int]:
    """Move a natural note by an interval.

    Args:
        letter: counted from middle C, seven to the octave.
        letters: of the interval.
        semitones: of the interval.

    Returns:
        The letter that it comes to, and by how many semitones this one is to be raised.
    """
    moved = letter + letters
    return moved, semitones - (natural(moved) - natural(letter))


def natural(letter: int) -> int:
    """Semitones above middle C of a letter counted from there."""
    return 12 * (letter // 7) + NATURALS[letter % 7]


def _mode(text: str) -> int | None:
    return _MODES.get(text.lower()[:3]) if text else 0
