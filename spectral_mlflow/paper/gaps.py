"""What the store lacks for a complete document, each gap with the command that closes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spectral_mlflow import journal
from spectral_mlflow.paper.book import MODELS, Book
from spectral_mlflow.paper.commands import training_command
from spectral_mlflow.paper.fact import Missing
from spectral_mlflow.paper.facts import Facts


@dataclass(frozen=True)
class Gap:
    """Something missing.

    Attributes:
        text: what is missing, for people; may hold names that users chose.
        command: what to run, if one command helps.
    """

    text: str
    command: str | None = None

    def __str__(self) -> str:
        return self.text if self.command is None else f"{self.text}: run `{self.command}`"

    @classmethod
    def of(cls, missing: Missing) -> Gap:
        """The gap that a missing fact leaves."""
        return cls(missing.reason, missing.command)


def find(book: Book, experiments_dir: Path | None = None) -> list[Gap]:
    """Every gap that does not depend on what is written, the most important first.

    Args:
        book: what the store has.
        experiments_dir: folder of run directories; those that the store lacks are gaps too. None: not looked at.
    """
    facts = book.facts
    return [
        *_models(book),
        *_seeds(facts),
        *(Gap(warning) for warning in facts.warnings),
        *(Gap(f"{key} has no result ({status}) and is left out") for key, status in facts.unfinished),
        *_unknown(facts, experiments_dir),
    ]


def _models(book: Book) -> Iterator[Gap]:
    for model in MODELS:
        if model not in book.facts.main:
            yield Gap.of(book.lacking_cell("main", model))
    if book.facts.refused:
        yield Gap(f"wave and standard are not compared: {book.facts.refused}")
    if not book.facts.ablation:
        yield Gap.of(book.lacking_cell("ablation", ""))


def _seeds(facts: Facts) -> Iterator[Gap]:
    for name, cell in facts.main.items():
        if len(cell.runs) == 1:
            (seed,) = cell.runs
            another = training_command({**cell.settings, "training.seed": seed + 1})
            yield Gap(f"one seed only for {name}, so no uncertainty", another)


def _unknown(facts: Facts, experiments_dir: Path | None) -> Iterator[Gap]:
    if experiments_dir is None or not experiments_dir.is_dir():
        return
    for path in sorted(experiments_dir.iterdir()):
        if (path / "config.json").is_file() and path.name not in facts.keys and not _is_trial(path):
            yield Gap(f"run directory {path.name} is not in the store", f"spectral sync {path.name}")


def _is_trial(run_dir: Path) -> bool:
    """Whether it is a dry run, which no document counts."""
    start = next(journal.read(run_dir / "logs" / "events.jsonl"), None)
    return start is not None and (start[0].get("tags") or {}).get("spectral.kind", "train") != "train"
