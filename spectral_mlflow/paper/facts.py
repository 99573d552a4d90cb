"""The facts that a document may state: everything here is read from the store, nothing is typed in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_mlflow import config
from spectral_mlflow.analysis import comparison
from spectral_mlflow.analysis.comparison import Comparison, Refusal, Variant
from spectral_mlflow.analysis.runs import load_histories, load_runs
from spectral_mlflow.analysis.statistics import Outcome
from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.commands import training_command

KEYS = ("loss", "val_loss", "tokens_per_sec")
SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class RunFact:
    """One run as the tables show it; None is what the store does not have.

    Attributes:
        label: R1, R2, ... in the order in which the runs started.
        key: experiment id, the name of the run directory.
        last_step: last step with a loss in the store.
        best_val_loss: nats a token.
        perplexity: exp of the best validation loss.
        tokens_per_second: median over the logged steps.
        command: what trains the same run again.
    """

    label: str
    run_id: str
    key: str
    name: str
    status: str
    model: str
    settings: Mapping[str, Any]
    seed: int | None
    dataset: str | None
    last_step: int | None
    best_val_loss: float | None
    perplexity: float | None
    tokens_per_second: float | None
    started: datetime
    commit: str | None
    command: str


@dataclass(frozen=True)
class DatasetFact:
    """One text and the runs that used it."""

    name: str
    sha256: str | None
    tokens: int | None
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Everything a document states.

    Attributes:
        store: address of the store, without a password.
        runs: the selected runs, oldest first.
        variants: their finished runs by configuration.
        comparisons: wave beside standard where that means something.
        refusals: and where it does not, with the reasons.
        histories: run_id, key, step, value of the learning curves.
    """

    store: str
    runs: tuple[RunFact, ...]
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...]
    refusals: tuple[Refusal, ...]
    histories: pd.DataFrame

    @cached_property
    def by_id(self) -> dict[str, RunFact]:
        """Runs by their MLflow run id."""
        return {run.run_id: run for run in self.runs}

    @cached_property
    def results(self) -> tuple[RunFact, ...]:
        """The runs that the summaries are made of."""
        used = {run_id for variant in self.variants for run_id in variant.runs.values()}
        return tuple(run for run in self.runs if run.run_id in used)

    @cached_property
    def datasets(self) -> tuple[DatasetFact, ...]:
        """The texts that the results were trained on."""
        names = ("dataset.name", "dataset.sha256", "dataset.num_tokens")
        keys = {run.label: tuple(run.settings.get(name) for name in names) for run in self.results}
        return tuple(
            DatasetFact(str(name or "unknown"), sha256, tokens, tuple(label for label, k in keys.items() if k == key))
            for key in dict.fromkeys(keys.values())
            for name, sha256, tokens in [key]
        )

    def label(self, variant: Variant) -> str:
        """V1, V2, ... in the order of the tables."""
        return f"V{self.variants.index(variant) + 1}"

    def name(self, variant: Variant) -> str:
        """A short name for figures."""
        return f"{variant.model.split(':')[0]} ({self.label(variant)})"

    def outcomes(self, outcome: Outcome) -> int:
        """Number of comparisons that came out so."""
        return sum(result.outcome == outcome for result in self.comparisons)

    def values(self, name: str) -> list[Any]:
        """The different values of a setting among the results, in the order of the runs."""
        return list(dict.fromkeys(run.settings[name] for run in self.results if name in run.settings))

    def median_speed(self, variant: Variant) -> float | None:
        """Median over a variant's runs of their tokens a second."""
        speeds = [self.by_id[run_id].tokens_per_second for run_id in variant.runs.values()]
        known = [speed for speed in speeds if speed is not None]
        return float(pd.Series(known).median()) if known else None

    def curves(self, key: str) -> dict[str, list[tuple[list[int], list[float]]]]:
        """Histories of one metric: variant to one (steps, values) a seed, finite values only."""
        points = self.histories[self.histories["key"] == key]
        points = points[points["value"].map(math.isfinite)]
        found: dict[str, list[tuple[list[int], list[float]]]] = {}
        for variant in self.variants:
            for run_id in variant.runs.values():
                one = points[points["run_id"] == run_id]
                if len(one):
                    found.setdefault(self.name(variant), []).append((one["step"].tolist(), one["value"].tolist()))
        return found


def gather(tracking_uri: str, experiments: Sequence[str] = ()) -> Facts:
    """Read the facts of the training runs of a store.

    Args:
        tracking_uri: where the store is.
        experiments: the runs to tell about, each an experiment id, a run directory, a run name, an MLflow run id
            or the beginning of an id; empty: all.

    Raises:
        UserError: the store cannot be read, or has no run that was asked for.
    """
    frame = load_runs(tracking_uri)
    frame = frame[frame["run_id"].isin(_selected(frame, experiments, tracking_uri))]
    histories = load_histories(tracking_uri, frame["run_id"], KEYS)
    rows = frame.to_dict("records")
    variants = comparison.variants(frame)
    comparisons, refusals = comparison.compare_all(variants)
    return Facts(
        store=config.without_password(tracking_uri),
        runs=tuple(_fact(f"R{number}", row, histories) for number, row in enumerate(rows, 1)),
        variants=tuple(variants),
        comparisons=tuple(comparisons),
        refusals=tuple(refusals),
        histories=histories,
    )


def _selected(frame: pd.DataFrame, experiments: Sequence[str], tracking_uri: str) -> set[str]:
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
            raise UserError(
                f"--experiments: given {given!r}, but {what} in {config.without_password(tracking_uri)}; "
                f"the latest runs there: {some}"
            )
        found.update(exact or begun)
    return found


def _fact(label: str, row: Mapping[Any, Any], histories: pd.DataFrame) -> RunFact:
    settings = comparison.settings_of(row)
    mine = histories[histories["run_id"] == row["run_id"]]
    best = _number(row.get(comparison.LOSS))
    steps = mine.loc[mine["key"] == "loss", "step"]
    speeds = mine.loc[mine["key"] == "tokens_per_sec", "value"]
    return RunFact(
        label=label,
        run_id=str(row["run_id"]),
        key=_key(row),
        name=str(row["name"]),
        status=str(row["status"]),
        model=comparison.model_label(settings),
        settings=settings,
        seed=settings.get("training.seed"),
        dataset=settings.get("dataset.name"),
        last_step=int(steps.max()) if len(steps) else None,
        best_val_loss=best,
        perplexity=None if best is None else math.exp(best),
        tokens_per_second=float(speeds.median()) if len(speeds) else None,
        started=row["start_time"].to_pydatetime(),
        commit=_text(row.get("tags.mlflow.source.git.commit")),
        command=training_command(settings),
    )


def _key(row: Mapping[Any, Any]) -> str:
    return _text(row.get("tags.spectral.key")) or str(row["name"])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else None
