"""The cells of a study: training runs that differ in what the study is about, each with some seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.config import DECISIVE, ExperimentConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import runs
from spectral_mlflow.settings import differences, load


@dataclass(frozen=True)
class Cell:
    """One training run of a study.

    Attributes:
        study: name of the study.
        name: what its seeds have in common.
        seed: of the run.
        config: all its settings.
    """

    study: str
    name: str
    seed: int
    config: ExperimentConfig

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"

    @cached_property
    def tags(self) -> dict[str, str]:
        """Of its run, in the stores."""
        return {"spectral.study": self.study, "spectral.cell": self.name}

    @property
    def slug(self) -> str:
        """Its name as part of the name of a file."""
        return f"{self.name.replace('+', '_')}-seed{self.seed}"


@dataclass(frozen=True)
class Found:
    """What the disk has of a cell.

    Attributes:
        run_dir: its finished run, or else the newest one.
        finished: whether it has come to its end.
    """

    run_dir: Path
    finished: bool

    @property
    def resumable(self) -> bool:
        """Whether it left a checkpoint to go on from."""
        return not self.finished and any((self.run_dir / "checkpoints").glob("checkpoint_step_*"))


def find(cells: Mapping[tuple[str, int], Cell], base: Path) -> dict[tuple[str, int], Found]:
    """The runs of some cells of one study, by name of the cell and seed.

    Args:
        cells: by name and seed.
        base: the folder of run directories.

    Raises:
        UserError: a run of that study, cell and seed was trained with other settings.
    """
    found: dict[tuple[str, int], Found] = {}
    for run_dir, start in _started(base):
        for place, cell in cells.items():
            if _is_of(cell, start) and _seed(run_dir) == cell.seed:
                _check_same(cell, run_dir)
                if place not in found or not found[place].finished:
                    found[place] = Found(run_dir, runs.is_finished(run_dir))
    return found


def _started(base: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for run_dir in runs.run_directories(base):
        first = next(journal.read(run_dir / "logs" / "events.jsonl"), None)
        if first is not None:
            yield run_dir, first[0].get("tags") or {}


def _is_of(cell: Cell, tags: Mapping[str, Any]) -> bool:
    return all(tags.get(name) == value for name, value in cell.tags.items())


def _seed(run_dir: Path) -> int | None:
    try:
        return load(run_dir / "config.json").training.seed
    except UserError:  # Of another version, or damaged: it is not this cell.
        return None


def _check_same(cell: Cell, run_dir: Path) -> None:
    """Refuse a study that mixes two questions under one name."""
    for name, (wanted, had) in differences(cell.config, load(run_dir / "config.json")).items():
        if name.split(".")[0] in DECISIVE and not (name == "dataset.name" and wanted == "auto"):
            raise UserError(
                f"--study: given {cell.study!r}, which has {cell} with {name}={had}, and now {name}={wanted}; "
                "allowed: the settings that it was begun with, or another name"
            )
