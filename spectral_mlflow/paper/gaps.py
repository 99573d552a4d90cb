"""What the store lacks for a complete document, each gap with the command that closes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spectral_mlflow import journal
from spectral_mlflow.paper.commands import make_run, training_command
from spectral_mlflow.paper.facts import Facts

MODELS = ("wave", "standard")


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


def find(facts: Facts, experiments_dir: Path | None = None) -> list[Gap]:
    """Every gap, the most important first.

    Args:
        facts: what the store has.
        experiments_dir: folder of run directories; those that the store lacks are gaps too. None: not looked at.
    """
    return [
        *_models(facts),
        *_comparisons(facts),
        *_seeds(facts),
        *_unfinished(facts),
        *_unknown(facts, experiments_dir),
    ]


def _models(facts: Facts) -> Iterator[Gap]:
    for model in MODELS:
        if not any(variant.model == model for variant in facts.variants):
            yield Gap(f"no finished run of model={model}", make_run(model))


def _comparisons(facts: Facts) -> Iterator[Gap]:
    if facts.comparisons:
        return
    for refusal in facts.refusals:
        names = f"{facts.label(refusal.wave)} (wave) and {facts.label(refusal.standard)} (standard)"
        yield Gap(f"{names} are not compared: {refusal.reason}")


def _seeds(facts: Facts) -> Iterator[Gap]:
    for variant in facts.variants:
        if len(variant.losses) == 1 and variant.model in MODELS:
            seed = next(iter(variant.losses))
            run = facts.by_id[next(iter(variant.runs.values()))]
            another = training_command({**run.settings, "training.seed": seed + 1})
            yield Gap(f"one seed only for {variant.model} ({facts.label(variant)}), so no uncertainty", another)


def _unfinished(facts: Facts) -> Iterator[Gap]:
    for run in facts.runs:
        if run.status == "RUNNING":
            yield Gap(f"{run.label} ({run.key}) is still running and is left out of the summaries")
        elif run.status != "FINISHED":
            yield Gap(f"{run.label} ({run.key}) ended as {run.status} and is left out of the summaries")
        elif run.best_val_loss is None:
            yield Gap(f"{run.label} ({run.key}) has no finite best_val_loss and is left out of the summaries")
        elif run.seed is None:
            yield Gap(f"{run.label} ({run.key}) has no recorded seed and is left out of the summaries")


def _unknown(facts: Facts, experiments_dir: Path | None) -> Iterator[Gap]:
    if experiments_dir is None or not experiments_dir.is_dir():
        return
    known = {run.key for run in facts.runs}
    for path in sorted(experiments_dir.iterdir()):
        if (path / "config.json").is_file() and path.name not in known and not _is_trial(path):
            yield Gap(f"run directory {path.name} is not in the store", f"spectral sync {path.name}")


def _is_trial(run_dir: Path) -> bool:
    """Whether it is a dry run, which no document counts."""
    start = next(journal.read(run_dir / "logs" / "events.jsonl"), None)
    return start is not None and (start[0].get("tags") or {}).get("spectral.kind", "train") != "train"
