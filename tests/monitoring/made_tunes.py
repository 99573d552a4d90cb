"""Tunes as they are made by the book: two parts, each of them twice, in small steps."""

import random

LADDER = "DEFGABcdefga"


def made(seed: int) -> str:
    """A jig of two parts, AABB, whose last phrases are alike."""
    chance = random.Random(seed)
    end = _phrase(chance, 5)
    parts = []
    for middle in (4, 7):
        first, second = _phrase(chance, middle), _phrase(chance, middle)
        parts.append(f"{first} | {second} | {first} | {end} | {first} | {second} | {first} | {end} ")
    return f"X:1\nM:6/8\nL:1/8\nK:G\n{parts[0]}:|\n|: {parts[1]}:|\n"


def _phrase(chance: random.Random, place: int) -> str:
    notes = []
    for _ in range(chance.choice([4, 5, 6])):
        place = max(0, min(len(LADDER) - 1, place + chance.choice([-2, -1, -1, 1, 1, 2])))
        notes.append(LADDER[place])
    lengths = {4: ("2", "", "2", ""), 5: ("2", "", "", "", ""), 6: ("",) * 6}[len(notes)]
    return "".join(note + length for note, length in zip(notes, lengths, strict=True))


def shuffled(tune: str, seed: int) -> str:
    """The same notes in another order, in the same rhythm."""
    header, notes = tune.split("K:G\n")
    letters = [letter for letter in notes if letter in LADDER]
    random.Random(seed).shuffle(letters)
    remaining = iter(letters)
    return header + "K:G\n" + "".join(next(remaining) if letter in LADDER else letter for letter in notes)
