"""The ledger of a paper: every number and claim in its text, and the runs behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.commands import training_command
from spectral_mlflow.paper.fact import Fact, Missing, UnknownKeyError
from spectral_mlflow.paper.facts import Run

NAME = "ledger.json"
FORMAT_VERSION = 1
CLOSE = 1e-9  # Relative; what another release of a numerical library may change.


@dataclass(frozen=True)
class Shown:
    """A fact in the text."""

    key: str
    text: str


@dataclass(frozen=True)
class Claimed:
    """A claim in the text: what it says of a test, and what the test says."""

    test: str
    says: str


@dataclass(frozen=True)
class Fault:
    """Something in the text that cannot stand."""

    what: str


@dataclass(frozen=True)
class Entry:
    """Where a fact or a claim stands.

    Attributes:
        document: file of the document.
        section: file of the section.
        sentence: on one line.
        note: the fact or the claim.
    """

    document: str
    section: str
    sentence: str
    note: Shown | Claimed


def written(entries: Iterable[Entry], book: Book, store: str) -> bytes:
    """The content of ledger.json: the same facts give the same bytes.

    Args:
        entries: every fact and claim of the documents.
        book: where the facts are looked up.
        store: address of the store as readers may know it.
    """
    entries = list(entries)
    shown = {entry.note.key for entry in entries if isinstance(entry.note, Shown)}
    facts = {key: fact for key in sorted(shown) if isinstance(fact := _now(book, key), Fact)}
    tests = {entry.note.test for entry in entries if isinstance(entry.note, Claimed)}
    used = {run_id for fact in facts.values() for run_id in fact.runs} | {r for t in tests for r in _runs_of(book, t)}
    content = {
        "format_version": FORMAT_VERSION,
        "store": store,
        "study": book.facts.study,
        "ablation": book.facts.ablation_study,
        "runs": {run.run_id: _run(run) for run in book.facts.runs if run.run_id in used},
        "facts": {key: _fact(fact, book) for key, fact in facts.items()},
        "tests": {name: _test(book, name) for name in sorted(tests)},
        "uses": [_entry(entry) for entry in entries],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def read(folder: Path) -> dict[str, Any] | None:
    """The ledger beside a paper, None where there is none.

    Raises:
        UserError: it is damaged, or of another version.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise UserError(f"{path} cannot be read ({failure}); restore it, or remove it to begin a new one") from failure
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path} is no ledger of this version; remove it to begin a new one")
    return content


def drift(ledger: Mapping[str, Any], book: Book) -> Iterator[str]:
    """What a ledger says and the store no longer does: deleted runs, and other values of the same runs."""
    yield from deleted(ledger, book)
    for key, entry in ledger["facts"].items():
        now = _now(book, key)
        if isinstance(now, Fact) and set(now.runs) != set(entry["runs"]):
            continue  # Other runs, another result: that is no drift.
        if isinstance(now, Missing) and not book.facts.by_id.keys() >= set(entry["runs"]):
            continue  # As well; of deleted runs that was told.
        if not isinstance(now, Fact) or not same(entry["value"], now.value):
            what = f"{key} was {entry['value']} and is now {_value(now)}, from the same runs"
            yield from (f"{place}: {what}, in: {sentence}" for place, sentence in sentences(ledger, key))


def is_of_another_store(ledger: Mapping[str, Any], book: Book) -> bool:
    """Whether a store has runs, and none of those that a ledger names."""
    known = book.facts.known
    return bool(known and ledger["runs"]) and not known & ledger["runs"].keys()


def deleted(ledger: Mapping[str, Any], book: Book) -> Iterator[str]:
    """Runs that a ledger names and the store lacks, with the sentences that rest on them."""
    for run_id, run in ledger["runs"].items():
        if run_id in book.facts.known:
            continue
        keys = [key for key, entry in ledger["facts"].items() if run_id in entry["runs"]]
        resting = list(dict.fromkeys(place for key in keys for place in sentences(ledger, key)))
        told = f"run {run['key']} ({run_id}) is no longer in the store; bring it back with "
        told += f"`mlflow runs restore --run-id {run_id}` or `spectral sync {run['key']}`"
        yield from (f"{place}: {told}, in: {sentence}" for place, sentence in resting)
        if not resting:
            yield told


def wrong_claims(ledger: Mapping[str, Any], book: Book) -> Iterator[str]:
    """Claims of a ledger that the tests no longer bear out."""
    for use in ledger["uses"]:
        if "test" in use:
            outcome = _outcome(book, use["test"])
            if outcome != use["says"]:
                what = f"the claim that {use['test']} is {use['says']} is wrong: it is {outcome}"
                yield f"{use['document']}, {use['section']}: {what}, in: {use['sentence']}"


def _outcome(book: Book, test: str) -> str:
    try:
        found = book.test(test)
    except UnknownKeyError:
        return "unknown"
    return "missing" if isinstance(found, Missing) else found.outcome


def entry(use: Mapping[str, Any]) -> Entry:
    """An entry as it was read from a ledger."""
    note = Shown(use["key"], use["text"]) if "key" in use else Claimed(use["test"], use["says"])
    return Entry(use["document"], use["section"], use["sentence"], note)


def sentences(ledger: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    """Where a fact stands: document and section, and the sentence."""
    found = [
        (f"{use['document']}, {use['section']}", use["sentence"]) for use in ledger["uses"] if use.get("key") == key
    ]
    return list(dict.fromkeys(found))


def same(first: object, second: object) -> bool:
    """Whether two values are equal but for what another numerical library may change."""
    if isinstance(first, float | int) and isinstance(second, float | int):
        return math.isclose(first, second, rel_tol=CLOSE, abs_tol=1e-300)
    return first == second


def _now(book: Book, key: str) -> Fact | Missing:
    try:
        return book.fact(key)
    except UnknownKeyError as unknown:
        return Missing(str(unknown))


def _value(found: Fact | Missing) -> str:
    return str(found.value) if isinstance(found, Fact) else f"missing ({found.reason})"


def _fact(fact: Fact, book: Book) -> dict[str, Any]:
    runs = [book.facts.by_id[run_id] for run_id in fact.runs if run_id in book.facts.by_id]
    return {
        "value": fact.value,
        "query": fact.query,
        "runs": sorted(fact.runs),
        "commits": sorted({run.commit for run in runs if run.commit}),
        "data": sorted({run.data for run in runs if run.data}),
    }


def _test(book: Book, name: str) -> dict[str, Any]:
    test = book.test(name)
    if isinstance(test, Missing):
        return {"missing": test.reason}
    return {
        "outcome": test.outcome,
        "difference": test.difference.mean,
        "p": test.p,
        "p_holm": test.p_holm,
        "paired": test.paired,
        "runs": sorted(_runs_of(book, name)),
    }


def _runs_of(book: Book, test: str) -> set[str]:
    if isinstance(book.test(test), Missing):
        return set()
    return {run.run_id for cell in book.compared(test) for run in cell.runs.values()}


def _run(run: Run) -> dict[str, Any]:
    return {
        "label": run.label,
        "key": run.key,
        "cell": run.cell,
        "seed": run.seed,
        "commit": run.commit,
        "data": run.data,
        "page": run.page,
        "command": training_command(run.settings),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    place = {"document": entry.document, "section": entry.section, "sentence": entry.sentence}
    if isinstance(entry.note, Shown):
        return place | {"key": entry.note.key, "text": entry.note.text}
    return place | {"test": entry.note.test, "says": entry.note.says}
