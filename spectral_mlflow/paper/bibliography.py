"""The works that the documents cite, read from BibTeX: how they are cited and how they are listed.

BibTeX is read here and not by pandoc, so that documents have their citations where pandoc is missing,
and titles keep the capitals that were typed.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.markdown import md

REFERENCES = Path(__file__).parent / "references.bib"

_ENTRY = re.compile(r"@(\w+)\s*\{\s*([^\s,{}]+)\s*,")
_FIELD = re.compile(r"\s*(\w+)\s*=\s*")
_ACCENT = re.compile(r"""\\([`'^"~=.cvuHk])\s*\{?(\\?[A-Za-z])\}?""")
_COMBINING = dict(
    zip("`'^\"~=.cvuHk", map(chr, (768, 769, 770, 776, 771, 772, 775, 807, 780, 774, 779, 808)), strict=True)
)
_LETTERS = {
    r"\L": "Ł",
    r"\l": "ł",
    r"\O": "Ø",
    r"\o": "ø",
    r"\ss": "ß",
    r"\ae": "æ",
    r"\AE": "Æ",
    r"\aa": "å",
    r"\&": "&",
}


@dataclass(frozen=True)
class Work:
    """A cited work.

    Attributes:
        key: its name in the bibliography.
        kind: kind of the BibTeX entry, for example ``article``.
        fields: the BibTeX fields by lower-case name, without braces and TeX accents.
        authors: (family name, given names) in the order of the work; given names may be empty.
        suffix: letter that tells works of the same authors and year apart; empty if there is one only.
    """

    key: str
    kind: str
    fields: Mapping[str, str]
    authors: tuple[tuple[str, str], ...]
    suffix: str = ""

    @property
    def authors_short(self) -> str:
        """Authors as in a citation: up to two names, else the first one and "et al."."""
        names = [family for family, _ in self.authors]
        return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."

    @property
    def year(self) -> str:
        """Year, with the letter that tells works of one year apart."""
        return self.fields["year"] + self.suffix

    @property
    def order(self) -> tuple[str, str, str]:
        """Place in a list of references: by authors, year and title, accents aside."""
        names = " ".join(f"{family} {given}" for family, given in self.authors)
        return _plain(names).casefold(), self.fields["year"], self.fields["title"].casefold()

    @property
    def entry(self) -> str:
        """Entry of the list of references, as one line of Markdown."""
        parts = [f"{_people(self.authors)} ({self.year})", _title(self.fields["title"]), self._venue(), self._link()]
        text = ". ".join(part.rstrip(".") for part in parts if part) + "."
        return text.replace("?.", "?")

    def _venue(self) -> str:
        found = self.fields
        name = next((found[field] for field in _VENUES if field in found), "")
        where = f"*{_title(name)}*" if name else ""
        if "volume" in found:
            where += f", {found['volume']}" + (f"({found['number']})" if "number" in found else "")
        if "pages" in found:
            where += f", {found['pages']}"
        note = md(found["note"]) if "note" in found else ""
        return ". ".join(part for part in (where.replace("--", "\u2013"), note) if part)

    def _link(self) -> str:
        if "doi" in self.fields:
            return f"[doi:{md(self.fields['doi'])}](https://doi.org/{self.fields['doi']})"
        if "eprint" in self.fields:
            return f"[arXiv:{self.fields['eprint']}](https://arxiv.org/abs/{self.fields['eprint']})"
        return f"<{self.fields['url']}>" if "url" in self.fields else ""


_VENUES = ("journal", "booktitle", "institution", "school", "publisher", "howpublished")


@lru_cache(maxsize=8)
def load(path: Path = REFERENCES) -> Mapping[str, Work]:
    """The works of a BibTeX file by key.

    Raises:
        UserError: the file cannot be read, an entry lacks author, title or year, or a key is used twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise UserError(f"{path} cannot be read as BibTeX ({failure})") from failure
    works: dict[str, Work] = {}
    for found in _ENTRY.finditer(re.sub(r"(?m)^\s*%.*$", "", text)):
        kind, key = found[1].lower(), found[2]
        if key in works:
            raise UserError(f"{path}: {key} is defined twice; give each work a key of its own")
        fields = _fields(found.string, found.end())
        lacking = [name for name in ("author", "title", "year") if not fields.get(name)]
        if lacking:
            raise UserError(f"{path}: {key} has no {' and no '.join(lacking)}; every work needs author, title and year")
        works[key] = Work(key, kind, {name: _text(value) for name, value in fields.items()}, _authors(fields["author"]))
    return _told_apart(works)


def cite(keys: Iterable[str], works: Mapping[str, Work]) -> str:
    """Citation in parentheses, as Markdown: ``([Vaswani et al., 2017](#ref-...); [Su et al., 2024](#ref-...))``.

    Raises:
        UserError: the bibliography has no such work.
    """
    cited = [work(key, works) for key in keys]
    return "(" + "; ".join(f"[{md(one.authors_short)}, {one.year}](#ref-{one.key})" for one in cited) + ")"


def citet(key: str, works: Mapping[str, Work]) -> str:
    """Citation as a part of the sentence, as Markdown: ``[Vaswani et al. (2017)](#ref-...)``.

    Raises:
        UserError: the bibliography has no such work.
    """
    cited = work(key, works)
    return f"[{md(cited.authors_short)} ({cited.year})](#ref-{key})"


def reference_list(keys: Iterable[str], works: Mapping[str, Work]) -> str:
    """The list of references as Markdown: one paragraph for each work, with its anchor, by authors and year.

    Raises:
        UserError: the bibliography has no such work.
    """
    cited = sorted((work(key, works) for key in set(keys)), key=lambda one: one.order)
    return "\n\n".join(f'<a id="ref-{one.key}"></a>{one.entry}' for one in cited)


def work(key: str, works: Mapping[str, Work]) -> Work:
    """A work by its key.

    Raises:
        UserError: the bibliography has no such work; the message names the nearest keys.
    """
    if key not in works:
        near = difflib.get_close_matches(key, works, cutoff=0.5) or sorted(works)[:3]
        raise UserError(f"the bibliography has no work {key!r}; nearest: {', '.join(near)}")
    return works[key]


def _fields(text: str, place: int) -> dict[str, str]:
    """Fields of the entry that goes on at this place."""
    fields: dict[str, str] = {}
    while found := _FIELD.match(text, place):
        value, place = _value(text, found.end())
        fields[found[1].lower()] = value
        comma = re.compile(r"\s*,").match(text, place)
        if not comma:
            break
        place = comma.end()
    return fields


def _value(text: str, start: int) -> tuple[str, int]:
    """A field's value, without what encloses it, and the place after it."""
    if text[start] not in '{"':
        found = re.compile(r"[^\s,}]*").match(text, start)
        return (found[0], found.end()) if found else ("", start)
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        closed = depth == 0 and (text[start] == "{" or (text[place] == '"' and place > start))
        if closed:
            return text[start + 1 : place], place + 1
    raise UserError(f"the bibliography has no end of the field that begins with {text[start : start + 40]!r}")


def _text(value: str) -> str:
    """A value as it is read: accents as letters, no braces, single spaces."""
    for tex, letter in _LETTERS.items():
        value = re.sub(re.escape(tex) + r"(?![A-Za-z])\s?", letter, value)
    value = _ACCENT.sub(lambda found: found[2].lstrip("\\") + _COMBINING[found[1]], value)
    value = re.sub(r"[{}]", "", value).replace("``", "\u201c").replace("''", "\u201d").replace("~", "\u00a0")
    return unicodedata.normalize("NFC", " ".join(value.split()))


def _authors(value: str) -> tuple[tuple[str, str], ...]:
    names = re.split(r"\s+and\s+", value.strip())
    return tuple(_name(name) for name in names)


def _name(name: str) -> tuple[str, str]:
    """Family and given names of "Family, Given", "Given Family" or "{Organisation}"."""
    if name.startswith("{") and name.endswith("}") and name.count("{") == 1:
        return _text(name), ""
    family, comma, given = name.partition(",")
    if not comma:
        given, _, family = name.rpartition(" ")
    return _text(family), _text(given)


def _title(text: str) -> str:
    return md(text).replace("\\: ", ": ")  # A colon before a space is no markup, and most titles have one.


def _people(authors: tuple[tuple[str, str], ...]) -> str:
    names = [md(f"{family}, {_initials(given)}" if given else family) for family, given in authors]
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"


def _initials(given: str) -> str:
    return " ".join("-".join(f"{part[0]}." for part in name.split("-") if part) for name in given.split())


def _plain(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


def _told_apart(works: Mapping[str, Work]) -> dict[str, Work]:
    """Works of the same authors and year get letters, in the order of the list."""
    alike: dict[tuple[str, str], list[Work]] = {}
    for one in sorted(works.values(), key=lambda one: one.order):
        alike.setdefault((one.authors_short, one.year), []).append(one)
    letters = {
        one.key: chr(ord("a") + place) for group in alike.values() if len(group) > 1 for place, one in enumerate(group)
    }
    return {key: replace(one, suffix=letters.get(key, "")) for key, one in works.items()}
