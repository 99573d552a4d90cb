"""The build: from a store to the files of a paper, all of them or none."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from spectral_mlflow import config
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.paper import bibliography, document, gaps, ledger, summary
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.document import FILES, PaperError, Rendered
from spectral_mlflow.paper.facts import Facts, gather
from spectral_mlflow.paper.figures import FigureManager
from spectral_mlflow.paper.gaps import Gap
from spectral_mlflow.paper.request import KINDS, Request
from spectral_mlflow.tracking_uri import sqlite_path

_log = logging.getLogger(__name__)


class Build:
    """One reading of the store, and the documents made of it.

    Attributes:
        request: what was asked for.
    """

    def __init__(self, request: Request, book: Book | None = None) -> None:
        """Read nothing yet.

        Args:
            request: what is to be built.
            book: facts that were looked up already.
        """
        self.request = request
        self._book = book

    @cached_property
    def book(self) -> Book:
        """The facts.

        Raises:
            UserError: the store cannot be read, or has no run or study that was asked for.
        """
        return self._book or Book(self.facts)

    @cached_property
    def facts(self) -> Facts:
        """The runs."""
        request = self.request
        found = gather(
            request.tracking_uri, request.experiments, request.study, request.ablation, request.experiments_dir
        )
        _log.info(told(found))
        return found

    @cached_property
    def figures(self) -> FigureManager:
        """The figures."""
        return FigureManager(self.request.output_dir, self.book)

    @cached_property
    def general_gaps(self) -> list[Gap]:
        """What is missing whatever the documents say."""
        return gaps.find(self.book, None if self.request.experiments else self.request.experiments_dir)

    def render(self, kind: str) -> Rendered:
        """A document with what the linter found in it; nothing is written.

        Raises:
            PaperError: a section cannot be rendered.
        """
        book = self.book  # First of all: of a store that cannot be read nothing is written.
        _log.info("writing the %s", "guide" if kind == "guide" else "paper")
        parts = document.sections(kind, self.request.overrides)
        return document.render(kind, parts, book, self.figures, bibliography.load(), self.general_gaps)

    def drift(self) -> list[str]:
        """What the ledger in the folder says and the store no longer does.

        Raises:
            UserError: the ledger is damaged.
        """
        before = ledger.read(self.request.output_dir)
        if before is None:
            return []
        if ledger.is_of_another_store(before, self.book):
            _log.warning("the paper in %s is of another store (none of its %d runs is in this one); it is replaced",
                         self.request.output_dir, len(before["runs"]))  # fmt: skip
            return []
        return list(ledger.drift(before, self.book))

    def write(self, kinds: Sequence[str] = KINDS, *, accept: bool = False) -> tuple[list[Rendered], list[Path]]:
        """Write documents, their figures, the ledger and the summary of the runs, or nothing.

        Args:
            kinds: which documents.
            accept: write also where the ledger of an earlier build says something else.

        Returns:
            The documents, and the files of their figures.

        Raises:
            PaperError: something in the text cannot stand, or the ledger of an earlier build says something else.
            UserError: the store cannot be read, or the folder cannot be written.
        """
        drifted = [] if accept else self.drift()
        rendered = [self.render(kind) for kind in kinds]
        problems = [str(problem) for one in rendered for problem in one.problems] + drifted
        if problems:
            raise PaperError(list(dict.fromkeys(problems)))
        folder = self.request.output_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figures = self.figures.write(dict.fromkeys(name for one in rendered for name in one.drawn))
            for one in rendered:
                _replace(folder / one.file, one.text.encode())
            _replace(folder / ledger.NAME, self._ledger(rendered))
            _replace(folder / summary.NAME, summary.written(self.book))
        except OSError as failure:
            raise UserError(
                f"--output: {folder} cannot be written ({failure.strerror}); give a folder that can"
            ) from failure
        return rendered, figures

    def _ledger(self, rendered: Iterable[Rendered]) -> bytes:
        """The ledger of these documents; what it says of the other one, which is not written now, stays."""
        rendered = list(rendered)
        entries = [entry for one in rendered for entry in one.entries]
        before = ledger.read(self.request.output_dir)
        if before is None or ledger.is_of_another_store(before, self.book):
            before = {"uses": []}
        written = {one.file for one in rendered}
        entries += [e for e in map(ledger.entry, before["uses"]) if e.document in set(FILES.values()) - written]
        return ledger.written(entries, self.book, public(self.request.tracking_uri))

    def check(self, kinds: Sequence[str] = KINDS) -> list[str]:
        """What in the paper that lies in the folder is not what the store says; each line names a sentence.

        Raises:
            UserError: there is no paper, or the store cannot be read.
        """
        folder = self.request.output_dir
        before = ledger.read(folder)
        if before is None:
            raise UserError(f"--check: there is no {ledger.NAME} in {folder}; build the paper first")
        wrong = [*ledger.drift(before, self.book), *ledger.wrong_claims(before, self.book)]
        wrong += self._summary_differences()
        for kind in kinds:
            path = folder / FILES[kind]
            if path.is_file():
                one = self.render(kind)
                wrong += [str(problem) for problem in one.problems]
                wrong += differences(path.name, document.read(path), one.text)
        return list(dict.fromkeys(wrong))

    def _summary_differences(self) -> list[str]:
        """Rows of the summary of the runs that are not those of the store."""
        path = self.request.output_dir / summary.NAME
        if not path.is_file():
            return [f"{summary.NAME} is not there; build the paper again"]
        there, made = (content.decode(errors="replace").split("\n") for content in
                       (path.read_bytes(), summary.written(self.book)))  # fmt: skip
        wrong = [f"{summary.NAME}: the store does not have this row: {row}" for row in there if row not in made]
        wrong += [f"{summary.NAME}: this row of the store is not there: {row}" for row in made if row not in there]
        return wrong or ([f"{summary.NAME}: its rows are in another order"] if there != made else [])


def differences(name: str, there: str, made: str) -> list[str]:
    """Sentences of a document that would be written otherwise now."""
    import difflib

    from spectral_mlflow.paper.sentences import Sentences, tidy

    old, new = ([tidy(text[a:b]) for a, b in Sentences(text).places] for text in (there, made))
    found = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            wanted = " ".join(new[c:d]) or "nothing"
            found += [f"{name}: the store gives {wanted!r} for: {sentence}" for sentence in old[a:b] or ["(left out)"]]
    if not found and there != made:
        found.append(f"{name}: the file is not the one that was built, in its spaces or line ends")
    return found


def told(facts: Facts) -> str:
    """Which runs the documents are about, for people."""

    def named(study: str | None, cells: Any, nothing: str) -> str:
        runs = sum(len(cell.runs) for cell in cells.values())
        origin = "found by configuration" if study is None else f"study {study}"
        return f"{origin} ({runs} runs of {', '.join(cells)})" if cells else nothing

    return (
        f"main comparison: {named(facts.study, facts.main, 'no runs')}; "
        f"ablation: {named(facts.ablation_study, facts.ablation, 'no runs')}"
    )


def public(tracking_uri: str) -> str:
    """Address of a store without a password, and of a file without the folders of this machine."""
    file = sqlite_path(tracking_uri)
    return f"sqlite:///{file.name}" if file else config.without_password(tracking_uri)


def _replace(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        replace_file(path, content)
