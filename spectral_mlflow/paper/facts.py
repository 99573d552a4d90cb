"""What the documents are about: the main comparison and the ablation, found in the store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spectral_mlflow import config
from spectral_mlflow.analysis import comparison
from spectral_mlflow.analysis.ablation import STUDY, Ablation
from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.analysis.source import reading
from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import studies
from spectral_mlflow.paper.manifest import HISTORIES
from spectral_mlflow.paper.studies import Choice

SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class History:
    """One metric of one run over its steps, finite values only.

    Attributes:
        steps: (n,).
        seconds: since the run started (n,).
        values: (n,).
    """

    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Run:
    """One finished run that the documents tell about.

    Attributes:
        label: R1, R2, ... in the order of the tables.
        key: experiment id, the name of the run directory.
        cell: of the study that it belongs to, such as wave or without_rgd.
        study: that it is tagged with, None for none.
        status: of the run in MLflow.
        metrics: latest value by name.
        commit: of the code that it ran, None where that is not known.
        data: sha256 of its text.
        directory: with its files, None where it is not here.
        page: of the run in MLflow, behind the address of a server.
    """

    label: str
    run_id: str
    key: str
    cell: str
    seed: int
    study: str | None
    status: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    machine: Mapping[str, Any]
    started: datetime
    ended: datetime | None
    commit: str | None
    data: str | None
    directory: Path | None
    page: str
    histories: Mapping[str, History] = field(repr=False)

    @cached_property
    def dataset(self) -> Mapping[str, Any]:
        """What the run directory says of the text; empty where the directory is elsewhere."""
        try:
            content = json.loads((self.directory / "config.json").read_text(encoding="utf-8")) if self.directory else {}
        except (OSError, ValueError):
            return {}
        known = content.get("dataset") if content.get("experiment_id") == self.key else None
        return known if isinstance(known, dict) and known.get("sha256") == self.data else {}


@dataclass(frozen=True)
class Cell:
    """Runs of one configuration, one a seed."""

    name: str
    runs: Mapping[int, Run]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of its runs; the seed is that of the first."""
        return next(iter(self.runs.values())).settings


@dataclass(frozen=True)
class Facts:
    """What the store has for the documents.

    Attributes:
        store: address of the store, without a password.
        main: the cells ``standard`` and ``wave``, as far as they have runs.
        ablation: cells by name, in the order of the tables.
        study: name of the main study; None where it was found by configuration.
        ablation_study: name of the ablation.
        refused: why the cells of the main comparison are not compared; None if they are.
        warnings: further things that a reader should know, each one line.
        known: ids of all training runs in the store.
        keys: their names, the names of their directories.
        unfinished: key and status of the runs of the two studies that are left out.
        effects: tests of the ablation's cells.
    """

    store: str
    main: Mapping[str, Cell]
    ablation: Mapping[str, Cell]
    study: str | None
    ablation_study: str | None
    refused: str | None
    warnings: tuple[str, ...]
    known: frozenset[str]
    keys: frozenset[str]
    unfinished: tuple[tuple[str, str], ...]
    effects: Ablation

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every run that a number may come from, in the order of their labels."""
        found = {
            run.run_id: run for cells in (self.main, self.ablation) for c in cells.values() for run in c.runs.values()
        }
        return tuple(found.values())

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """Runs by their MLflow run id."""
        return {run.run_id: run for run in self.runs}


def gather(
    tracking_uri: str,
    experiments: Sequence[str] = (),
    study: str | None = None,
    ablation: str | None = None,
    experiments_dir: Path | None = None,
) -> Facts:
    """Find what the documents are about.

    Args:
        tracking_uri: where the store is.
        experiments: only these runs, each an experiment id, a run directory, a run name, an MLflow run id
            or the beginning of an id; empty: all training runs.
        study: name of the study that compares wave with standard; None: the newest complete one.
        ablation: name of the ablation; None: the newest complete one.
        experiments_dir: folder of run directories, for those that are no longer where they were written.

    Raises:
        UserError: the store cannot be read, or has no run or study that was asked for.
    """
    address = config.without_password(tracking_uri)
    frame = load_runs(tracking_uri)
    chosen = frame[frame["run_id"].isin(_selected(frame, experiments, address))]
    rows = [{str(k): v for k, v in row.items()} for row in chosen.to_dict("records")]
    main, cells = studies.main(rows, study, address), studies.ablation(rows, ablation, address)
    maker = _Maker(tracking_uri, experiments_dir, main, cells)
    return Facts(
        store=address,
        main=maker.cells(main),
        ablation=maker.cells(cells),
        study=main.study,
        ablation_study=cells.study,
        refused=main.refused,
        warnings=(*main.warnings, *cells.warnings),
        known=frozenset(map(str, frame["run_id"])),
        keys=frozenset(_key(row) for row in frame.to_dict("records")),
        effects=cells.effects,
        unfinished=tuple(dict.fromkeys((_key(row), str(row["status"])) for row in (*main.left_out, *cells.left_out))),
    )


class _Maker:
    """Makes runs of rows, with labels that go through both studies and one reading of the histories."""

    def __init__(self, tracking_uri: str, experiments_dir: Path | None, *choices: Choice) -> None:
        self._experiments_dir = experiments_dir
        rows = [row for choice in choices for cell in choice.cells.values() for row in cell.values()]
        ids = list(dict.fromkeys(str(row["run_id"]) for row in rows))
        self._labels = {run_id: f"R{number}" for number, run_id in enumerate(ids, 1)}
        with reading(tracking_uri) as (source, _):
            self._experiments = {name: key for key, name in source.experiments().items()}
        frame = load_histories(tracking_uri, ids, HISTORIES)
        frame = frame[np.isfinite(frame["value"])]
        self._histories = dict(iter(frame.groupby(["run_id", "key"], sort=False)))

    def cells(self, choice: Choice) -> dict[str, Cell]:
        return {
            name: Cell(name, {seed: self._run(name, seed, row) for seed, row in rows.items()})
            for name, rows in choice.cells.items()
        }

    def _run(self, cell: str, seed: int, row: Mapping[str, Any]) -> Run:
        run_id, started, ended = str(row["run_id"]), row["start_time"].to_pydatetime(), row["end_time"]
        return Run(
            label=self._labels[run_id],
            run_id=run_id,
            key=_key(row),
            cell=cell,
            seed=seed,
            study=_text(row.get(STUDY)),
            status=str(row["status"]),
            settings=comparison.settings_of(row),
            metrics=_numbers(row, "metrics."),
            machine={name.removeprefix("params."): v for name, v in row.items() if name.startswith("params.hardware.")},
            started=started,
            ended=None if pd.isna(ended) else ended.to_pydatetime(),
            commit=_text(row.get("tags.mlflow.source.git.commit")),
            data=_text(row.get("params.dataset.sha256")),
            directory=self._directory(row),
            page=f"#/experiments/{self._experiments.get(str(row['experiment']), '0')}/runs/{run_id}",
            histories={
                key: _history(self._histories[run_id, key], started)
                for key in HISTORIES
                if (run_id, key) in self._histories
            },
        )

    def _directory(self, row: Mapping[str, Any]) -> Path | None:
        written = _text(row.get("tags.spectral.run_dir"))
        places = [Path(written)] if written else []
        places += [self._experiments_dir / _key(row)] if self._experiments_dir else []
        return next((place for place in places if place.is_dir()), None)


def _history(part: pd.DataFrame, started: datetime) -> History:
    seconds = (part["timestamp"] - pd.Timestamp(started)).dt.total_seconds()
    return History(part["step"].to_numpy(), seconds.to_numpy(), part["value"].to_numpy())


def _selected(frame: pd.DataFrame, experiments: Sequence[str], address: str) -> set[str]:
    if not experiments:
        return set(frame["run_id"])
    known = [(str(row["run_id"]), _key(row), str(row["name"])) for row in frame.to_dict("records")]
    found: set[str] = set()
    for given in experiments:
        wanted = Path(given).name
        exact = [names[0] for names in known if wanted in names]
        begun = [
            n[0] for n in known if len(wanted) >= SHORTEST_PREFIX and n[0].startswith(wanted) | n[1].startswith(wanted)
        ]
        if not exact and len(begun) != 1:
            some = ", ".join(names[1] for names in known[-5:]) or "none"
            what = "several runs begin with it" if begun else "no training run has that id, name or directory"
            raise UserError(f"--experiments: given {given!r}, but {what} in {address}; the latest runs there: {some}")
        found.update(exact or begun)
    return found


def _key(row: Mapping[Any, Any]) -> str:
    return _text(row.get("tags.spectral.key")) or str(row["name"])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _numbers(row: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): float(value)
        for name, value in row.items()
        if name.startswith(prefix) and isinstance(value, float | int) and math.isfinite(value)
    }
