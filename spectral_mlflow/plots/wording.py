"""Texts of figures: numbers in few characters, tokens and labels that can be read and that fit."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile

import matplotlib
from matplotlib.font_manager import findfont, get_font

from spectral_mlflow.errors import UserError

LABEL = 8.5  # Size in points of what labels a line, a bar or a tick.
TITLE = 11.4  # Size in points of plain letters as wide as those of the titles of axes.
MOST_LETTERS = 14  # Of a token.
NOTHING = "∅"  # A token without letters.
UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")  # Unicode's controls, formats and white space.
MOST_COMMON = 5.5  # Inches for what all labels begin with.
NUMBER = 0.3  # Inches for the number in front of a label.

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "\\r"}


def number(value: float, digits: int = 4) -> str:
    """A number in few characters: 12.5k, 0.003, 4e-6."""
    value = value or 0.0  # No minus before a zero.
    for unit, letter in _UNITS:
        if unit <= abs(value) < 1e15:
            return f"{value / unit:.{digits}g}{letter}".replace("-", "\N{MINUS SIGN}")
    text = f"{value:.{digits}g}"
    mantissa, exponent = text.split("e") if "e" in text else (text, "")
    return (f"{mantissa}e{int(exponent)}" if exponent else text).replace("-", "\N{MINUS SIGN}")


def some(amount: int, of: int | None = None) -> int | str:
    """An amount, and what it is a part of: 8 of 12.

    Raises:
        UserError: more than there are.
    """
    if of is not None and of < amount:
        raise UserError(f"plot: given {amount:,} of {of:,}; allowed: at most as many as there are in all")
    return amount if of in (None, amount) else f"{amount:,} of {of:,}"


def counts(parts: Iterable[tuple[int | str, str]]) -> str:
    """Amounts with their nouns, multiplied: 1,024 tokens times 1 wave."""
    nouns = [(amount, noun if amount == 1 else f"{noun}s") for amount, noun in parts]
    texts = [f"{amount:,} {noun}" if isinstance(amount, int) else f"{amount} {noun}" for amount, noun in nouns]
    return " \N{MULTIPLICATION SIGN} ".join(texts)


def width(text: str, size: float) -> float:
    """How wide a text is at a size in points, in inches."""
    font = get_font(findfont("DejaVu Sans"))
    font.set_size(size, 72)
    widest = 0.0
    for part in printable(text).split("\n"):
        font.set_text(part)
        widest = max(widest, font.get_width_height()[0] / 64 / 72)
    return widest


def token(text: str) -> str:
    """A token as a label: its white space visible, its middle left out where it is very long."""
    letters = [_VISIBLE.get(letter) or _shown(letter) for letter in text]
    if sum(map(len, letters)) <= MOST_LETTERS:
        return "".join(letters) or NOTHING
    first = last = MOST_LETTERS // 2 - 1
    while first > 1 and len("".join(letters[:first])) > MOST_LETTERS // 2 - 1:  # An escape is left out whole.
        first -= 1
    while len("".join([*letters[:first], "…", *letters[len(letters) - last :]])) > MOST_LETTERS:
        last -= 1
    return "".join(letters[:first]) + "…" + "".join(letters[len(letters) - last :])


def printable(text: str) -> str:
    """A text with everything escaped that the font cannot show or nobody can see."""
    return "".join(letter if letter in "\n " else _shown(letter) for letter in text)


def line(text: str) -> str:
    """A printable text on one line."""
    return printable(text).replace("\n", _VISIBLE["\n"])


def shortened(text: str, room: float, size: float = LABEL) -> str:
    """A printable text on one line with its middle left out, as far as it takes to fit into so many inches."""
    text = line(text)
    keep = len(text)
    while keep > 2 and width(text, size) > room:
        keep = min(keep - 1, int(keep * room / width(text, size)) + 1)
        text = f"{text[: -(-keep // 2)]}…{text[len(text) - keep // 2 :]}"
    return text


def wrapped(text: str, room: float, size: float = LABEL) -> str:
    """A text in as many lines as it takes to fit into so many inches, broken between words."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if not lines[-1] or width(longer, size) <= room else [lines[-1], word]
    return "\n".join(lines)


def told_apart(labels: Sequence[str], room: float) -> tuple[list[str], str]:
    """Labels that fit into so many inches, and what an ellipsis in front of them stands for.

    Where they do not fit, first the words go with which all begin, then their middle; those that still look alike get
    their number in front.
    """
    common, texts = "", [line(label) for label in labels]
    if max(width(text, LABEL) for text in texts) > room and len(texts) > 1:
        words = [text.split(" ") for text in texts]
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))
        alike = min(alike, *(len(known) - 1 for known in words))
        common = f"… = {' '.join(words[0][:alike])}" if alike else ""
        texts = [" ".join(["…", *known[alike:]]) for known in words] if alike else texts
    short = [shortened(text, room) for text in texts]
    if len(set(short)) < len(short):
        short = [f"{place}: {shortened(text, room - NUMBER)}" for place, text in enumerate(texts, 1)]
    return short, shortened(common, MOST_COMMON)


def _shown(letter: str) -> str:
    seen = letter == " " or unicodedata.category(letter) not in UNSEEN
    return letter if seen and ord(letter) in _letters() else letter.encode("unicode_escape").decode()


@functools.cache
def _letters() -> frozenset[int]:
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
