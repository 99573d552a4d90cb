"""Which runs are compared: the studies that runs are tagged with, or else runs found by their configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectral_mlflow.analysis import comparison
from spectral_mlflow.analysis.ablation import STUDY, WITHOUT, Ablation
from spectral_mlflow.analysis.ablation import ablation as ablation_of
from spectral_mlflow.analysis.comparison import Refusal, Variant
from spectral_mlflow.analysis.design import ALL, COMPONENTS, NONE
from spectral_mlflow.errors import UserError

Row = Mapping[str, Any]

CELL = "tags.spectral.cell"
MAIN = ("standard", "wave")
CELLS = (NONE, *COMPONENTS, *(f"{WITHOUT}{name}" for name in COMPONENTS), ALL)
PLAIN = {frozenset(), frozenset({"embedding", "attention", "feedforward"})}  # Components of standard and wave.
EMPTY = Ablation((), ())


@dataclass(frozen=True)
class Choice:
    """The runs of one comparison.

    Attributes:
        study: its name, None where the runs were found by their configuration.
        cells: name to seed to row; of a repeated seed the latest finished run.
        refused: why the cells cannot be compared, None if they can.
        warnings: what a reader should know, each one line.
        left_out: rows of the study that are no results.
        effects: of an ablation, its cells with their tests.
    """

    study: str | None
    cells: Mapping[str, Mapping[int, Row]]
    refused: str | None = None
    warnings: tuple[str, ...] = ()
    left_out: tuple[Row, ...] = ()
    effects: Ablation = EMPTY


def main(rows: Sequence[Row], study: str | None, address: str) -> Choice:
    """The runs of wave and standard.

    Raises:
        UserError: there is no such study.
    """
    tagged = _tagged(rows, lambda cells: bool(cells & set(MAIN)))
    name = _named("--study", study, tagged, address) or _newest(tagged, _is_complete_pair)
    if name is None:
        return _pair(rows)
    return _of_study(name, [row for row in tagged[name] if row[CELL] in MAIN])


def ablation(rows: Sequence[Row], study: str | None, address: str) -> Choice:
    """The runs of the components' ablation.

    Raises:
        UserError: there is no such study.
    """
    tagged = _tagged(rows, lambda cells: bool(cells - set(MAIN)))
    ours = {name: of for name, of in tagged.items() if any(is_cell(row[CELL]) for row in of)}
    name = _named("--ablation", study, tagged, address) or _newest(ours, _is_finished)
    rows = rows if name is None else tagged[name]
    found = ablation_of(pd.DataFrame(list(rows))) if rows else EMPTY
    if name is None and (NONE not in found.by_name or {cell.components for cell in found.cells} <= PLAIN):
        return Choice(None, {})
    if name is None:
        return Choice(None, _in_order(found, rows), effects=found)
    warnings = tuple(
        f"{len(one.runs)} runs of study {name} stand apart from its table, as cell {one.cell}: {one.reason}"
        for one in found.apart
    )
    left_out = tuple(row for row in rows if not _is_result(row))
    return Choice(name, _in_order(found, rows), None, warnings, left_out, found)


def reference(cell: str, group: str = "ablation") -> str:
    """The cell that a cell is measured against: what leaves one out against all, any other one against none.

    Args:
        cell: its name.
        group: of the test; ``baseline`` holds those of what leaves one out against none.
    """
    return ALL if cell.startswith(WITHOUT) and group != "baseline" else NONE


def is_cell(name: str) -> bool:
    """Whether that is how a combination of components is called."""
    return name in CELLS or set(name.split("+")) <= set(COMPONENTS)


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
    found = _of_study("", [row for row in rows if row[CELL] in MAIN])
    return len(found.cells) == len(MAIN) and found.refused is None and _is_finished(rows)


def _is_finished(rows: list[Row]) -> bool:
    """Whether each cell and seed that was begun has a result."""
    begun = {(row[CELL], row.get("params.training.seed")) for row in rows}
    return begun == {(row[CELL], row.get("params.training.seed")) for row in rows if _is_result(row)}


def _of_study(name: str, rows: list[Row]) -> Choice:
    """Wave and standard of a study."""
    cells: dict[str, Mapping[int, Row]] = {}
    warnings = []
    for cell in MAIN:
        mine = [row for row in rows if row[CELL] == cell]
        found = _variants(mine)
        if len(found) > 1:
            warnings.append(
                f"cell {cell} of study {name} has runs of {len(found)} configurations; "
                "the one with the most seeds counts"
            )
        if found:
            cells[cell] = _rows(max(found, key=lambda variant: len(variant.runs)), mine)
    return Choice(name, cells, _refusal(cells), tuple(warnings), tuple(row for row in rows if not _is_result(row)))


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


def _in_order(found: Ablation, rows: Sequence[Row]) -> dict[str, Mapping[int, Row]]:
    """Rows of the cells, in the order of the tables."""
    names = sorted(found.by_name, key=lambda cell: (CELLS.index(cell) if cell in CELLS else len(CELLS), cell))
    return {name: _rows(found.by_name[name].variant, rows) for name in names}


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


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
