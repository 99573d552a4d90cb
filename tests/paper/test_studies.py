"""Which runs count as the main comparison and as the ablation, and what the ablation's cells are tested against."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from spectral_mlflow.analysis.ablation import STUDY
from spectral_mlflow.analysis.design import one_by_one
from spectral_mlflow.models.gpt import build as build_model
from spectral_mlflow.paper import claims, studies
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.fact import Fact
from spectral_mlflow.paper.facts import Cell, Facts, Run
from spectral_mlflow.settings import build, flatten

NOTHING = Facts("", {}, {}, None, None, None, (), frozenset(), frozenset(), (), studies.EMPTY)


def row(number: int, study: str, cell: str, seed: int, loss: float, **settings: Any) -> dict[str, Any]:
    """One finished run, as `load_runs` gives it."""
    configured = build({name.replace("__", "."): str(value) for name, value in settings.items()} | {"seed": str(seed)})
    known = {"dataset.sha256": "3f", "model.vocab_size": 65, "model.num_parameters": 1000}
    return {
        "run_id": f"{number:032x}", "status": "FINISHED", "metrics.best_val_loss": loss,
        "start_time": pd.Timestamp(number, unit="m"), STUDY: study, studies.CELL: cell,
        **{f"params.{name}": value for name, value in (flatten(configured.to_dict()) | known).items()},
    }  # fmt: skip


def components() -> list[dict[str, Any]]:
    """Two seeds of the twelve cells."""
    cells = [(cell, dict(settings)) for cell, settings in one_by_one().items()]
    return [
        row(100 * seed + place, "components", cell, seed, 2.5 + 0.01 * place + 0.001 * seed * place,
            **{name.replace(".", "__"): value for name, value in settings.items()})
        for seed in (0, 1) for place, (cell, settings) in enumerate(cells)
    ]  # fmt: skip


def test_runs_on_other_data_stand_apart_from_the_ablation() -> None:
    """A run of a study on another text is no part of its cell, and the reader is told why."""
    rows = components()
    rows[0]["params.dataset.sha256"] = "ab"
    found = studies.ablation(rows, None, "here")
    assert len(found.cells["none"]) == 1
    (warning,) = found.warnings
    assert "stand apart from its table, as cell none: dataset.sha256 is ab, in the table 3f" in warning


def test_a_newer_study_of_something_else_is_not_the_ablation() -> None:
    """Of studies that nobody named only one with cells of components counts; one that was named always does."""
    rows = [*components(), row(900, "rates", "lr=0.01", 0, 2.0, lr=0.01), row(901, "rates", "lr=0.02", 0, 2.1, lr=0.02)]
    assert studies.ablation(rows, None, "here").study == "components"
    assert studies.ablation(rows, "rates", "here").study == "rates"


def test_each_reference_has_a_family_of_its_own() -> None:
    """Holm's correction is over the eleven tests against none and over the five against all, and is told so."""
    found = studies.ablation(components(), None, "here")
    facts = replace(NOTHING, ablation={name: Cell(name, {}) for name in found.cells}, effects=found.effects)
    book = Book(facts)
    assert [len(tests) for tests in (book.ablation_tests, book.baseline_tests)] == [11, 5]
    for family, key in (
        ([book.ablation_tests[n] for n in book.ablation_tests if not n.startswith("without")], "none"),
        ([book.ablation_tests[n] for n in book.ablation_tests if n.startswith("without")], "all"),
    ):
        assert {claims.family_key(test.name) for test in family} == {f"ablation.tests_against_{key}"}
    assert book.family_size("ablation", "none") == 11
    assert book.family_size("ablation", "all") == 5
    known = found.effects.against_none["without_rgd"], found.effects.against_all["without_rgd"]
    assert book.baseline_tests["without_rgd"].p_holm == known[0].p_holm
    assert book.ablation_tests["without_rgd"].p_holm == known[1].p_holm
    assert claims.names("baseline.without_rgd")[1] == "the model with no wave component"


@pytest.mark.parametrize(
    "given", [{"model": "wave"}, {"model": "wave", "model.pure_wave": "true"},
              {"model": "standard", "model.match_parameters": "true"}],
)  # fmt: skip
def test_the_counted_model_is_the_one_that_was_trained(given: dict[str, str]) -> None:
    """Settings as pandas gives them, with its own booleans, build a model with the parameters that were trained."""
    configured = build({**given, "model.d_model": "32", "model.num_layers": "2", "model.num_heads": "2"})
    trained = sum(weights.numel() for weights in build_model(configured.model, 65, 0).parameters())
    flat = flatten(configured.to_dict()) | {"model.vocab_size": 65}
    settings = {name: np.bool_(value) if isinstance(value, bool) else value for name, value in flat.items()}
    model = configured.model.type
    run = cast(Run, SimpleNamespace(run_id="ab", settings=settings))
    book = Book(replace(NOTHING, main={model: Cell(model, {0: run})}))
    total = book.fact(f"layers.{model}.total.parameters")
    assert isinstance(total, Fact)
    assert total.value == trained
