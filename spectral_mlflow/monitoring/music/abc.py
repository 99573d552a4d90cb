"""Tunes in ABC notation (standard 2.1): what is played, and where the notation cannot be read.

A parser of its own, because that of music21 takes 10 to 100 ms a tune and gives up at the first character that it does
not know, while a model that is being trained writes many.
"""

from __future__ import annotations

import re

from spectral_mlflow.data.abc_key import LETTERS, Key, natural
from spectral_mlflow.monitoring.music.tune import TOLERANCE, Bar, Note, Tune

MIDDLE_C, HIGHEST = 60, 127
SHORTEST, LONGEST = 1 / 64, 64.0  # Note that can be meant, in quarter notes.
MOST_BROKEN = 3  # Signs of a broken rhythm.

_LENGTH = r"\d*(?:/+\d*)?"
# What is never closed ends where the next one opens: else each of many would be read to the end of the line.
_TOKEN = re.compile(
    rf"""(?P<field>\[[A-Za-z]:[^][\n]*\])
    |(?P<skipped>\{{[^{{}}\n]*\}}|"[^"\n]*"|![^!\n]*!|[()\s.~HLMOPSTRuvky`\\-])
    |(?P<bar>(?:::|:?\[?\|[|:\]]*)(?:\ *\[?[1-9](?:[,-][1-9])*(?![/\d]))?|\[[1-9](?:[,-][1-9])*)
    |\[(?P<chord>(?:[\^_=]*[A-Ga-g][,']*{_LENGTH})+)\](?P<chord_length>{_LENGTH})(?P<chord_tie>-?)
    |(?P<sign>\^{{1,2}}|_{{1,2}}|=)?(?P<letter>[A-Ga-g])(?P<octave>[,']*)(?P<length>{_LENGTH})(?P<tie>-?)
    |(?P<rest>[zx])(?P<rest_length>{_LENGTH})|Z(?P<rest_bars>\d*)
    |(?P<broken>>+|<+)
    |(?P<unknown>.)""",
    re.VERBOSE,
)
_TUPLET = re.compile(r"\((?P<p>[2-9])(?::(?P<q>\d?))?(?::(?P<r>\d?))?")
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # Notes of the others fill 2 in simple metres, and 3 in compound ones.
_NOTE = re.compile(rf"(\^{{1,2}}|_{{1,2}}|=)?([A-Ga-g])([,']*)({_LENGTH})")
_ALTERATIONS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_FIELD = re.compile(r"([A-Za-z]):(?![|:])(.*)")  # Else it is a note before a repeat.


def split(text: str) -> list[str]:
    """The tunes of a text, each from its ``X:`` to the next empty line or tune; the last one may be cut short."""
    parts = re.split(r"(?m)^(?=X:)|\n[ \t]*\n", text)
    return [part.strip("\n") + "\n" for part in parts if part.startswith("X:")]


def parse(text: str) -> Tune:
    """Read a tune. Whatever cannot be read is counted, and the rest is read on."""
    header, body = _header(text)
    reader = _Reader(header)
    for line in body:
        reader.read(line)
    return reader.finish()


def _header(text: str) -> tuple[dict[str, str], list[str]]:
    """Fields up to ``K:``, and the lines behind it."""
    header: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        found = _FIELD.fullmatch(line)
        if found is None:
            return header, lines[number:]
        header.setdefault(found[1], found[2].strip())
        if found[1] == "K":
            return header, lines[number + 1 :]
    return header, []


def read_metre(text: str) -> tuple[int, int] | None:
    """Beats and unit of an ``M:`` field; None where it names none."""
    text = text.strip()
    if text in ("C", "C|"):
        return (4, 4) if text == "C" else (2, 2)
    found = re.fullmatch(r"([1-9]\d?)/(1|2|4|8|16|32)", text)
    return (int(found[1]), int(found[2])) if found else None


def _read_unit(text: str) -> float | None:
    found = re.fullmatch(r"1/(1|2|4|8|16|32|64)", text.strip())
    return 4 / int(found[1]) if found else None


def _factor(text: str) -> float:
    """How many units a length such as 3, 3/2, / or // is."""
    digits, slash, below = text.partition("/")
    length = float(digits or 1)
    if not slash:
        return length
    below = below.lstrip("/")
    return length / (float(below) or 1) if below else length * 0.5 ** text.count("/")


class _Reader:
    """Reads the notes of a tune, line by line."""

    def __init__(self, header: dict[str, str]) -> None:
        self.tune = Tune(header, Key.parse(header.get("K", "")), read_metre(header.get("M", "")))
        self.metre = self.tune.metre or (4, 4)
        usual = 0.25 if self.metre[0] / self.metre[1] < 0.75 else 0.5
        self.unit = _read_unit(header.get("L", "")) or usual
        self.signature = self.tune.key.alterations() if self.tune.key else {}
        self.accidentals: dict[str, int] = {}
        self.time = 0.0
        self.edge = True
        self.times = 1.0  # What the next note is multiplied by, as a broken rhythm or a tuplet wants it.
        self.tuplet_left = 0
        self.tuplet_times = 1.0
        if self.tune.key:
            self.tune.changes.append((0, self.tune.key))
        if self.tune.metre:
            self.tune.changes.append((0, self.tune.metre))

    def read(self, line: str) -> None:
        """Take a line of fields or notes."""
        found = _FIELD.fullmatch(line)
        if found and found[1] not in "Zz":
            self._field(found[1], found[2])
            return
        place = 0
        while place < len(line):
            token = _TUPLET.match(line, place)
            if token:
                self._tuplet(token)
            else:
                token = _TOKEN.match(line, place)
                if token is None:
                    raise AssertionError(f"no token at {place} of {line!r}")
                self._take(token)
            place = token.end()

    def finish(self) -> Tune:
        """The tune, once all lines are read."""
        self._bar("|]")
        return self.tune

    def _take(self, token: re.Match[str]) -> None:
        if token["letter"]:
            self._note(token)
        elif token["bar"]:
            self._bar(token["bar"])
        elif token["chord"]:
            self._chord(token)
        elif token["rest"]:
            self._add((), _factor(token["rest_length"]), tied=False)
        elif token["rest_bars"] is not None:
            self.times, self.tuplet_left = 1.0, 0
            bars = float(token["rest_bars"] or 1)
            self._add((), bars * self._bar_length() / self.unit, tied=False)
        elif token["broken"]:
            self._broken(token["broken"])
        elif token["field"]:
            self._field(token["field"][1], token["field"][3:-1])
        elif token["unknown"]:
            self.tune.unknown += 1

    def _field(self, name: str, text: str) -> None:
        """A change of key, metre or unit."""
        if name == "K":
            key = Key.parse(text)
            if key is None:
                self.tune.unknown += 1
            else:
                self.signature = key.alterations()
                self.tune.changes.append((len(self.tune.notes), key))
        elif name == "M":
            metre = read_metre(text)
            self.tune.unknown += metre is None
            self.metre = metre or self.metre
            self.tune.changes.append((len(self.tune.notes), self.metre))
        elif name == "L":
            self.unit = _read_unit(text) or self.unit

    def _tuplet(self, token: re.Match[str]) -> None:
        notes = int(token["p"])
        compound = self.metre[0] % 3 == 0 and self.metre[0] > 3
        time = int(token["q"] or 0) or _TUPLET_TIME.get(notes, 3 if compound else 2)
        self.tuplet_left = int(token["r"] or 0) or notes
        self.tuplet_times = time / notes

    def _broken(self, signs: str) -> None:
        """``a>b``: the first note grows by what the second one shrinks."""
        inside = self.tune.notes and self.tune.notes[-1].bar == len(self.tune.bars)
        if not inside or self.times != 1.0 or len(signs) > MOST_BROKEN:
            self.tune.unknown += 1
            return
        short = 0.5 ** len(signs)
        before, self.times = (2 - short, short) if signs[0] == ">" else (short, 2 - short)
        last = self.tune.notes[-1]
        self.time += last.length * (before - 1)
        last.length *= before

    def _note(self, token: re.Match[str]) -> None:
        pitch = self._pitch(token["sign"], token["letter"], token["octave"])
        self._add((pitch,), _factor(token["length"]), tied=bool(token["tie"]))

    def _chord(self, token: re.Match[str]) -> None:
        notes = list(_NOTE.finditer(token["chord"]))
        pitches = tuple(self._pitch(note[1], note[2], note[3]) for note in notes)
        self._add(pitches, _factor(notes[0][4]) * _factor(token["chord_length"]), tied=bool(token["chord_tie"]))

    def _pitch(self, sign: str | None, letter: str, octaves: str) -> int:
        """An accidental holds for its letter, in every octave, until the bar ends."""
        name = letter.upper()
        octave = letter.islower() + octaves.count("'") - octaves.count(",")
        if sign:
            self.accidentals[name] = _ALTERATIONS[sign]
        alteration = self.accidentals.get(name, self.signature.get(name, 0))
        pitch = MIDDLE_C + natural(LETTERS.index(name) + 7 * octave) + alteration
        if not 0 <= pitch <= HIGHEST:
            self.tune.unknown += 1
        return max(0, min(HIGHEST, pitch))

    def _add(self, pitches: tuple[int, ...], factor: float, *, tied: bool) -> None:
        times = self.times * (self.tuplet_times if self.tuplet_left else 1.0)
        self.tuplet_left = max(0, self.tuplet_left - 1)
        self.times = 1.0
        length = factor * self.unit * times
        if not SHORTEST <= length <= LONGEST:
            self.tune.unknown += 1
            length = self.unit
        self.tune.notes.append(Note(pitches, length, self.time, len(self.tune.bars), tied))
        self.time += length

    def _bar(self, sign: str) -> None:
        is_edge = sign.strip() != "|"
        if self.time > TOLERANCE:
            self.tune.bars.append(Bar(self.time, self._bar_length(), self.edge or is_edge))
            self.edge = False
        self.edge = self.edge or is_edge
        self.time, self.tuplet_left = 0.0, 0
        self.accidentals.clear()

    def _bar_length(self) -> float:
        return 4 * self.metre[0] / self.metre[1]
