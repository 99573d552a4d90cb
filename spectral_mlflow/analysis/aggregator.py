"""All experiments of a folder in one table, from the result files that runs leave."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_mlflow.files import replace_file
from spectral_mlflow.journal import with_non_finite
from spectral_mlflow.settings import flatten

RESULTS, CONFIG = "results.json", "config.json"
FIRST = ("experiment_id", "status", "model", "seed", "dataset", "num_parameters")
METRICS = ("best_val_loss", "val_loss", "perplexity", "best_step", "final_step", "tokens_per_second",
           "total_time_seconds")  # fmt: skip


class ResultsAggregator:
    """Gathers the ``results.json`` of the experiments in a folder.

    >>> ResultsAggregator("experiments").save_summary("summary.md")  # doctest: +SKIP
    """

    def __init__(self, experiments_dir: str | Path = "experiments") -> None:
        """Read nothing yet.

        Args:
            experiments_dir: folder of run directories.
        """
        self.experiments_dir = Path(experiments_dir)

    def load_results(self) -> dict[str, dict[str, Any]]:
        """The content of each result file by the name of its folder; empty where the file is missing or damaged.

        A folder counts as an experiment where it has a configuration or results.
        """
        found = sorted(path.parent for name in (RESULTS, CONFIG) for path in self.experiments_dir.glob(f"*/{name}"))
        return {folder.name: _content(folder / RESULTS) for folder in dict.fromkeys(found)}

    def summary_table(self) -> pd.DataFrame:
        """One row an experiment, by name: what it was, how it ended, and all its final metrics.

        Returns:
            experiment_id, status (``no results`` where there are none that can be read), model, seed, dataset,
            num_parameters, then the final metrics, those that every training has first.
        """
        rows = [self._row(name, results) for name, results in self.load_results().items()]
        frame = pd.DataFrame(rows, columns=None if rows else [*FIRST, *METRICS])
        rest = sorted(set(frame.columns) - {*FIRST, *METRICS})
        return frame.reindex(columns=[*FIRST, *METRICS, *rest])

    def best(self, metric: str = "best_val_loss", *, maximize: bool = False) -> str | None:
        """The experiment with the best final value of a metric; None where no experiment has one."""
        table = self.summary_table()
        values = pd.to_numeric(table[metric], errors="coerce") if metric in table else pd.Series(dtype="float64")
        if values.notna().sum() == 0:
            return None
        place = int((values if maximize else -values).fillna(-math.inf).to_numpy().argmax())
        return str(table["experiment_id"].iloc[place])

    def save_summary(self, path: str | Path) -> Path:
        """Write the table: Markdown for a name that ends in ``.md``, JSON for ``.json``, else CSV.

        Raises:
            OSError: the disk refuses.
        """
        path, table = Path(path), self.summary_table()
        if path.suffix == ".md":
            text = _markdown(table)
        elif path.suffix == ".json":
            text = json.dumps(json.loads(table.to_json(orient="records")), indent=2) + "\n"
        else:
            text = table.to_csv(index=False)
        replace_file(path, text.encode())
        return path

    def _row(self, name: str, results: dict[str, Any]) -> dict[str, Any]:
        config = _content(self.experiments_dir / name / CONFIG)
        settings = flatten(config.get("config") or {})
        metrics = results.get("final_metrics")
        return {
            "experiment_id": name,
            "status": results.get("status", "completed" if results else "no results"),
            "model": _part(config, "model").get("type"),
            "seed": settings.get("training.seed"),
            "dataset": (_part(results, "dataset") or _part(config, "dataset")).get("name"),
            "num_parameters": results.get("num_parameters", _part(config, "model").get("num_parameters")),
            **{key: value for key, value in (metrics if isinstance(metrics, dict) else {}).items() if key not in FIRST},
        }


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return with_non_finite(found) if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _markdown(table: pd.DataFrame) -> str:
    rows = [
        list(table.columns),
        ["---"] * len(table.columns),
        *table.astype(object).where(table.notna(), "").to_numpy(),
    ]
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |\n" for row in rows)
