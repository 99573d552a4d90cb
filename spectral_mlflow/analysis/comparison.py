"""Runs as variants (one configuration over its seeds), and the wave model beside the standard one.

Two variants are compared only where their losses mean the same: same data, same tokens, same
budget, same skeleton. Everything else that differs between them is told with the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from spectral_mlflow.analysis.significance import LOSS_MARGIN, Test, compare_values, family
from spectral_mlflow.analysis.statistics import Estimate, Outcome, estimate
from spectral_mlflow.config import DECISIVE
from spectral_mlflow.settings import all_settings

LOSS = "metrics.best_val_loss"
COMPONENTS = ("embedding", "attention", "feedforward")

MUST_MATCH = (
    "dataset.sha256",
    "dataset.tokenizer",
    "dataset.train_split",
    "dataset.val_split",
    "dataset.val_windows",
    "model.vocab_size",
    "model.block_size",
    "model.d_model",
    "model.num_layers",
    "model.num_heads",
    "training.steps",
    "training.batch_size",
)

_OF_WAVE_EMBEDDING = {
    "model.num_harmonics",
    "model.wave_ratio",
    "model.packet_spread",
    "model.harmonic_decay",
    "model.max_phase_speed",
    "model.pure_wave",
}

# What makes the two models two: no reader needs to be told that it differs.
SUBJECT = (
    "model.type",
    *(f"model.{component}" for component in COMPONENTS),
    "model.num_waves",
    "model.tau",
    "model.embedding_std",
    *_OF_WAVE_EMBEDDING,
    "model.match_parameters",
    "model.num_parameters",
)

# The hash says what the text was; its name and place may differ between machines.
_INCIDENTAL = ("training.seed", "training.max_skipped", "dataset.name", "dataset.path")
_SETTINGS = (
    *(s.name for s in all_settings() if s.name.split(".")[0] in DECISIVE),
    "dataset.sha256",
    "dataset.num_tokens",
    "model.vocab_size",
    "model.num_parameters",
)


@dataclass(frozen=True)
class Variant:
    """One configuration and the finished runs of it, one a seed.

    Attributes:
        model: "wave", "standard", or which layers are which.
        settings: what decides the result, without the seed.
        runs: seed to run id.
        losses: seed to the best validation loss, nats a token.
    """

    model: str
    settings: Mapping[str, Any]
    runs: Mapping[int, str]
    losses: Mapping[int, float]

    @cached_property
    def loss(self) -> Estimate:
        """Best validation loss over the seeds."""
        return estimate(list(self.losses.values()))

    @cached_property
    def perplexity(self) -> Estimate:
        """Exponential of the best validation loss of each seed, over the seeds; infinite where no float holds it."""
        try:
            return estimate([math.exp(loss) for loss in self.losses.values()])
        except OverflowError:
            return Estimate(math.inf, None, len(self.losses))


@dataclass(frozen=True)
class Comparison:
    """A wave variant beside a standard one.

    Attributes:
        test: of the best validation loss, wave minus standard, nats a token.
        seeds: the seeds that both have.
        also_differ: further settings that differ, each with the wave's and the standard's value.
    """

    wave: Variant
    standard: Variant
    test: Test
    seeds: tuple[int, ...]
    also_differ: tuple[tuple[str, Any, Any], ...]

    @property
    def difference(self) -> Estimate:
        """Wave minus standard, nats a token."""
        return self.test.difference

    @property
    def outcome(self) -> Outcome:
        """What the difference says of the wave model's loss."""
        return self.test.outcome


@dataclass(frozen=True)
class Refusal:
    """Why two variants are not compared."""

    wave: Variant
    standard: Variant
    reason: str


def model_label(settings: Mapping[str, Any]) -> str:
    """What kind of model a run trained: all layers alike, or which layer is which."""
    kinds = [settings.get(f"model.{component}") for component in COMPONENTS]
    if None in kinds:
        return str(settings.get("model.type") or "unknown")
    if len(set(kinds)) == 1:
        return str(kinds[0])
    return "mixed: " + ", ".join(f"{kind} {component}" for kind, component in zip(kinds, COMPONENTS, strict=True))


def settings_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run (one row of `load_runs`) that were recorded."""
    values = {name: row.get(f"params.{name}") for name in _SETTINGS}
    return {name: value for name, value in values.items() if not _missing(value)}


def finished(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The runs that count as results: finished, with a seed and a finite best validation loss."""
    rows = runs.to_dict("records")
    return [{str(k): v for k, v in row.items()} for row in rows if row["status"] == "FINISHED" and has_result(row)]


def has_result(row: Mapping[Any, Any]) -> bool:
    """Whether a run has a seed and a finite best validation loss."""
    seed, loss = row.get("params.training.seed"), row.get(LOSS)
    return not _missing(seed) and not _missing(loss) and math.isfinite(float(loss or 0.0))


def variants(runs: pd.DataFrame) -> list[Variant]:
    """Finished runs gathered by configuration; of a repeated seed the latest run counts."""
    groups: dict[tuple[tuple[str, Any], ...], list[dict[str, Any]]] = {}
    for row in sorted(finished(runs), key=lambda row: row["start_time"]):
        groups.setdefault(tuple(_decisive(settings_of(row)).items()), []).append(row)
    found = []
    for settings, rows in groups.items():
        by_seed = {int(row["params.training.seed"]): row for row in rows}
        found.append(
            Variant(
                model_label(dict(settings)),
                dict(settings),
                {seed: str(row["run_id"]) for seed, row in sorted(by_seed.items())},
                {seed: float(row[LOSS]) for seed, row in sorted(by_seed.items())},
            )
        )
    return sorted(found, key=_rank)


def without_result(runs: pd.DataFrame, found: Iterable[Variant]) -> list[tuple[int, ...]]:
    """The seeds of each variant that were begun and have no finished run with a finite loss.

    A mean over the others says nothing of them, and flatters where a model fails often.
    """
    counted = {row["run_id"] for row in finished(runs)}
    begun = [
        (int(row["params.training.seed"]), _decisive(settings_of({str(k): v for k, v in row.items()})).items())
        for row in runs.to_dict("records")
        if row["run_id"] not in counted and not _missing(row.get("params.training.seed"))
    ]
    return [
        tuple(sorted({seed for seed, had in begun if had and had <= one.settings.items()} - one.losses.keys()))
        for one in found
    ]


def compare(wave: Variant, standard: Variant) -> Comparison | Refusal:
    """The difference in best validation loss, or the reason why there is none to speak of.

    Seeds that both have are paired. With fewer than two of them the two stand apart, which takes two seeds of each.
    """
    reasons = [*map(automatic_batch, (wave, standard)), *(_mismatch(name, wave, standard) for name in MUST_MATCH)]
    if reason := "; ".join(filter(None, reasons)):
        return Refusal(wave, standard, reason)
    seeds = tuple(sorted(wave.losses.keys() & standard.losses.keys()))
    if not seeds and min(len(wave.losses), len(standard.losses)) == 1:
        return Refusal(wave, standard, f"no seed in common: {_listed(wave.losses)} and {_listed(standard.losses)}")
    test = compare_values(wave.losses, standard.losses, margin=LOSS_MARGIN, name="wave minus standard")
    return Comparison(wave, standard, test, seeds, _also_differ(wave.settings, standard.settings))


def compare_all(found: Sequence[Variant]) -> tuple[list[Comparison], list[Refusal]]:
    """Every all-wave variant beside every all-standard one, those that differ in the least first.

    The comparisons are one family: each outcome allows for all the others.
    """
    results = [
        compare(wave, standard)
        for wave in found
        if wave.model == "wave"
        for standard in found
        if standard.model == "standard"
    ]
    comparisons = [result for result in results if isinstance(result, Comparison)]
    tests = family(result.test for result in comparisons)
    comparisons = [replace(result, test=test) for result, test in zip(comparisons, tests, strict=True)]
    return (
        sorted(comparisons, key=lambda result: (len(result.also_differ), -len(result.seeds))),
        [result for result in results if isinstance(result, Refusal)],
    )


def distinguishing(found: Iterable[Variant]) -> dict[int, dict[str, Any]]:
    """What tells variants of one model apart: position in the sequence to the settings that differ."""
    found = list(found)
    told: dict[int, dict[str, Any]] = {}
    for position, variant in enumerate(found):
        siblings = [other for other in found if other.model == variant.model]
        names = sorted({name for other in siblings for name in other.settings})
        told[position] = {
            name: variant.settings.get(name)
            for name in names
            if any(other.settings.get(name) != variant.settings.get(name) for other in siblings)
        }
    return told


def unread(settings: Mapping[str, Any]) -> set[str]:
    """Names of the settings that a run with this model, optimizer and loss does not read."""
    names: set[str] = set()
    kinds = {settings.get(f"model.{component}") for component in COMPONENTS}
    if None not in kinds:
        names.add("model.type")  # It only sets the components, which say more.
    if settings.get("model.embedding") == "standard":
        names |= _OF_WAVE_EMBEDDING
    if settings.get("model.attention") == "standard":
        names.add("model.tau")
    if kinds == {"standard"}:
        names.add("model.num_waves")
    if settings.get("model.feedforward") == "wave":
        names.add("model.match_parameters")
    if settings.get("training.optimizer") == "AdamW":
        names |= {"training.rgd_strength", "training.rgd_warmup", "training.rgd_preserve_norm"}
    if not settings.get("training.block_warmup_steps"):
        names.add("training.first_block_size")
    if settings.get("training.loss") == "CE":
        names.add("training.qfe_lambda")
    return names


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    ignored = unread(settings).union(_INCIDENTAL)
    return {name: value for name, value in settings.items() if name not in ignored}


def _also_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """What differs besides the subject, without what only one of the two reads: that follows from something told."""
    names = (first.keys() | second.keys()) - set(SUBJECT) - unread(first) - unread(second)
    return tuple((n, first.get(n), second.get(n)) for n in sorted(names) if first.get(n) != second.get(n))


def _rank(variant: Variant) -> tuple[int, int]:
    """Standard, wave, then the rest; the best supported first."""
    order = ("standard", "wave")
    return order.index(variant.model) if variant.model in order else len(order), -len(variant.losses)


def automatic_batch(variant: Variant) -> str | None:
    """A batch size that follows the free memory of a machine is no term of a comparison."""
    if not variant.settings.get("training.auto_batch_size"):
        return None
    return f"training.auto_batch_size is on ({variant.model}); run it again with training.batch_size"


def _mismatch(name: str, wave: Variant, standard: Variant) -> str | None:
    first, second = wave.settings.get(name), standard.settings.get(name)
    if first is None or second is None:
        return f"{name} was not recorded"
    return None if first == second else f"{name} differs (wave {first}, standard {second})"


def _listed(seeds: Iterable[int]) -> str:
    return "seeds " + ", ".join(map(str, seeds))


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
