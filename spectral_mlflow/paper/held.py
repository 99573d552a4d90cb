"""Texts that came from a function of the templates, told apart from what was typed.

A function gives its text away as a mark of private-use characters, which no template can make up: the
text itself is put in when the whole document is known. So a number in the text is a fact if and only
if it stands inside of such a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

FIRST, LAST = "\ue000", "\ue01f"
_OPEN, _CLOSE, _ZERO = "\ue000", "\ue001", 0xE010
_MARK = re.compile(f"{_OPEN}([{chr(_ZERO)}-{chr(_ZERO + 9)}]+){_CLOSE}")


@dataclass(frozen=True)
class Held:
    """A text that a function of the templates gave.

    Attributes:
        text: may hold further marks.
        digits: whether the numbers that it shows are no bare ones.
        words: whether the words of comparison in it are bound to a test, or said to be none.
        note: what the ledger keeps of it, None for nothing.
    """

    text: str
    digits: bool
    words: bool
    note: Any


@dataclass(frozen=True)
class Span:
    """Where a held text stands."""

    start: int
    end: int
    held: Held


class Holder:
    """Keeps the texts of one document."""

    def __init__(self) -> None:
        self._held: list[Held] = []

    def hold(self, text: str, *, digits: bool = True, words: bool = True, note: Any = None) -> str:
        """Keep a text and give its mark."""
        self._held.append(Held(text, digits, words, note))
        place = "".join(chr(_ZERO + int(digit)) for digit in str(len(self._held) - 1))
        return f"{_OPEN}{place}{_CLOSE}"

    def expand(self, text: str) -> tuple[str, list[Span]]:
        """The text with all marks filled in, and where each held text stands in it, outer ones first."""
        pieces: list[str] = []
        spans: list[Span] = []
        self._expand(text, 0, pieces, spans)
        return "".join(pieces), sorted(spans, key=lambda span: (span.start, -span.end))

    def _expand(self, text: str, offset: int, pieces: list[str], spans: list[Span]) -> int:
        """Append the expanded text, which starts at an offset; gives its end."""
        done = 0
        for mark in _MARK.finditer(text):
            offset = _append(text[done : mark.start()], offset, pieces)
            held = self._held[int("".join(chr(ord(digit) - _ZERO + 48) for digit in mark[1]))]
            end = self._expand(held.text, offset, pieces, spans)
            spans.append(Span(offset, end, held))
            offset, done = end, mark.end()
        return _append(text[done:], offset, pieces)


def _append(text: str, offset: int, pieces: list[str]) -> int:
    pieces.append(text)
    return offset + len(text)
