"""Which runs are compared: the studies that runs are tagged with, or else runs found by their configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectral_mlflow.analysis import comparison
from spectral_mlflow.analysis.comparison import Refusal, Variant
from spectral_mlflow.errors import UserError

Row = Mapping[str, Any]

STUDY, CELL = "tags.spectral.study", "tags.spectral.cell"
MAIN = ("standard", "wave")
NONE, ALL, WITHOUT = "none", "all", "without_"
# Settings that put a component in the place of the standard one.
COMPONENTS = {
    "embedding": ("model.embedding", "wave"),
    "attention": ("model.attention", "wave"),
    "feedforward": ("model.feedforward", "wave"),
    "rgd": ("training.optimizer", "RGD"),
    "qfe": ("training.loss", "QFE"),
}
CELLS = (NONE, *COMPONENTS, *(f"{WITHOUT}{name}" for name in COMPONENTS), ALL)
# What tells the cells of one ablation apart, and what follows from it.
_VARIED = {
    *comparison.SUBJECT, *(name for name, _ in COMPONENTS.values()), "training.rgd_strength", "training.rgd_warmup",
    "training.rgd_preserve_norm", "training.qfe_lambda",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The runs of one comparison.

    Attributes:
        study: its name, None where the runs were found by their configuration.
        cells: name to seed to row; of a repeated seed the latest finished run.
        refused: why the cells cannot be compared, None if they can.
        warnings: what a reader should know, each one line.
        left_out: rows of the study that are no results.
    """

    study: str | None
    cells: Mapping[str, Mapping[int, Row]]
    refused: str | None = None
    warnings: tuple[str, ...] = ()
    left_out: tuple[Row, ...] = ()


def main(rows: Sequence[Row], study: str | None, address: str) -> Choice:
    """The runs of wave and standard.

    Raises:
        UserError: there is no such study.
    """
    tagged = _tagged(rows, lambda cells: bool(cells & set(MAIN)))
    name = _named("--study", study, tagged, address) or _newest(tagged, _is_complete_pair)
    if name is None:
        return _pair(rows)
    chosen = _of_study(name, [row for row in tagged[name] if row[CELL] in MAIN], MAIN)
    return Choice(name, chosen.cells, _refusal(chosen.cells), chosen.warnings, chosen.left_out)


def ablation(rows: Sequence[Row], study: str | None, address: str) -> Choice:
    """The runs of the components' ablation.

    Raises:
        UserError: there is no such study.
    """
    tagged = _tagged(rows, lambda cells: bool(cells - set(MAIN)))
    name = _named("--ablation", study, tagged, address) or _newest(tagged, _is_finished)
    if name is None:
        return _by_configuration(rows)
    return _of_study(name, tagged[name], CELLS)


def reference(cell: str) -> str:
    """The cell that a cell is measured against: what leaves one out against all, any other one against none."""
    return ALL if cell.startswith(WITHOUT) else NONE


def cell_of(settings: Mapping[str, Any]) -> str:
    """Name of the cell of a configuration."""
    on = [name for name, (setting, value) in COMPONENTS.items() if settings.get(setting) == value]
    missing = [name for name in COMPONENTS if name not in on]
    if not on or not missing:
        return ALL if on else NONE
    return f"{WITHOUT}{missing[0]}" if len(missing) == 1 else "+".join(on)


def _tagged(rows: Sequence[Row], wanted: Callable[[set[str]], bool]) -> dict[str, list[Row]]:
    """Runs by study, those studies first that were begun last."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if _is_text(row.get(STUDY)) and _is_text(row.get(CELL)):
            found.setdefault(row[STUDY], []).append(row)
    kept = {name: of for name, of in found.items() if wanted({row[CELL] for row in of})}
    return dict(sorted(kept.items(), key=lambda item: max(row["start_time"] for row in item[1]), reverse=True))


def _named(option: str, study: str | None, tagged: Mapping[str, object], address: str) -> str | None:
    if study is not None and study not in tagged:
        raise UserError(f"{option}: given {study!r}; such studies in {address}: {', '.join(tagged) or 'none'}")
    return study


def _newest(tagged: Mapping[str, list[Row]], complete: Callable[[list[Row]], bool]) -> str | None:
    return next((name for name, rows in tagged.items() if complete(rows)), next(iter(tagged), None))


def _is_complete_pair(rows: list[Row]) -> bool:
    cells = _of_study("", [row for row in rows if row[CELL] in MAIN], MAIN).cells
    return len(cells) == len(MAIN) and _refusal(cells) is None and _is_finished(rows)


def _is_finished(rows: list[Row]) -> bool:
    """Whether each cell and seed that was begun has a result."""
    begun = {(row[CELL], row.get("params.training.seed")) for row in rows}
    return begun == {(row[CELL], row.get("params.training.seed")) for row in rows if _is_result(row)}


def _of_study(name: str, rows: list[Row], order: Sequence[str]) -> Choice:
    cells: dict[str, Mapping[int, Row]] = {}
    warnings = []
    for cell in sorted({row[CELL] for row in rows}, key=lambda cell: (_place(cell, order), cell)):
        mine = [row for row in rows if row[CELL] == cell]
        found = _variants(mine)
        if len(found) > 1:
            warnings.append(
                f"cell {cell} of study {name} has runs of {len(found)} configurations; "
                "the one with the most seeds counts"
            )
        if found:
            cells[cell] = _rows(max(found, key=lambda variant: len(variant.runs)), mine)
    return Choice(name, cells, None, tuple(warnings), tuple(row for row in rows if not _is_result(row)))


def _pair(rows: Sequence[Row]) -> Choice:
    """Wave and standard by configuration: the pair that differs in the least, or what there is of it."""
    found = _variants(rows)
    comparisons, refusals = comparison.compare_all(found)
    wave: Variant | None
    standard: Variant | None
    if comparisons:
        wave, standard = comparisons[0].wave, comparisons[0].standard
    else:
        wave = next((variant for variant in found if variant.model == "wave"), None)
        standard = next((variant for variant in found if variant.model == "standard"), None)
    cells = {v.model: _rows(v, rows) for v in (standard, wave) if v is not None}
    refused = refusals[0].reason if refusals and not comparisons else None
    return Choice(None, cells, refused, (), tuple(row for row in rows if not _is_result(row)))


def _by_configuration(rows: Sequence[Row]) -> Choice:
    """The largest group of runs that differ in nothing but their components."""
    groups: dict[tuple[tuple[str, Any], ...], dict[str, Variant]] = {}
    for variant in _variants(rows):
        same = tuple(sorted((name, value) for name, value in variant.settings.items() if name not in _VARIED))
        cells = groups.setdefault(same, {})
        cell = cell_of(variant.settings)
        if cell not in cells or len(variant.runs) > len(cells[cell].runs):
            cells[cell] = variant
    plain = {NONE, cell_of(dict(list(COMPONENTS.values())[:3]))}  # Wave and standard.
    kept = [cells for cells in groups.values() if NONE in cells and set(cells) - plain]
    if not kept:
        return Choice(None, {})
    best = max(kept, key=len)
    names = sorted(best, key=lambda cell: (_place(cell, CELLS), cell))
    return Choice(None, {name: _rows(best[name], rows) for name in names})


def _refusal(cells: Mapping[str, Mapping[int, Row]]) -> str | None:
    if len(cells) < len(MAIN):
        return None
    variants = {name: _variants(list(cell.values()))[0] for name, cell in cells.items()}
    result = comparison.compare(variants["wave"], variants["standard"])
    return result.reason if isinstance(result, Refusal) else None


def _variants(rows: Sequence[Row]) -> list[Variant]:
    return comparison.variants(pd.DataFrame(list(rows))) if rows else []


def _rows(variant: Variant, rows: Iterable[Row]) -> dict[int, Row]:
    by_id = {str(row["run_id"]): row for row in rows}
    return {seed: by_id[run_id] for seed, run_id in variant.runs.items()}


def _is_result(row: Row) -> bool:
    return row["status"] == "FINISHED" and comparison.has_result(row)


def _place(cell: str, order: Sequence[str]) -> int:
    return order.index(cell) if cell in order else len(order)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
