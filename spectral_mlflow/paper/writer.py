"""The functions that templates write with: what they print is looked up, tested and remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spectral_mlflow.analysis.design import NONE
from spectral_mlflow.analysis.significance import Test
from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import bibliography, claims
from spectral_mlflow.paper.bibliography import Work
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.fact import Fact, Missing, UnknownKeyError
from spectral_mlflow.paper.gaps import Gap
from spectral_mlflow.paper.held import Holder
from spectral_mlflow.paper.ledger import Claimed, Fault, Shown
from spectral_mlflow.paper.markdown import code_span, md
from spectral_mlflow.paper.measures import written as as_written
from spectral_mlflow.paper.numbering import Numbering
from spectral_mlflow.paper.source_code import extract
from spectral_mlflow.paper.tables import TABLES

NOT_MEASURED = "**not measured**"
ONE_SEED = "(one seed, no uncertainty)"
# Why a word of comparison need not be bound to a test.
PLAIN = ("definition", "general", "hypothesis", "method")


@dataclass
class Found:
    """What one rendering of a document found, for the next one: texts further up may show it.

    Attributes:
        numbers: of equations, figures and tables.
        cited: keys of the works.
        gaps: what is missing.
        shown: facts in the order of the text.
    """

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    cited: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)


class _Members:
    """What there is, for `in`; each is looked for when it is asked for."""

    def __init__(self, has: Callable[[str], bool]) -> None:
        self._has = has

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._has(name)


class Writer:
    """Functions for the templates of one document.

    Attributes:
        holder: the texts that they gave.
        found: what this rendering found so far.
        drawn: figures that the document shows.
    """

    def __init__(
        self,
        book: Book,
        figures: Mapping[str, str | Missing],
        works: Mapping[str, Work],
        general: list[Gap],
        before: Found | None = None,
    ) -> None:
        self.book = book
        self.figures = figures
        self.holder = Holder()
        self.before = before
        self.numbering = Numbering(self.holder, self._is_absent, None if before is None else before.numbers)
        self.found = Found(self.numbering.found, gaps=list(general))
        self.drawn: list[str] = []
        self._works = works

    def functions(self) -> dict[str, Any]:
        """By the names that templates use."""
        cells = [name for name in self.book.facts.ablation if name != NONE]
        numbering = self.numbering
        return {
            "num": self.num, "magnitude": self.magnitude, "est": self.est, "value": self.value, "has": self.has,
            "outcome": self.outcome, "negligible": self.negligible, "one_machine": self.one_machine,
            "claim": self.claim, "verdict": self.verdict,
            "plainly": self.plainly, "figure": self.figure, "table": self.table, "cite": self.cite,
            "citet": self.citet, "references": self.references, "code": self.code, "gap_list": self.gap_list,
            "equation": self._safe(numbering.equation), "eqref": self._safe(numbering.eqref),
            "caption": numbering.caption, "label": self._safe(numbering.label), "ref": self._safe(numbering.ref),
            "gaps": [gap.text for gap in (self.before or self.found).gaps], "cells": cells,
            "figures": _Members(lambda name: name in self.figures and isinstance(self.figures[name], str)),
            "tables": _Members(lambda name: name in TABLES and TABLES[name].lacks(self.book) is None),
        }  # fmt: skip

    def _is_absent(self, kind: str, name: str) -> bool:
        """Whether there is a figure or a table of that name which cannot be made."""
        if kind == "fig":
            return name in self.figures and isinstance(self.figures[name], Missing)
        return kind == "tab" and name in TABLES and TABLES[name].lacks(self.book) is not None

    def fault(self, what: str) -> str:
        """Mark a place of the text that cannot stand."""
        return self.holder.hold("?", note=Fault(what))

    def miss(self, missing: Missing) -> None:
        """Remember what is missing, once."""
        gap = Gap.of(missing)
        if gap not in self.found.gaps:
            self.found.gaps.append(gap)

    def box(self, missing: Missing) -> str:
        """A paragraph in the place of what is missing."""
        self.miss(missing)
        how = f" Run {code_span(missing.command)}." if missing.command else ""
        return self.holder.hold(f"> **Not measured:** {md(missing.reason)}.{how}")

    def _fact(self, key: str, write: Callable[[Fact], str]) -> str:
        try:
            fact = self.book.fact(key)
        except UnknownKeyError as unknown:
            return self.fault(str(unknown))
        if isinstance(fact, Missing):
            self.miss(fact)
            return self.holder.hold(NOT_MEASURED)
        try:
            shown = Shown(key, write(fact))
        except (TypeError, ValueError):
            return self.fault(f"{key} is {fact.value!r}, which cannot be written as a number of that kind")
        self.found.shown.append(shown)
        return self.holder.hold(shown.text, note=shown)

    def num(self, key: str, digits: int | None = None, sign: bool = False) -> str:
        """One number."""
        return self._fact(key, lambda fact: as_written(_number(fact), fact.kind, digits, sign=sign))

    def magnitude(self, key: str, digits: int | None = None) -> str:
        """One number without its sign."""
        return self._fact(key, lambda fact: as_written(abs(_number(fact)), fact.kind, digits))

    def est(self, key: str, digits: int | None = None) -> str:
        """A mean over seeds with its interval, or with the words that it has none."""
        return self._fact(key, lambda fact: _estimate(fact, digits))

    def value(self, key: str) -> str:
        """A fact that may be a text."""
        return self._fact(key, lambda fact: md(as_written(fact.value, fact.kind)))

    def has(self, key: str) -> bool:
        """Whether there is a fact, a test, or anything of a part such as main or ablation."""
        if key in ("main", "ablation"):
            return self.book.is_comparable if key == "main" else bool(self.book.facts.ablation)
        for look in (self.book.fact, self.book.test):
            try:
                return not isinstance(look(key), Missing)
            except UnknownKeyError:
                continue
        raise ValueError(f"has(): there is no key and no test {key!r}")

    def _test(self, name: str) -> Test | None:
        try:
            test = self.book.test(name)
        except UnknownKeyError as unknown:
            raise ValueError(str(unknown)) from unknown
        return None if isinstance(test, Missing) else test

    def outcome(self, test: str) -> str:
        """What a test found, for conditions."""
        found = self._test(test)
        return claims.MISSING if found is None else found.outcome

    def negligible(self, test: str) -> bool:
        """Whether a decided difference lies wholly within the margin."""
        found = self._test(test)
        return found is not None and found.negligible

    def one_machine(self) -> bool:
        """Whether all runs of the main comparison are of machines of one kind."""
        return not self.book.machines

    def claim(self, test: str, says: str, text: str | None = None) -> str:
        """A statement that holds only if a test says so."""
        if says not in claims.OUTCOMES:
            raise ValueError(f"claim(): given {says!r}; allowed: {', '.join(claims.OUTCOMES)}")
        found = self._test(test)
        if found is None:
            self._miss_test(test)
            return self.holder.hold(NOT_MEASURED)
        words = text or claims.sentence(test, says)
        if found.outcome != says:
            return self.holder.hold(
                words, note=Fault(f"the claim that {test} is {says} is wrong: it is {found.outcome}")
            )
        if other := claims.named_instead(words, says):
            return self.holder.hold(words, note=Fault(f"the claim that {test} is {says} is worded as {other}"))
        return self.holder.hold(words, digits=text is None, note=Claimed(test, says))

    def verdict(self, test: str) -> str:
        """What a test found, in whole sentences."""
        found = self._test(test)
        if found is None:
            return self._miss_test(test)
        words = claims.verdict(found, lambda how, key: getattr(self, how)(key))
        return self.holder.hold(words[:1].upper() + words[1:], note=Claimed(test, found.outcome))

    def _miss_test(self, test: str) -> str:
        missing = self.book.test(test)
        assert isinstance(missing, Missing)  # noqa: S101 - the callers have looked
        self.miss(missing)
        return self.holder.hold(f"{NOT_MEASURED} ({md(missing.reason)})")

    def plainly(self, reason: str, caller: Callable[[], str]) -> str:
        """A passage whose words of comparison compare no results."""
        if reason not in PLAIN:
            raise ValueError(f"plainly(): given {reason!r}; allowed: {', '.join(PLAIN)}")
        return self.holder.hold(caller().strip(), digits=False)

    def figure(self, name: str, text: str | None = None) -> str:
        """An image with its caption, or a box that says what is missing."""
        if name not in self.figures:
            raise ValueError(f"there is no figure {name!r}; there are {', '.join(self.figures)}")
        path = self.figures[name]
        if isinstance(path, Missing):
            return self.box(path)
        self.drawn.append(name)
        image = self.holder.hold(f"![{name.replace('_', ' ')}]({path})")
        return image if text is None else f"{image}\n\n{self.numbering.caption('fig', name, text)}"

    def table(self, name: str, text: str) -> str:
        """A table with its caption, or a box that says what is missing."""
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        lacks = TABLES[name].lacks(self.book)
        if lacks is not None:
            return self.box(lacks)
        return f"{self.numbering.caption('tab', name, text)}\n\n{self.holder.hold(TABLES[name].make(self))}"

    def cite(self, *keys: str) -> str:
        """Citation in parentheses."""
        self.found.cited += keys
        return self._safe(bibliography.cite)(keys, self._works)

    def citet(self, key: str) -> str:
        """Citation as a part of the sentence."""
        self.found.cited.append(key)
        return self._safe(bibliography.citet)(key, self._works)

    def references(self) -> str:
        """The works that the whole document cites."""
        return self._safe(bibliography.reference_list)((self.before or self.found).cited, self._works)

    def code(self, file: str, name: str) -> str:
        """Source of a definition of the package."""
        return self._safe(lambda: extract(file, name).markdown)()

    def gap_list(self) -> str:
        """What is missing, one item each; empty if nothing is."""
        found = (self.before or self.found).gaps
        items = [f"- {md(gap.text)}" + (f": run {code_span(gap.command)}" if gap.command else "") for gap in found]
        return self.holder.hold("\n".join(items))

    def _safe(self, make: Callable[..., str]) -> Callable[..., str]:
        """The function, whose mistakes are told with the sentence that they stand in."""

        def made(*arguments: Any) -> str:
            try:
                return self.holder.hold(make(*arguments))
            except (UserError, ValueError) as failure:
                return self.fault(str(failure))

        return made


def _number(fact: Fact) -> float:
    if isinstance(fact.value, str):
        raise TypeError(fact.key)
    return fact.value


def _estimate(fact: Fact, digits: int | None) -> str:
    if fact.estimate is None:
        raise TypeError(fact.key)
    of = fact.estimate
    mean = as_written(of.mean, fact.kind, digits)
    if of.low is None or of.high is None:
        return f"{mean} {ONE_SEED}"
    return f"{mean}&nbsp;[{as_written(of.low, fact.kind, digits)},&nbsp;{as_written(of.high, fact.kind, digits)}]"
