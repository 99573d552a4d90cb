"""Facts and tests by name, each computed once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_mlflow.analysis.ablation import WITHOUT
from spectral_mlflow.analysis.design import ALL, NONE
from spectral_mlflow.analysis.significance import Test, compare_values, family
from spectral_mlflow.analysis.statistics import estimate
from spectral_mlflow.config import ModelConfig
from spectral_mlflow.paper import studies
from spectral_mlflow.paper.commands import make_run
from spectral_mlflow.paper.fact import Fact, Missing, UnknownKeyError
from spectral_mlflow.paper.facts import Cell, Facts, Run
from spectral_mlflow.paper.keys import KEYS, plain
from spectral_mlflow.paper.measures import MACHINE, MEASURES, OF_MACHINE, REACHED, TESTED, reached

if TYPE_CHECKING:
    from spectral_mlflow.analysis.model_facts import Cost

MODELS = ("wave", "standard")
ABLATE = "spectral ablate components"


class Book:
    """Looks facts and tests up by name.

    Attributes:
        facts: the runs that they rest on.
        models: configuration and size of the vocabulary of models that were given, instead of those of the runs.
    """

    def __init__(self, facts: Facts, models: Mapping[str, tuple[ModelConfig, int]] | None = None) -> None:
        self.facts = facts
        self.models = dict(models or {})
        self._costs: dict[str, dict[str, Cost] | Missing] = {}
        self._known: dict[str, Fact | Missing] = {}

    def fact(self, key: str) -> Fact | Missing:
        """A fact by name.

        Raises:
            UnknownKeyError: no declared pattern matches.
        """
        if key not in self._known:
            self._known[key] = self._find(key)
        return self._known[key]

    def _find(self, key: str) -> Fact | Missing:
        for declared in KEYS:
            match = re.fullmatch(declared.pattern, key)
            found = declared.find(self, key, **match.groupdict()) if match else None
            if found is not None:
                return found
        raise UnknownKeyError(f"there is no key {key!r}")

    def test(self, name: str) -> Test | Missing:
        """A test by name, such as main.val_loss or ablation.rgd.

        Raises:
            UnknownKeyError: there is no such test.
        """
        group, _, about = name.partition(".")
        if group == "main" and about in TESTED:
            return self.main_tests.get(about) or self.lacking_measure(about)
        if group == "ablation" and about != NONE and self.is_cell(about):
            return self.ablation_tests.get(about) or self._lacking_pair(about)
        if group == "baseline" and about.startswith(WITHOUT) and self.is_cell(about):
            return self.baseline_tests.get(about) or self._lacking_pair(about, NONE)
        raise UnknownKeyError(f"there is no test {name!r}")

    @cached_property
    def main_tests(self) -> dict[str, Test]:
        """Tests of wave against standard, corrected together."""
        if not self.is_comparable:
            return {}
        wave, standard = (self.facts.main[name] for name in MODELS)
        found = [self._compared(f"main.{name}", name, wave, standard) for name in TESTED]
        tests = family(test for test in found if test is not None)
        return {test.name.partition(".")[2]: test for test in tests}

    @cached_property
    def ablation_tests(self) -> dict[str, Test]:
        """Tests of each cell against its reference; those against one reference are corrected together."""
        effects = self.facts.effects
        found = {n: t for n, t in effects.against_none.items() if studies.reference(n) == NONE}
        found |= effects.against_all
        return {n: replace(found[n], name=f"ablation.{n}") for n in self.facts.ablation if n in found}

    @cached_property
    def baseline_tests(self) -> dict[str, Test]:
        """The other tests against the model without components: of what leaves one out."""
        found = self.facts.effects.against_none
        return {n: replace(t, name=f"baseline.{n}") for n, t in found.items() if studies.reference(n) != NONE}

    def family_size(self, group: str, reference: str | None = None) -> int:
        """How many tests are corrected together.

        Args:
            group: main or ablation.
            reference: of an ablation's cells, none or all; None: of all of its tests.
        """
        effects = self.facts.effects
        families = {NONE: effects.against_none, ALL: effects.against_all}
        chosen = [self.main_tests] if group == "main" else [t for n, t in families.items() if reference in (None, n)]
        return sum(test.p is not None for tests in chosen for test in tests.values())

    def _compared(self, name: str, about: str, first: Cell, second: Cell) -> Test | None:
        measure, a, b = TESTED[about], self.values(about, first), self.values(about, second)
        if not a or not b or self._mixed(about):
            return None
        margin = measure.margin or 0.0
        if measure.relative:
            margin *= abs(estimate(list(b.values())).mean)
        return compare_values(a, b, margin=margin or None, name=name)

    @property
    def is_comparable(self) -> bool:
        """Whether there are runs of wave and standard that may be compared."""
        return len(self.facts.main) == len(MODELS) and not self.facts.refused

    @cached_property
    def machines(self) -> str:
        """In what the machines of the main comparison differ; empty where they are alike."""
        runs = [run for cell in self.facts.main.values() for run in cell.runs.values()]
        found = {name: {str(run.machine.get(f"hardware.{name}")) for run in runs} for name in MACHINE}
        return "; ".join(f"{name}: {', '.join(sorted(values))}" for name, values in found.items() if len(values) > 1)

    def _mixed(self, about: str) -> str:
        return self.machines if about in OF_MACHINE else ""

    @cached_property
    def target(self) -> float | None:
        """The loss that every run of the main comparison reaches, nats a token."""
        if not self.is_comparable:
            return None
        losses = [MEASURES["val_loss"].of(run) for cell in self.facts.main.values() for run in cell.runs.values()]
        return max(loss for loss in losses if loss is not None)

    def values(self, about: str, cell: Cell) -> dict[int, float]:
        """A measure of each run of a cell, by seed; empty unless every run has it."""
        found = {seed: self.of_run(about, run) for seed, run in cell.runs.items()}
        values = {seed: value for seed, value in found.items() if value is not None}
        return values if len(values) == len(found) else {}

    def of_run(self, about: str, run: Run) -> float | None:
        """A measure of one run, None where it lacks it."""
        if about not in REACHED:
            return MEASURES[about].of(run)
        found = None if self.target is None else reached(run, self.target)
        return None if found is None else found[list(REACHED).index(about)]

    def model(self, name: str) -> tuple[ModelConfig, int] | None:
        """Configuration of a model and the size of its vocabulary, None where no run recorded them."""
        cell = self.facts.main.get(name)
        if name in self.models or cell is None:
            return self.models.get(name)
        vocabulary = cell.settings.get("model.vocab_size")
        known = {field.name: cell.settings.get(f"model.{field.name}") for field in fields(ModelConfig)}
        values: dict[str, Any] = {
            field: bool(value) if isinstance(value, bool | np.bool_) else plain(value)
            for field, value in known.items()
            if value is not None
        }
        return None if vocabulary is None else (ModelConfig(**values), int(vocabulary))

    def costs(self, name: str) -> Mapping[str, Cost] | Missing:
        """Parameters and operations of the parts of a model, counted on the model itself."""
        if name not in self._costs:
            model = self.model(name)
            if model is None:
                self._costs[name] = self.lacking_cell("main", name)
            else:
                from spectral_mlflow.analysis import model_facts

                self._costs[name] = dict(model_facts.groups(*model))
        return self._costs[name]

    def compared(self, test: str) -> tuple[Cell, Cell]:
        """The two cells of a test, the first minus the second.

        Raises:
            KeyError: one of them has no run.
        """
        group, _, about = test.partition(".")
        if group == "main":
            return self.facts.main["wave"], self.facts.main["standard"]
        return self.facts.ablation[about], self.facts.ablation[studies.reference(about, group)]

    def cell(self, group: str, name: str) -> Cell | None:
        """A cell of the main comparison or of the ablation."""
        return (self.facts.main if group == "main" else self.facts.ablation).get(name)

    def is_cell(self, name: str) -> bool:
        """Whether an ablation may have a cell of that name."""
        return studies.is_cell(name) or name in self.facts.ablation

    def lacking_cell(self, group: str, name: str) -> Missing:
        """That a cell has no finished run."""
        if group == "main":
            return Missing(f"no finished run of model={name}", make_run(name))
        if not self.facts.ablation:
            return Missing("no ablation of the components", ABLATE)
        return Missing(f"no finished run of the ablation's cell {name}", ABLATE)

    def lacking_measure(self, about: str) -> Missing:
        """That a measure of the main comparison cannot be compared."""
        for model in MODELS:
            if model not in self.facts.main:
                return self.lacking_cell("main", model)
        if self.facts.refused:
            return Missing(f"wave and standard are not compared: {self.facts.refused}")
        if mixed := self._mixed(about):
            return Missing(f"{TESTED[about].noun}: the runs are of different machines ({mixed})")
        return Missing(f"{TESTED[about].noun}: not every run has {TESTED[about].query}")

    def _lacking_pair(self, cell: str, reference: str | None = None) -> Missing:
        other = reference or studies.reference(cell)
        return self.lacking_cell("ablation", other if cell in self.facts.ablation else cell)
