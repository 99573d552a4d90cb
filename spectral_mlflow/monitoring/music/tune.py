"""A tune: its notes and its bars, as they are played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from spectral_mlflow.data.abc_key import Key

FEWEST_NOTES = 8  # Of what may be called a tune.
TOLERANCE = 1e-6  # Of sums of lengths, in quarter notes.


@dataclass(slots=True)
class Note:
    """A note, a chord or a rest.

    Attributes:
        pitches: as MIDI counts them, 60 for middle C; empty for a rest.
        length: in quarter notes.
        onset: in quarter notes since the bar began.
        bar: number of its bar.
        tied: whether it goes on in the next one.
    """

    pitches: tuple[int, ...]
    length: float
    onset: float
    bar: int
    tied: bool = False


@dataclass(slots=True)
class Bar:
    """What stands between two bar lines.

    Attributes:
        length: of its notes, in quarter notes.
        wanted: of a full bar in its metre, in quarter notes.
        at_edge: whether a part of the tune begins or ends with it, so that an upbeat may be missing.
    """

    length: float
    wanted: float
    at_edge: bool

    @property
    def is_full(self) -> bool:
        """Whether its notes fill its metre."""
        return abs(self.length - self.wanted) < TOLERANCE


@dataclass
class Tune:
    """A tune as it is read.

    Attributes:
        header: its fields before the notes.
        key: of its header; None where it names none.
        metre: (beats, unit) of its header; None where it has none.
        notes: in their order.
        bars: those that have notes.
        unknown: characters that mean nothing in ABC, and notes that nobody can play.
        changes: (number of the note, metre or key) where they change, from the first one on.
    """

    header: dict[str, str]
    key: Key | None
    metre: tuple[int, int] | None
    notes: list[Note] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    unknown: int = 0
    changes: list[tuple[int, tuple[int, int] | Key]] = field(default_factory=list)

    @property
    def parses(self) -> bool:
        """Whether it has a key, a metre and enough notes, and every character of it means something."""
        played = sum(1 for note in self.notes if note.pitches)
        return self.key is not None and self.metre is not None and not self.unknown and played >= FEWEST_NOTES

    def full_bars(self) -> float:
        """Share of the bars that fill their metre, of those that an upbeat cannot excuse."""
        inner = [bar for bar in self.bars if not bar.at_edge]
        return sum(bar.is_full for bar in inner) / len(inner) if inner else 0.0


def melody(tune: Tune) -> Iterator[Note]:
    """The highest voice, with tied notes of one pitch as one; without rests."""
    last: Note | None = None
    for note in tune.notes:
        highest = (max(note.pitches),) if note.pitches else ()
        if last is not None and last.tied and last.pitches == highest:
            last.length += note.length
            last.tied = note.tied
            continue
        if last is not None:
            yield last
        last = Note(highest, note.length, note.onset, note.bar, note.tied) if highest else None
    if last is not None:
        yield last
