"""The keys of facts: a table of patterns, each with what it means and how its value is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import stdev
from typing import TYPE_CHECKING, Any

from spectral_mlflow.analysis.significance import LOSS_MARGIN, Test
from spectral_mlflow.analysis.statistics import Estimate, estimate
from spectral_mlflow.paper.fact import Fact, Missing, UnknownKeyError
from spectral_mlflow.paper.facts import Cell
from spectral_mlflow.paper.measures import ALL, COST, TESTED

if TYPE_CHECKING:
    from spectral_mlflow.paper.book import Book

Found = Fact | Missing | None

STATISTICS = {"confidence": 95, "alpha": 0.05, "margin": LOSS_MARGIN, "cost_margin": 100 * COST, "power": 80}
# What a test says beside its difference: kind (None: that of the measure) and where it is.
OF_TEST: dict[str, tuple[str | None, Callable[[Test], float | None]]] = {
    "p": ("p", lambda test: test.p),
    "p_holm": ("p", lambda test: test.p_holm),
    "g": ("effect", lambda test: test.g),
    "mde": (None, lambda test: test.mde),
    "p_equivalence": ("p", lambda test: test.p_equivalence),
    "p_equivalence_holm": ("p", lambda test: test.p_equivalence_holm),
    "margin": (None, lambda test: test.margin),
    "pairs": ("count", lambda test: test.difference.n),
}
DATA = {  # Field of a run directory's config.json, and the parameter in the store.
    "name": ("name", "dataset.name"), "sha256": ("sha256", "dataset.sha256"),
    "tokenizer": ("tokenizer", "dataset.tokenizer"), "tokens": ("num_tokens", "dataset.num_tokens"),
    "vocab_size": ("vocab_size", "model.vocab_size"),
    "train_tokens": ("train_tokens", None), "val_tokens": ("val_tokens", None),
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """A family of facts.

    Attributes:
        pattern: regular expression of the whole key; its groups are arguments of `find`.
        meaning: for people.
        find: the fact; None where the key only looks like one of these.
    """

    pattern: str
    meaning: str
    find: Callable[..., Found]


def _of_cell(book: Book, key: str, group: str, cell: str, measure: str, part: str | None) -> Found:
    if group == "ablation" and not book.is_cell(cell):
        return None
    found = book.cell(group, cell)
    if found is None:
        return book.lacking_cell(group, cell)
    if measure in ("steps_to_target", "seconds_to_target") and not book.is_comparable:
        return book.lacking_measure(measure)
    values, of = book.values(measure, found), ALL[measure]
    if not values:
        return Missing(f"{of.noun} of {cell}: not every run has {of.query}")
    query = of.query if len(values) == 1 else f"mean over seeds of {of.query}"
    return _part(Fact(key, 0.0, of.kind, ids([found]), query), list(values.values()), part)


def _part(fact: Fact, values: list[float], part: str | None) -> Found:
    """A mean over seeds, or what its suffix asks for."""
    mean = estimate(values)
    if part == "n":
        return Fact(fact.key, mean.n, "count", fact.runs, f"number of seeds of the {fact.query}")
    if part is None:
        return Fact(fact.key, mean.mean, fact.kind, fact.runs, fact.query, mean)
    if mean.n == 1:
        return Missing(f"one seed has no uncertainty ({fact.key})")
    return _end(fact, mean, part, stdev(values))


def _end(fact: Fact, of: Estimate, part: str, deviation: float | None = None) -> Found:
    value = {"low": of.low, "high": of.high, "half": of.half_width, "std": deviation, "n": of.n}[part]
    if value is None:
        return Missing(f"one seed has no uncertainty ({fact.key})")
    return Fact(fact.key, value, "count" if part == "n" else fact.kind, fact.runs, f"{part} of the {fact.query}")


def _seeds(book: Book, key: str, group: str, cell: str) -> Found:
    if group == "ablation" and not book.is_cell(cell):
        return None
    found = book.cell(group, cell)
    if found is None:
        return book.lacking_cell(group, cell)
    return Fact(key, len(found.runs), "count", ids([found]), "number of runs, one a seed")


def _of_test(book: Book, key: str, group: str, about: str, what: str, part: str | None) -> Found:
    if group != "main" and not book.is_cell(about):
        return None
    test = book.test(f"{group}.{about}")
    if isinstance(test, Missing):
        return test
    measure = TESTED[about] if group == "main" else TESTED["val_loss"]
    cells = book.compared(f"{group}.{about}")
    runs, pairing = ids(cells), "paired by seed" if test.paired else "not paired"
    fact = Fact(
        key, test.difference.mean, measure.kind, runs, f"{measure.query}: difference, {pairing}", test.difference
    )
    if what == "difference":
        return fact if part is None else _end(fact, test.difference, part)
    if what in ("percent", "ratio"):
        # Of a paired test the seeds that both have: the other ones may be easier, or harder.
        values = [book.values(about if group == "main" else "val_loss", cell) for cell in cells]
        first, second = (estimate([v for s, v in of.items() if s in (test.seeds or of)]).mean for of in values)
        if what == "ratio":
            return Fact(key, first / second, "times", runs, f"{measure.query}: ratio of the means")
        return Fact(key, 100 * (first - second) / second, "percent", runs, f"{measure.query}: difference of the means")
    kind, value = OF_TEST[what][0] or measure.kind, OF_TEST[what][1](test)
    if value is None:
        return Missing(f"one seed has no uncertainty ({key})")
    return Fact(key, value, kind, runs, f"{measure.query}: {what} of the test {test.name}, {pairing}")


def _target(book: Book, key: str) -> Found:
    if book.target is None:
        return book.lacking_measure("steps_to_target")
    runs = ids(book.facts.main.values())
    return Fact(key, book.target, "loss", runs, "largest of the metrics.best_val_loss of all runs")


def _tests(book: Book, key: str, group: str, reference: str | None) -> Found:
    cells = book.facts.main if group == "main" else book.facts.ablation
    told = f"against {reference} that are corrected together" if reference else f"of the {group} runs"
    return Fact(key, book.family_size(group, reference), "count", ids(cells.values()), f"number of tests {told}")


def _of_study(book: Book, key: str, group: str, what: str) -> Found:
    cells = list((book.facts.main if group == "study" else book.facts.ablation).values())
    if not cells:
        return book.lacking_cell("main" if group == "study" else "ablation", "wave")
    runs = [run for cell in cells for run in cell.runs.values()]
    name = book.facts.study if group == "study" else book.facts.ablation_study
    values: dict[str, int | str | None] = {
        "runs": len(runs),
        "cells": len(cells),
        "configurations": len(cells),
        "seeds": min(len(cell.runs) for cell in cells),
        "steps": max(int(run.settings.get("training.steps") or 0) for run in runs),
        "commits": len({run.commit for run in runs if run.commit}),
        "first_day": min(run.started for run in runs).strftime("%Y-%m-%d"),
        "name": name,
    }
    value = values[what]
    if value is None:
        return Missing("the runs belong to no named study", "spectral ablate seeds")
    return Fact(key, value, "text" if isinstance(value, str) else "count", ids(cells), f"{what} of the runs")


def _setting(book: Book, key: str, group: str | None, model: str | None, name: str) -> Found:
    if not any(name in run.settings for run in book.facts.runs) and name not in setting_names():
        raise UnknownKeyError(f"there is no setting {name!r}")
    cells = book.facts.ablation if group else book.facts.main
    chosen = [cell for cell in cells.values() if model in (None, cell.name) and name in cell.settings]
    if not chosen:
        return book.lacking_cell("ablation" if group else "main", model or "wave")
    values = {json.dumps(cell.settings[name], default=str): cell.settings[name] for cell in chosen}
    if len(values) > 1:
        told = ", ".join(f"{cell.name} {cell.settings[name]}" for cell in chosen)
        raise UnknownKeyError(
            f"{key} differs between cells ({told}): write settings.wave.{name} or settings.standard.{name}"
        )
    return Fact(key, plain(next(iter(values.values()))), "setting", ids(chosen), f"params.{name}")


def _data(book: Book, key: str, what: str) -> Found:
    field, parameter = DATA[what]
    runs = [run for cell in book.facts.main.values() for run in cell.runs.values()] or list(book.facts.runs)
    if not runs:
        return book.lacking_cell("main", "wave")
    values = {run.settings.get(parameter) if parameter else run.dataset.get(field) for run in runs} - {None}
    if len(values) > 1:
        return Missing(f"the runs used different data ({what}: {', '.join(sorted(map(str, values)))})")
    if not values:
        return Missing(f"{field} of the data is not recorded: the run directory of {runs[0].key} is not here")
    value, query = values.pop(), f"params.{parameter}" if parameter else f"dataset.{field} of config.json"
    return Fact(key, plain(value), "text" if isinstance(value, str) else "count", tuple(r.run_id for r in runs), query)


def _hardware(book: Book, key: str, what: str) -> Found:
    runs = [run for run in book.facts.runs if run.machine.get(f"hardware.{what}") is not None]
    if not runs:
        return Missing(f"no run recorded hardware.{what}")
    values = dict.fromkeys(str(plain(run.machine[f"hardware.{what}"])) for run in runs)
    return Fact(key, ", ".join(values), "text", tuple(run.run_id for run in runs), f"params.hardware.{what}")


def _layers(book: Book, key: str, model: str, part: str, what: str) -> Found:
    found = book.cell("main", model)
    if found is None and model not in book.models:
        return book.lacking_cell("main", model)
    costs = book.costs(model)
    if isinstance(costs, Missing):
        return costs
    cost, runs = costs[part], ids([found]) if found else ()
    if what == "memory_mb":
        return Fact(key, cost.parameters * 4 / 2**20, "seconds", runs, "parameters of four bytes each")
    value = cost.parameters if what == "parameters" else cost.flops
    return Fact(key, value, "count", runs, f"{what} of the model that the settings of its runs build")


def _wave(book: Book, key: str, measure: str, part: str | None) -> Found:
    return _of_cell(
        book, key, "main", "wave", measure.removesuffix("_last") if "coherence" in measure else measure, part
    )


def _statistic(_: Book, key: str, what: str) -> Found:
    return Fact(key, STATISTICS[what], "setting", (), "constant of the analysis")


def _of_run(book: Book, key: str, run_id: str, measure: str) -> Found:
    run = book.facts.by_id.get(run_id)
    if run is None:
        return None
    value = book.of_run(measure, run)
    if value is None:
        return Missing(f"{run.label} has no {ALL[measure].query}")
    return Fact(key, value, ALL[measure].kind, (run_id,), ALL[measure].query)


def ids(cells: Iterable[Cell]) -> tuple[str, ...]:
    """MLflow ids of the runs of some cells."""
    return tuple(run.run_id for cell in cells for run in cell.runs.values())


def setting_names() -> set[str]:
    """Names of all settings, and of the facts that are kept beside them."""
    from spectral_mlflow.settings import all_settings

    return {setting.name for setting in all_settings()}


def plain(value: Any) -> float | str:
    """A setting as it is written: numbers stay numbers, also those that pandas made."""
    if value is None or isinstance(value, str):
        return value or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return int(value) if float(value).is_integer() and not isinstance(value, float) else float(value)


_CELL = r"(?P<cell>[A-Za-z0-9][\w.=+-]*)"
_PART = r"(?:\.(?P<part>low|high|n|std|half))?"
_MEASURE = f"(?P<measure>{'|'.join(ALL)})"
_OF_TEST = rf"(?P<what>difference|percent|ratio|{'|'.join(OF_TEST)}){_PART}"
_WAVE = (
    "ratio_first|ratio_last|temperature_first|temperature_last|temperature_min_last|temperature_max_last|coherence_last"
)

KEYS: tuple[Key, ...] = (
    Key(rf"(?P<group>main)\.(?P<cell>wave|standard)\.{_MEASURE}{_PART}", "a measure, mean over seeds", _of_cell),
    Key(rf"(?P<group>ablation)\.{_CELL}\.{_MEASURE}{_PART}", "a measure of a cell, mean over seeds", _of_cell),
    Key(r"(?P<group>main)\.(?P<cell>wave|standard)\.seeds", "number of seeds", _seeds),
    Key(rf"(?P<group>ablation)\.{_CELL}\.seeds", "number of seeds of a cell", _seeds),
    Key(r"main\.target", "the loss that every run of both models reaches, nats per token", _target),
    Key(r"(?P<group>main|ablation)\.tests(?:_against_(?P<reference>none|all))?", "number of tests", _tests),
    Key(rf"(?P<group>main)\.(?P<about>{'|'.join(TESTED)})\.{_OF_TEST}", "wave minus standard", _of_test),
    Key(rf"(?P<group>ablation)\.{_CELL.replace('cell', 'about')}\.{_OF_TEST}", "a cell minus its reference", _of_test),
    Key(rf"(?P<group>baseline)\.(?P<about>without_\w+)\.{_OF_TEST}", "a cell minus the one called none", _of_test),
    Key(r"(?P<group>study|ablation)\.(?P<what>runs|cells|configurations|seeds|steps|commits|first_day|name)",
        "a property of a study", _of_study),
    Key(r"(?:(?P<group>ablation)\.)?settings\.(?:(?P<model>wave|standard)\.)?(?P<name>\w+\.\w+)",
        "a setting", _setting),
    Key(rf"data\.(?P<what>{'|'.join(DATA)})", "the text that was trained on", _data),
    Key(r"hardware\.(?P<what>cpu_model|device|precision|gpu_model|threads)", "the machine", _hardware),
    Key(r"layers\.(?P<model>wave|standard)\.(?P<part>embedding|attention|feedforward|norms|head|total)"
        r"\.(?P<what>parameters|flops|memory_mb)", "cost of a part of a model", _layers),
    Key(rf"wave\.(?P<measure>{_WAVE}){_PART}", "what the waves became, mean over seeds", _wave),
    Key(rf"stats\.(?P<what>{'|'.join(STATISTICS)})", "a constant of the analysis", _statistic),
    Key(rf"runs\.(?P<run_id>[0-9a-f]+)\.{_MEASURE}", "a measure of one run", _of_run),
)  # fmt: skip
