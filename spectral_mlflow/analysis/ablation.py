"""Which component does what: the cells of an ablation, each tested against the model that it changes.

A cell is a set of wave components, whatever its runs were called. Its difference means something only where all else
is the same, so that one table holds one data set, one size and one budget; what does not fit is shown apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import pandas as pd

from spectral_mlflow.analysis.comparison import (
    MUST_MATCH,
    SUBJECT,
    Variant,
    automatic_batch,
    unread,
    variants,
    without_result,
)
from spectral_mlflow.analysis.design import ALL, COMPONENTS, NONE
from spectral_mlflow.analysis.significance import LOSS_MARGIN, Test, compare_values, family
from spectral_mlflow.analysis.statistics import Estimate

STUDY = "tags.spectral.study"
WITHOUT = "without_"

_SWITCHES = {name for setting in COMPONENTS.values() for name in setting}
# They follow from the components and the rest.
_FOLLOWS = {"model.type", "model.num_parameters", "dataset.num_tokens"}
# Settings of the components: a cell has those that its components read.
_TUNING = {*SUBJECT, "training.rgd_strength", "training.rgd_warmup", "training.rgd_preserve_norm",
           "training.qfe_lambda"} - _SWITCHES - _FOLLOWS  # fmt: skip
_EMBEDDING, _LOOKUP = "model.embedding", "model.embedding_std"

Components = frozenset[str]


@dataclass(frozen=True)
class Cell:
    """The runs of one set of components.

    Attributes:
        components: the wave components, RGD and QFE that it has; the others are standard.
        variant: its configuration, runs and losses, by seed.
        without_result: seeds that were begun and have no finished run with a finite loss.
    """

    components: Components
    variant: Variant
    without_result: tuple[int, ...]

    @property
    def name(self) -> str:
        """What the cell is called: none, a component, without_ a component, all, or components joined by +."""
        return cell_name(self.components)

    @property
    def loss(self) -> Estimate:
        """Best validation loss over the seeds, nats a token."""
        return self.variant.loss


@dataclass(frozen=True)
class Apart:
    """Runs of one configuration that the table does not hold.

    Attributes:
        cell: name of the cell that it would be.
        runs: seed to run id.
        reason: why it is not in the table.
    """

    cell: str
    runs: Mapping[int, str]
    reason: str


@dataclass(frozen=True)
class Ablation:
    """The cells of an ablation, fewest components first, and what their differences say.

    Each of the three sets of tests is a family of its own: every outcome allows for the others of its set.
    """

    cells: tuple[Cell, ...]
    apart: tuple[Apart, ...]

    @cached_property
    def by_name(self) -> dict[str, Cell]:
        """The cells by their names."""
        return {cell.name: cell for cell in self.cells}

    @cached_property
    def against_none(self) -> dict[str, Test]:
        """Each other cell minus the one without components; empty without that one."""
        return self._against(NONE, [name for name in self.by_name if name != NONE])

    @cached_property
    def against_all(self) -> dict[str, Test]:
        """Each cell that lacks one component minus the one that has all; empty without that one."""
        return self._against(ALL, [name for name in self.by_name if name.startswith(WITHOUT)])

    @cached_property
    def main_effects(self) -> dict[str, Test]:
        """What a component changes on average over all combinations of the others, where there are all of them.

        For each seed, the mean of the cells with it minus the mean of the cells without it; the seeds are those that
        every cell has. Empty unless two components or more were combined in every way.
        """
        varied = [name for name in COMPONENTS if any(name in cell.components for cell in self.cells)]
        grid = {cell.components for cell in self.cells} == {
            frozenset(some) for size in range(len(varied) + 1) for some in combinations(varied, size)
        }
        seeds = set.intersection(*(set(cell.variant.losses) for cell in self.cells)) if self.cells else set()
        if not grid or not seeds or len(varied) < 2:
            return {}
        tests = [
            compare_values(
                self._means(seeds, name, True), self._means(seeds, name, False), margin=LOSS_MARGIN, name=name
            )
            for name in varied
        ]
        return {test.name: test for test in family(tests)}

    def frame(self) -> pd.DataFrame:
        """One row a cell: components, seeds, loss, and the tests against none and, for without_*, against all.

        Returns:
            cell, a column of booleans for each component, n, seeds, val_loss, low, high (nats a token), then
            difference, difference_low, difference_high, p, p_holm, g, mde, p_equivalence and outcome against none, and
            the same with ``against_all_`` before it.
        """
        return pd.DataFrame([
            {"cell": cell.name}
            | {name: name in cell.components for name in COMPONENTS}
            | {"n": cell.loss.n, "seeds": " ".join(map(str, cell.variant.losses))}
            | {"val_loss": cell.loss.mean, "low": cell.loss.low, "high": cell.loss.high}
            | _columns("", self.against_none.get(cell.name))
            | _columns("against_all_", self.against_all.get(cell.name))
            for cell in self.cells
        ])  # fmt: skip

    def _against(self, reference: str, names: Iterable[str]) -> dict[str, Test]:
        if reference not in self.by_name:
            return {}
        other = self.by_name[reference].variant.losses
        tests = [
            compare_values(self.by_name[name].variant.losses, other, margin=LOSS_MARGIN, name=name) for name in names
        ]
        return {test.name: test for test in family(tests)}

    def _means(self, seeds: Iterable[int], component: str, present: bool) -> dict[int, float]:
        chosen = [cell.variant.losses for cell in self.cells if (component in cell.components) is present]
        return {seed: sum(losses[seed] for losses in chosen) / len(chosen) for seed in seeds}


def ablation(runs: pd.DataFrame, study: str | None = None) -> Ablation:
    """The ablation that some runs are, found by their configurations.

    Of runs on several terms (data, sizes, steps, anything but the components) those count that have the most cells,
    then the most runs.

    Args:
        runs: as `load_runs` gives them.
        study: keep the runs of this study, by their tag; None: all.
    """
    if study is not None:
        runs = runs[runs[STUDY] == study] if STUDY in runs else runs.iloc[:0]
    found = variants(runs)
    groups: dict[tuple[tuple[str, Any], ...], list[Variant]] = {}
    for variant in found:
        if _refusal(variant) is None:
            groups.setdefault(_terms(variant), []).append(variant)
    chosen = max(groups.values(), key=_size, default=[])
    usual = _usual(chosen)
    kept: dict[Components, Variant] = {}
    for variant in sorted(chosen, key=lambda one: len(one.runs)):
        if not _differences(variant, _expected(variant, chosen, usual)):
            kept[components_of(variant)] = variant
    lost = without_result(runs, kept.values())
    cells = [Cell(components, variant, seeds) for (components, variant), seeds in zip(kept.items(), lost, strict=True)]
    apart = tuple(
        Apart(cell_name(components_of(variant)), variant.runs, _reason(variant, _expected(variant, chosen, usual)))
        for variant in found if kept.get(components_of(variant)) is not variant
    )  # fmt: skip
    return Ablation(tuple(sorted(cells, key=_order)), apart)


def cell_name(components: Iterable[str]) -> str:
    """The name of a set of components: none, one of them, without_ one of them, all, or joined by +."""
    chosen = set(components)
    lacking = [name for name in COMPONENTS if name not in chosen]
    if len(lacking) <= 1:
        return f"{WITHOUT}{lacking[0]}" if lacking else ALL
    return "+".join(name for name in COMPONENTS if name in chosen) or NONE


def components_of(variant: Variant) -> Components:
    """The components that a variant has."""
    had = variant.settings
    return frozenset(name for name, wanted in COMPONENTS.items() if all(had.get(key) == wanted[key] for key in wanted))


def _terms(variant: Variant) -> tuple[tuple[str, Any], ...]:
    """All that is no matter of components."""
    return tuple(sorted((n, v) for n, v in variant.settings.items() if n not in _SWITCHES | _FOLLOWS | _TUNING))


def _size(group: Sequence[Variant]) -> tuple[int, int]:
    return len({components_of(variant) for variant in group}), sum(len(variant.runs) for variant in group)


def _usual(group: Sequence[Variant]) -> dict[str, Any]:
    """The value of each setting that most runs have, of those that read it."""
    counts: dict[str, Counter[Any]] = {}
    for name in {name for variant in group for name in variant.settings} - _SWITCHES - _FOLLOWS:
        for variant in group:
            if name not in unread(variant.settings):
                counts.setdefault(name, Counter())[variant.settings.get(name)] += len(variant.runs)
    return {name: counter.most_common(1)[0][0] for name, counter in counts.items()}


def _expected(variant: Variant, group: Sequence[Variant], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What is usual for a variant: the scale of the lookup has one default beside waves and another one alone."""
    like = [other for other in group if other.settings.get(_EMBEDDING) == variant.settings.get(_EMBEDDING)]
    found = _usual(like)
    return {**usual, **({_LOOKUP: found[_LOOKUP]} if _LOOKUP in found else {})}


def _differences(variant: Variant, usual: Mapping[str, Any]) -> list[str]:
    """What of a variant is not as usual; a setting that its components do not read is no difference."""
    # What no cell of the table reads has no usual value that one could differ from.
    names = (usual.keys() | (variant.settings.keys() - _TUNING)) - unread(variant.settings) - _SWITCHES - _FOLLOWS
    values = {name: (variant.settings.get(name), usual.get(name)) for name in sorted(names)}
    return [f"{name} is {_told(own)}, in the table {_told(other)}" for name, (own, other) in values.items()
            if own != other]  # fmt: skip


def _told(value: object) -> str:
    return "not set" if value is None else str(value)


def _refusal(variant: Variant) -> str | None:
    unknown = [f"{name} was not recorded" for name in MUST_MATCH if name not in variant.settings]
    return automatic_batch(variant) or "; ".join(unknown) or None


def _reason(variant: Variant, usual: Mapping[str, Any]) -> str:
    told = _refusal(variant) or "; ".join(_differences(variant, usual))
    return told or "its size is not that of the other runs of its cell, which are more"


def _order(cell: Cell) -> tuple[int, list[int]]:
    places = list(COMPONENTS)
    return len(cell.components), sorted(places.index(name) for name in cell.components)


def _columns(prefix: str, test: Test | None) -> dict[str, Any]:
    values = (None,) * 9 if test is None else (
        test.difference.mean, test.difference.low, test.difference.high, test.p, test.p_holm, test.g, test.mde,
        test.p_equivalence, test.outcome,
    )  # fmt: skip
    names = ("difference", "difference_low", "difference_high", "p", "p_holm", "g", "mde", "p_equivalence", "outcome")
    return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)}
