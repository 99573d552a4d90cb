"""Variants side by side: what each reached, how soon, at what cost, and what that says.

Runs are put into one group only where their losses mean the same: same data, same tokens, same context.
Verdicts are of a variant against the group's reference, and only at the same budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectral_mlflow.analysis import comparison
from spectral_mlflow.analysis.comparison import (
    Variant,
    finished,
    model_label,
    settings_of,
    variants,
    without_result,
)
from spectral_mlflow.analysis.convergence import Convergence, common_target, converge
from spectral_mlflow.analysis.significance import LOSS_MARGIN, Test, compare_values, family
from spectral_mlflow.analysis.statistics import Estimate, estimate
from spectral_mlflow.analysis.wording import no_result

HISTORIES = ("val_loss", "loss", "tokens_per_sec")
CELL = "tags.spectral.cell"

SAME_QUESTION = (
    "dataset.sha256", "dataset.tokenizer", "dataset.train_split", "dataset.val_split", "dataset.val_windows",
    "model.vocab_size", "model.block_size",
)  # fmt: skip
SAME_BUDGET = ("training.steps", "training.batch_size", "training.gradient_accumulation")
REFERENCES = ("none", "standard")
FACTS = ("model.num_parameters", "dataset.num_tokens")  # They follow from settings.

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Entry:
    """One variant in a table.

    Attributes:
        label: tells it from the others.
        variant: its configuration, runs and losses.
        rows: seed to run, one row of `load_runs`.
        speed: median training speed of each run, tokens a second.
        seconds: wall time of each run.
        flops: floating point operations a token, forward and backward.
        convergence: when its runs reach the group's target.
    """

    label: str
    variant: Variant
    rows: Mapping[int, Row]
    speed: Estimate | None
    seconds: Estimate | None
    flops: float | None
    convergence: Convergence

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the model."""
        return self.variant.settings.get("model.num_parameters")


@dataclass(frozen=True)
class Group:
    """Variants whose losses mean the same.

    Attributes:
        terms: what they have in common, by setting.
        entries: the variants, the reference first: none or standard, else the one with the most seeds, the first of
            several; then by loss.
        target: the loss of their `Convergence`, nats a token.
        tests: of the best validation loss of each other variant against the reference, as one family.
        notes: what a reader has to know, each a sentence.
    """

    terms: Mapping[str, Any]
    entries: tuple[Entry, ...]
    target: float
    tests: tuple[Test, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SideBySide:
    """Runs side by side.

    Attributes:
        groups: variants that may be compared, the largest group first.
        notes: what is shown apart or left out, and why, each a sentence.
    """

    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def side_by_side(runs: pd.DataFrame, histories: pd.DataFrame, target: float | None = None) -> SideBySide:
    """Runs side by side, those of other data, context or vocabulary apart.

    Args:
        runs: as `load_runs` gives them.
        histories: of the metrics `HISTORIES`, as `load_histories` gives them.
        target: loss for the speed of convergence, nats a token; None: the lowest that all runs of a group reach.
    """
    rows = {str(row["run_id"]): row for row in finished(runs)}
    terms: dict[tuple[tuple[str, Any], ...], list[Variant]] = {}
    for variant in variants(runs):
        terms.setdefault(tuple((name, variant.settings.get(name)) for name in SAME_QUESTION), []).append(variant)
    groups = [_group(dict(same), found, rows, histories, target, runs) for same, found in terms.items()]
    groups.sort(key=lambda group: -sum(len(entry.rows) for entry in group.entries))
    used = {run_id for found in terms.values() for variant in found for run_id in variant.runs.values()}
    return SideBySide(tuple(groups), (*_apart(groups), *_left_out(runs, rows, used)))


def labels(found: Sequence[Variant], rows: Mapping[str, Row]) -> list[str]:
    """What tells variants apart: the cell of their study, else model and the settings that differ.

    Args:
        found: the variants.
        rows: MLflow run to a row of `load_runs`.
    """
    cells = [{rows[run_id].get(CELL) for run_id in variant.runs.values()} for variant in found]
    names = [next(iter(cell)) for cell in cells]
    if all(len(cell) == 1 for cell in cells) and all(isinstance(name, str) for name in names):
        told = [str(name) for name in names]
    else:
        told = [_told(v, d) for v, d in zip(found, comparison.distinguishing(found).values(), strict=True)]
    return [label if told.count(label) == 1 else f"{label} ({place})" for place, label in enumerate(told, 1)]


def _group(
    terms: Mapping[str, Any],
    found: Sequence[Variant],
    rows: Mapping[str, Row],
    histories: pd.DataFrame,
    target: float | None,
    runs: pd.DataFrame,
) -> Group:
    named = _order(list(zip(labels(found, rows), found, strict=True)), rows)
    wanted = common_target([variant.losses for _, variant in named]) if target is None else target
    entries = tuple(_entry(label, variant, rows, histories, wanted) for label, variant in named)
    reference, others = entries[0], entries[1:]
    unequal = {entry.label: _other_budget(entry.variant, reference.variant) for entry in others}
    tests = [
        compare_values(
            entry.variant.losses, reference.variant.losses, margin=LOSS_MARGIN,
            name=f"{entry.label} against {reference.label}",
        )
        for entry in others if not unequal[entry.label]
    ]  # fmt: skip
    notes = [f"{label} has no verdict against {reference.label}: {why}" for label, why in unequal.items() if why]
    lost = without_result(runs, [variant for _, variant in named])
    notes += [no_result(label, seeds) for (label, _), seeds in zip(named, lost, strict=True) if seeds]
    return Group(terms, entries, wanted, tuple(family(tests)), tuple(notes))


def _entry(
    label: str, variant: Variant, rows: Mapping[str, Row], histories: pd.DataFrame, target: float
) -> Entry:  # fmt: skip
    mine = {seed: rows[run_id] for seed, run_id in variant.runs.items()}
    points = histories[histories["run_id"].isin(list(variant.runs.values()))]
    speeds = points[(points["key"] == "tokens_per_sec") & points["value"].gt(0) & points["value"].lt(float("inf"))]
    lasted = [(row["end_time"] - row["start_time"]).total_seconds() for row in mine.values()]
    flops = {row.get("metrics.flops_per_token") for row in mine.values()}
    known = next(iter(flops)) if len(flops) == 1 else None
    return Entry(
        label, variant, mine,
        _estimate(speeds.groupby("run_id")["value"].median().tolist(), len(mine)),
        _estimate([seconds for seconds in lasted if seconds == seconds], len(mine)),
        None if known is None or known != known else float(known),
        converge(mine, points, target),
    )  # fmt: skip


def _estimate(values: Sequence[float], wanted: int) -> Estimate | None:
    """Mean over the runs, None where one of them lacks the value."""
    return estimate(values) if len(values) == wanted else None


def _order(named: Sequence[tuple[str, Variant]], rows: Mapping[str, Row]) -> list[tuple[str, Variant]]:
    """The reference first, then by loss; the reference is not chosen by its loss, which would make it look too good."""

    def rank(pair: tuple[str, Variant]) -> tuple[int, int, Any]:
        label, variant = pair
        place = min(
            (REFERENCES.index(name) for name in (label, variant.model) if name in REFERENCES), default=len(REFERENCES)
        )
        return place, -len(variant.runs), min(rows[run_id]["start_time"] for run_id in variant.runs.values())

    reference = min(named, key=rank)
    others = [pair for pair in named if pair is not reference]
    return [reference, *sorted(others, key=lambda pair: pair[1].loss.mean)]


def _told(variant: Variant, differing: Mapping[str, Any]) -> str:
    return ", ".join([variant.model, *(f"{n.split('.', 1)[1]} {v}" for n, v in differing.items() if n not in FACTS)])


def _other_budget(variant: Variant, reference: Variant) -> str:
    if variant.settings.get("training.auto_batch_size") or reference.settings.get("training.auto_batch_size"):
        return "training.auto_batch_size follows the memory of the machine"
    return "; ".join(
        f"{name} is {variant.settings.get(name)} and {reference.settings.get(name)}"
        for name in SAME_BUDGET
        if variant.settings.get(name) != reference.settings.get(name)
    )


def _apart(groups: Sequence[Group]) -> Iterable[str]:
    for name in SAME_QUESTION if len(groups) > 1 else ():
        values = list(dict.fromkeys(group.terms[name] for group in groups))
        if len(values) > 1:
            told = ", ".join("not recorded" if value is None else str(value)[:12] for value in values)
            yield f"runs are shown apart, as {name} differs: {told}"


def _left_out(runs: pd.DataFrame, rows: Mapping[str, Row], used: set[str]) -> Iterable[str]:
    for record in runs.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        if row["run_id"] in used:
            continue
        if row["run_id"] in rows:
            why = "a later run has its configuration and seed"
        elif row["status"] != "FINISHED":
            why = f"its status is {row['status']}"
        else:
            why = "it has no seed or no finite validation loss"
        yield f"{row['name']} ({model_label(settings_of(row))}) is left out: {why}"
