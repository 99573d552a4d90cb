"""The linter of the documents' prose: numbers and verdicts may only come from facts and tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spectral_mlflow.paper.held import Span
from spectral_mlflow.paper.sentences import TAG, Sentences

# Numbers that are no results, each with the reason why it may be typed.
CONSTANTS: dict[str, str] = {
    r"\bGPT-\d(?:\.\d)?\b": "name of a model",
    r"\b[1-4]-?D\b": "dimensions of a space",
    r"\b(?:float|bfloat|int|uint|fp)\d+\b": "name of a number format",
    r"\bSHA-?(?:1|256|512)\b|\bsha256\b": "name of a hash",
    r"\bUTF-8\b": "name of an encoding",
    r"\bISO 8601\b": "name of a standard",
    r"\bPython 3\b": "name of a language",
    r"\bL[12]\b": "name of a norm",
    r"\bBeta[12]\b": "name of a setting",
}

_NOUNS = r"seeds?|runs?|steps?|cells?|parameters?|epochs?"
_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?|dozens?"
)
# "Five random seeds" counts seeds; "two models over seeds" does not.
_BETWEEN = r"(?:[\s-]+(?!(?:over|of|in|with|per|and|on|for|at|by)\b)\w+){0,2}?"
_NUMBER_WORD = re.compile(rf"\b(?:{_WORDS})\b{_BETWEEN}\s+(?:{_NOUNS})\b", re.IGNORECASE)

VERDICTS = re.compile(
    r"\b(?:better|worse|best|worst|(?:low|high|small|larg|great|few|fast|slow|quick|short|long|cheap|strong|weak)(?:er|est)"
    r"|sooner|lowers|lowered|surpass\w*|underperform\w*|(?:below|above)\s+(?:that|those|what|the\s+loss)"
    r"|improv(?:es?|ed|ing|ements?)|outperform\w*|beat(?:s|en|ing)?|superior\w*|inferior\w*"
    r"|reduc(?:es?|ed|ing|tions?)|increas(?:es?|ed|ing)|decreas(?:es?|ed|ing)|exceed\w*|win(?:s|ning)?|won|los(?:es|ing|t)"
    r"|gain(?:s|ed)?|degrad\w+|hurt(?:s|ing)?|harm(?:s|ed|ful)?|help(?:s|ed|ful)?|benefit\w*|significan\w+|advantage\w*"
    r"|disadvantage\w*|(?:more|less)\s+(?:accurate|efficient|stable|parameters|memory|time)|on\s+par|comparable"
    r"|equivalent\s+to"
    r"|as\s+(?:good|well|fast|strong)\s+as|(?:same|similar|equal)\s+loss\w*|twice\s+as|half\s+the|no\s+difference)\b",
    re.IGNORECASE,
)
# Names of measures, in which such a word compares nothing.
_NAMES = re.compile(
    r"\b(?:best validation loss\w*|higher harmonics?|lower triang\w+|at least|at best|longest context)\b", re.IGNORECASE
)
_SUBJECTS = re.compile(
    r"\b(?:waves?|wave-based|standard|models?|baselines?|RGD|AdamW|QFE|cross-entropy|GELU|embeddings?|attention|interference"
    r"|feed-?forward|components?|variants?|cells?|architectures?|networks?|both|either|neither|optimi[sz]ers?"
    r"|it|its|they|their|former|latter|loss|losses|perplexity)\b",
    re.IGNORECASE,
)

_FREE = re.compile(
    rf"""
    ^[ \t]*(?P<fence>```+|~~~+).*?^[ \t]*(?P=fence)[`~]*[ \t]*$   # code
    | {TAG}                                                        # tags of HTML
    | (?P<ticks>`+)(?!`)(?!\s*[-+]?\d[\d.,]*\s*`)(?:(?!\n\s*\n).)+?(?<!`)(?P=ticks)(?!`)  # code in a line, no number
    | \$\$.*?\$\$                                                  # displayed mathematics
    | (?<=\])\([^()\s]*\)                                          # targets of links
    | ^\#{{1,6}}[ ]+(?:Appendix[ ])?(?:[A-Z]|\d\d?)(?:\.\d\d?)*\.?(?=[ ]+[A-Z\W])  # numbers of headings
    | ^[ \t]*\d\d?[.)](?=[ ])                                     # numbers of lists
    | &[A-Za-z]+;
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_MATH = re.compile(r"(?<![\\$])\$(?![\s$])((?:\\.|[^$\\])+?)(?<![\s\\])\$(?!\d)", re.DOTALL)
_VALUE = re.compile(r"(?=.*(?:\d\d|\d[.,]\d))[\d.,\s\\%~=<>+:-]+", re.DOTALL)
# A quantity that is said to have a value of more than one digit.
_EQUALS = re.compile(r"(?:[=<>]|\\(?:approx|sim|leq?|geq?)\b)\s*[-+]?\s*(?:\d\d|\d*[.,]\d)")
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_NUMBER = r"(?:[A-Z]|\d+)(?:\.\d+)*"
_PLACE = re.compile(rf"\b(?:Sections?|Appendix|Appendices|Parts?) ({_NUMBER}(?:(?:, | and | to ){_NUMBER})*)\b")
_HEADING = re.compile(r"^#{1,6}[ ]+(?:(?:Appendix|Part) )?([A-Z]|[A-Z]?\d*(?:\.?\d+)*)\.?(?= )", re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """Why a document cannot be built.

    Attributes:
        document: name of its file.
        section: file of the section.
        sentence: where it is.
        what: is wrong.
    """

    document: str
    section: str
    sentence: str
    what: str

    def __str__(self) -> str:
        return f"{self.document}, {self.section}: {self.what}, in: {self.sentence}"


@dataclass(frozen=True)
class Page:
    """A section as it is read: its text and which parts of it were not typed."""

    document: str
    section: str
    text: str
    spans: Sequence[Span]

    def problem(self, place: int, what: str) -> Problem:
        """Something wrong at a place."""
        return Problem(self.document, self.section, Sentences(self.text).at(place), what)


def check(page: Page, constants: Iterable[str], headings: frozenset[str]) -> Iterator[Problem]:
    """Everything that is typed where a fact or a test should speak.

    Args:
        page: what to look at.
        constants: texts that this section says are constants.
        headings: numbers of the headings of the document.
    """
    typed = _blank(page.text, [span for span in page.spans if span.held.digits])
    typed = _without_free(typed)
    yield from _numbers(page, _without_constants(typed, constants), headings)
    yield from _verdicts(page, _without_free(_blank(page.text, [span for span in page.spans if span.held.words])))


def headings(text: str) -> frozenset[str]:
    """The numbers of a document's headings."""
    return frozenset(number for number in _HEADING.findall(text) if number)


def _numbers(page: Page, typed: str, known: frozenset[str]) -> Iterator[Problem]:
    for place in _PLACE.finditer(typed):
        for number in re.findall(_NUMBER, place[1]):
            if number not in known:
                yield page.problem(place.start(), f"there is no section {number}")
    rest = _PLACE.sub(_blanks, typed)
    for math in _MATH.finditer(rest):
        if _VALUE.fullmatch(math[1]) or _EQUALS.search(math[1]):
            yield page.problem(math.start(), f"a bare number {math[0]} as mathematics; use num()")
    rest = _MATH.sub(_blanks, rest)
    for found in re.finditer(r"\d(?:[\d.,:/]*\d)?", rest):
        yield page.problem(found.start(), f"a bare number {found[0]}; use num(), or declare it as a constant")
    for sign in re.finditer(r"[^\W\d_]", rest):
        if sign[0].isnumeric():
            yield page.problem(sign.start(), f"a bare number {sign[0]}; use num()")
    for words in _NUMBER_WORD.finditer(rest):
        yield page.problem(words.start(), f"a bare number in words, {words[0]!r}; use num()")


def _verdicts(page: Page, typed: str) -> Iterator[Problem]:
    typed = _NAMES.sub(_blanks, _MATH.sub(_blanks, _EMPHASIS.sub(" ", typed)))
    said = _EMPHASIS.sub(" ", page.text)
    sentences = Sentences(page.text)
    for start, end in sentences.places:
        for word in VERDICTS.finditer(typed, start, end):
            if _SUBJECTS.search(said, start, end):
                verdict = " ".join(word[0].split())
                yield page.problem(
                    word.start(), f"the verdict {verdict!r} is bound to no test; use claim() or verdict()"
                )


def _blank(text: str, spans: Iterable[Span]) -> str:
    """The text with a space for each character of some spans."""
    signs = list(text)
    for span in spans:
        signs[span.start : span.end] = [sign if sign == "\n" else " " for sign in signs[span.start : span.end]]
    return "".join(signs)


def _without_free(text: str) -> str:
    return _FREE.sub(_blanks, text)


def _without_constants(text: str, own: Iterable[str]) -> str:
    for pattern in (*CONSTANTS, *(re.escape(constant) for constant in own)):
        text = re.sub(pattern, _blanks, text)
    return text


def _blanks(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])
