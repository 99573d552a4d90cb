"""Tunes that are none: real ones with their notes in disorder, and those of chance and of Markov chains."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

_NOTE = re.compile(r"[\^_=]*[A-Ga-g][,']*")
_TOKEN = re.compile(
    r"\[[A-Za-z]:[^\]]*\]|\([2-9]|[:|\[\]]*\|[:|\]]*\d?|::|\{[^}]*\}|[\^_=]*[A-Ga-g][,']*[\d/]*|[zx][\d/]*|[<>]+|\n|."
)
_FIELD = re.compile(r"[A-Za-z]:(?![|:]).*")

END = ""
Make = Callable[[str, random.Random], str]


def parts(tune: str) -> tuple[str, str]:
    """Header and notes of a tune."""
    start = tune.index("K:")
    end = tune.index("\n", start) + 1
    return tune[:end], tune[end:]


def _group(header: str) -> str:
    """Metre and key: a chain that was learned from tunes with the same two is as good as a chain can be."""
    return "".join(sorted(line for line in header.splitlines() if line[0] in "MKL"))


def _replaced(notes: str, pitches: Iterable[str]) -> str:
    """The notes with other pitches, in their rhythm and with their bars."""
    remaining = iter(pitches)
    lines = (line if _FIELD.fullmatch(line) else _NOTE.sub(lambda _: next(remaining), line)
             for line in notes.split("\n"))  # fmt: skip
    return "\n".join(lines)


def _pitches(notes: str) -> list[str]:
    return [note for line in notes.split("\n") if not _FIELD.fullmatch(line) for note in _NOTE.findall(line)]


def shuffled(tune: str, chance: random.Random) -> str:
    """Its own pitches in another order; rhythm and bars are untouched."""
    header, notes = parts(tune)
    pitches = _pitches(notes)
    chance.shuffle(pitches)
    return header + _replaced(notes, pitches)


def random_pitches(tune: str, chance: random.Random) -> str:
    """Any notes of its key over two octaves; rhythm and bars are untouched."""
    header, notes = parts(tune)
    return header + _replaced(notes, (chance.choice("CDEFGABcdefgab") for _ in iter(int, 1)))


def random_text(tune: str, chance: random.Random) -> str:
    """Its own characters in another order, below its header."""
    header, notes = parts(tune)
    characters = [character for character in notes if character != "\n"]
    chance.shuffle(characters)
    return header + "".join(characters) + "\n"


def random_notes(tune: str, chance: random.Random) -> str:
    """Any notes of its key and any usual lengths, as many as it has, with a bar line where its bars would end."""
    header, notes = parts(tune)
    music = []
    for number in range(len(_pitches(notes))):
        music.append(chance.choice("CDEFGABcdefgab") + chance.choice(["", "", "", "2", "/2", "3"]))
        if number % 6 == 5:
            music.append(" | ")
    return header + "".join(music) + " ||\n"


class Chain:
    """A Markov chain of tokens, one for each metre and key that has enough tunes, and one of all."""

    def __init__(self, tunes: Iterable[str], order: int, cut: Callable[[str], Sequence[str]]) -> None:
        """Learn from tunes.

        Args:
            tunes: with their headers.
            order: number of tokens that decide the next one.
            cut: notes to tokens.
        """
        self._order, self._cut = order, cut
        self._tables: dict[str, dict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
        self._tunes: dict[str, int] = defaultdict(int)
        for tune in tunes:
            header, notes = parts(tune)
            for group in ("", _group(header)):
                self._tunes[group] += 1
                self._learn(self._tables[group], cut(notes))

    def _learn(self, table: dict[tuple[str, ...], list[str]], tokens: Sequence[str]) -> None:
        padded = [END] * self._order + [*tokens, END]
        for place in range(len(padded) - self._order):
            table[tuple(padded[place : place + self._order])].append(padded[place + self._order])

    def tokens(self, header: str, most: int, chance: random.Random, *, exactly: bool = False) -> list[str]:
        """What the chain says for a header, until it ends; or so many tokens, beginning again where it ends."""
        group = _group(header)
        table = self._tables[group if self._tunes.get(group, 0) >= 30 else ""]
        state, said = (END,) * self._order, list[str]()
        while len(said) < most:
            token = chance.choice(table[state])
            state = (*state[1:], token)
            if token != END:
                said.append(token)
            elif not exactly and said:
                break
            else:
                state = (END,) * self._order
        return said

    def tune(self, tune: str, chance: random.Random) -> str:
        """A tune of the chain with the header of this one, and at most as long."""
        header, notes = parts(tune)
        said = "".join(self.tokens(header, len(self._cut(notes)), chance))
        return header + re.sub(r"\n+", "\n", said).strip("\n") + "\n"

    def pitches(self, tune: str, chance: random.Random) -> str:
        """This tune with the pitches that the chain says; rhythm and bars are untouched."""
        header, notes = parts(tune)
        return header + _replaced(notes, self.tokens(header, len(_pitches(notes)), chance, exactly=True))


def makers(tunes: Sequence[str]) -> dict[str, Make]:
    """Ways to make a tune that is none out of a real one, by name; chains learn from these tunes."""
    chains: dict[str, Make] = {}
    for order in (1, 2):
        chains[f"Markov of characters, order {order}"] = Chain(tunes, order, list).tune
        chains[f"Markov of notes, order {order}"] = Chain(tunes, order, _TOKEN.findall).tune
        chains[f"Markov of pitches, order {order}, in a real rhythm"] = Chain(tunes, order, _pitches).pitches
    return {
        "its pitches shuffled": shuffled,
        "random pitches in its rhythm": random_pitches,
        "random notes and lengths": random_notes,
        "its characters shuffled": random_text,
        **chains,
    }
