"""A document from its sections: rendered until all references agree, then read by the linter."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import prose
from spectral_mlflow.paper.bibliography import Work
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.fact import Missing
from spectral_mlflow.paper.gaps import Gap
from spectral_mlflow.paper.held import FIRST, LAST, Span
from spectral_mlflow.paper.ledger import Claimed, Entry, Fault, Shown
from spectral_mlflow.paper.markdown import TEMPLATES, code_span, md
from spectral_mlflow.paper.prose import Page, Problem
from spectral_mlflow.paper.sentences import Sentences, tidy
from spectral_mlflow.paper.writer import Found, Writer

SUFFIX = ".md.j2"
FILES = {"guide": "spectral_gpt_intuitive_guide.md", "technical": "spectral_gpt_technical_paper.md"}
PASSES = 5  # Two are enough unless a text depends on what is missing further down.

# What a template can raise that is wrong, wherever it comes from.
_MISTAKES = (
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip

_CONSTANT = re.compile(r"\{#-?\s*constant:\s*(.+?):\s.*?#\}")


class PaperError(Exception):
    """The documents cannot be built; the lines say why, each with the sentence."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)


@dataclass(frozen=True)
class Section:
    """One file of a document.

    Attributes:
        name: of the file.
        source: the template.
    """

    name: str
    source: str

    @cached_property
    def constants(self) -> list[str]:
        """Texts that the section declares to be constants, each with its reason."""
        return _CONSTANT.findall(self.source)


@dataclass(frozen=True)
class Rendered:
    """A document as it can be written.

    Attributes:
        file: its name.
        text: Markdown.
        sections: text of each section by its name.
        entries: every fact and claim, in the order of the text.
        problems: why it must not be written.
        gaps: what it lacks.
        drawn: figures that it shows.
    """

    file: str
    text: str
    sections: Mapping[str, str]
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    gaps: tuple[Gap, ...]
    drawn: tuple[str, ...]


def sections(kind: str, overrides: Path | None = None) -> list[Section]:
    """The sections of a document in the order of their names.

    Args:
        kind: guide or technical.
        overrides: folder whose ``technical/`` and ``guide/`` hold files that replace those of the same name.
    """
    found = {path.name: path for path in (TEMPLATES / kind).glob(f"*{SUFFIX}")}
    if overrides is not None:
        found |= {path.name: path for path in (overrides / kind).glob(f"*{SUFFIX}")}
    return [Section(name, read(path)) for name, path in sorted(found.items())]


def read(path: Path) -> str:
    """The text of a file that somebody may have written by hand.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as failure:
        raise UserError(f"{path}: {failure.reason} at byte {failure.start}; allowed: text in UTF-8") from None


def render(
    kind: str,
    parts: Sequence[Section],
    book: Book,
    figures: Mapping[str, str | Missing],
    works: Mapping[str, Work],
    gaps: Sequence[Gap] = (),
) -> Rendered:
    """Render and check a document.

    Args:
        kind: guide or technical.
        parts: its sections.
        book: where facts are looked up.
        figures: each by its name: path relative to the document, or why there is none.
        works: the bibliography.
        gaps: what is missing whatever the text says.

    Raises:
        PaperError: a section is no template that can be rendered.
    """
    before: Found | None = None
    for _ in range(PASSES):
        writer = Writer(book, figures, works, list(gaps), before)
        texts = _texts(FILES[kind], kind, parts, writer)
        if writer.found == before:
            break
        before = writer.found
    return _read(FILES[kind], kind, parts, texts, writer)


def _texts(file: str, kind: str, parts: Sequence[Section], writer: Writer) -> list[str]:
    environment = SandboxedEnvironment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.DictLoader({f"{kind}/{part.name}": part.source for part in parts}),
                jinja2.FileSystemLoader(TEMPLATES),
            ]
        ),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # HTML escaping would not help: the `md` filter escapes for Markdown.
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": _plain_text(md), "code": _plain_text(code_span)}
    environment.globals.update(writer.functions())
    return [_text(environment, file, f"{kind}/{part.name}", part) for part in parts]


def _plain_text(escape: Callable[..., str]) -> Callable[..., str]:
    def filtered(value: object, *arguments: bool) -> str:
        if re.search(f"[{FIRST}-{LAST}]", str(value)):
            raise ValueError("the filters md and code take texts, not what num(), value() and the like give")
        return escape(value, *arguments)

    return filtered


def _text(environment: jinja2.Environment, file: str, name: str, part: Section) -> str:
    if re.search(f"[{FIRST}-{LAST}]", part.source):
        raise PaperError([str(Problem(file, name, "the whole file", "characters of private use are not allowed"))])
    try:
        return re.sub(r"\n{3,}", "\n\n", environment.get_template(name).render()).strip()
    except jinja2.TemplateSyntaxError as failure:
        raise PaperError([str(_at(file, name, part, failure.lineno, str(failure.message)))]) from failure
    except _MISTAKES as failure:
        lines = [
            frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == "<template>"
        ]
        raise PaperError([str(_at(file, name, part, lines[-1] if lines else 1, str(failure)))]) from failure


def _at(file: str, name: str, part: Section, line: int | None, what: str) -> Problem:
    lines = part.source.splitlines() or [""]
    return Problem(file, f"{name} line {line}", tidy(lines[min(line or 1, len(lines)) - 1]), what)


def _read(file: str, kind: str, parts: Sequence[Section], texts: Sequence[str], writer: Writer) -> Rendered:
    """Fill in what was held, find out where it stands, and check the rest."""
    pages = [
        Page(file, f"{kind}/{part.name}", *writer.holder.expand(text)) for part, text in zip(parts, texts, strict=True)
    ]
    whole = "\n\n".join(page.text for page in pages if page.text.strip()) + "\n"
    numbers = prose.headings(whole)
    entries: list[Entry] = []
    problems: list[Problem] = []
    for part, page in zip(parts, pages, strict=True):
        noted = list(_noted(page))
        entries += [
            Entry(page.document, page.section, sentence, span.held.note)
            for sentence, span in noted
            if isinstance(span.held.note, Shown | Claimed)
        ]
        problems += [
            Problem(page.document, page.section, sentence, span.held.note.what)
            for sentence, span in noted
            if isinstance(span.held.note, Fault)
        ]
        problems += prose.check(page, part.constants, numbers)
    return Rendered(
        file=file,
        text=whole,
        sections={part.name: page.text for part, page in zip(parts, pages, strict=True)},
        entries=tuple(entries),
        problems=tuple(problems),
        gaps=tuple(writer.found.gaps),
        drawn=tuple(dict.fromkeys(writer.drawn)),
    )


def _noted(page: Page) -> Iterator[tuple[str, Span]]:
    sentences = Sentences(page.text)
    for span in page.spans:
        if span.held.note is not None:
            yield sentences.at(span.start), span
