"""Sentences of a Markdown text, with their places."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

_ABBREVIATIONS = ("e.g.", "i.e.", "et al.", "cf.", "vs.", "Fig.", "Eq.", "Sec.", "No.")
_END = re.compile(r"[.!?][\"')\]*_\u201d\u2019]*(?=\s+[\"'(\[*_\u201c\u2018]*[A-Z\d$`])")
# A heading, a list's item, a table's row and a quotation begin a block of their own.
_BLOCK = re.compile(r"^\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|\||>|!\[)")
_FENCE = re.compile(r"^\s*(```+|~~~+)")
TAG = r"<!--.*?-->|</?[A-Za-z][^<>\n]*>"  # Of HTML: a sign of less or more is none.
_CLUTTER = re.compile(TAG + r"|^[\s>]*(?:#{1,6}\s+|[-*+]\s+|\d+[.)]\s+)?")


class Sentences:
    """Sentences by place; headings, items of lists, rows of tables and blocks of code are sentences too."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Start and end of each."""
        return [part for start, end in _blocks(self.text) for part in _parts(self.text, start, end)]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.places]

    def at(self, place: int) -> str:
        """The sentence that a character belongs to, on one line."""
        index = max(bisect_right(self._starts, place) - 1, 0)
        start, end = self.places[index]
        return tidy(self.text[start:end])


def tidy(text: str) -> str:
    """A sentence on one line, without the marks of lists and headings."""
    return " ".join(_CLUTTER.sub("", text.strip()).replace("&nbsp;", " ").split())


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    begun, place, fence = 0, 0, ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
        elif mark or not line.strip() or _BLOCK.match(line):
            if text[begun:place].strip():
                yield begun, place
            begun, fence = place, mark[1] if mark else ""
        place += len(line)
    if text[begun:].strip():
        yield begun, place


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    if _FENCE.match(text[start:end].lstrip("\n")):
        yield start, end
        return
    for stop in _END.finditer(text, start, end):
        if not text[start : stop.end()].endswith(_ABBREVIATIONS):
            yield start, stop.end()
            start = stop.end()
    yield start, end
