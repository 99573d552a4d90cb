"""Run directories as the frames that a store gives, with what MLflow cannot hold: infinities, and runs it never had."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_mlflow import journal
from spectral_mlflow.analysis.runs import histories_frame, runs_frame
from spectral_mlflow.analysis.source import KIND, Point, Row
from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.run_lock import is_running
from spectral_mlflow.settings import flatten

RUN_DIR, KEY = "tags.spectral.run_dir", "tags.spectral.key"
FACTS = ("dataset.sha256", "dataset.num_tokens", "model.vocab_size", "model.num_parameters", "hardware.device",
         "hardware.precision", "hardware.float32_matmul_precision", "hardware.threads", "hardware.cpu_model",
         "hardware.gpu_model")  # fmt: skip


def run_dir_of(row: Mapping[Any, Any]) -> Path | None:
    """The directory of a run (one row of `load_runs`); None where it is not on this machine, or of another run."""
    given = row.get(RUN_DIR)
    if not isinstance(given, str) or not given:
        return None
    start = next(journal.read(Path(given) / "logs" / "events.jsonl"), None)
    mine = start is not None and start[0].get("experiment_id") == row.get(KEY)
    return Path(given) if mine else None


def load_run_directories(folders: Iterable[Path]) -> pd.DataFrame:
    """The frame of `load_runs` for some run directories; a run that was never in MLflow has its own id as run_id."""
    rows = [_row(folder) for folder in folders]
    return runs_frame(sorted(rows, key=lambda row: (row["start_time"] or 0, row["run_id"])))


def load_directory_histories(folders: Iterable[Path], keys: Sequence[str]) -> pd.DataFrame:
    """The frame of `load_histories` for some run directories, with their run_id as in `load_run_directories`."""
    return histories_frame([point for folder in folders for point in _points(folder, _run_id(folder), keys)])


def with_directories(histories: pd.DataFrame, runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Histories of a store, but those of runs whose directory is there from their journal, which has all values.

    Args:
        histories: as `load_histories` gives them.
        runs: as `load_runs` gives them.
        keys: the metrics of the histories.
    """
    here = {str(row["run_id"]): folder for row in runs.to_dict("records") if (folder := run_dir_of(row))}
    points = [point for run_id, folder in here.items() for point in _points(folder, run_id, keys)]
    rest = histories[~histories["run_id"].isin({run_id for run_id, *_ in points})]
    both = [frame for frame in (rest, histories_frame(points)) if len(frame)]
    return pd.concat(both).sort_values(["run_id", "key", "step"], ignore_index=True) if both else histories


def _row(folder: Path) -> Row:
    config = _json(folder / "config.json")
    events = journal.records(folder / "logs" / "events.jsonl")
    start = events[0] if events else {}
    turns = [event for event in events if event.get("event") in ("resume", "end")]
    ended = turns[-1] if turns and turns[-1].get("event") == "end" else {}
    row = {
        "run_id": _run_id(folder), "name": folder.name,
        "status": "RUNNING" if is_running(folder) else ended.get("status", "KILLED"),
        "experiment": (config.get("config") or {}).get("monitoring", {}).get("mlflow_experiment"),
        "start_time": _time(start), "end_time": _time(ended),
    }  # fmt: skip
    row |= {f"tags.{name}": value for name, value in _tags(folder, config, start).items()}
    row |= {f"params.{name}": value for name, value in _params(config).items()}
    return row | {f"metrics.{name}": value for name, value in _latest(folder).items()}


def _tags(folder: Path, config: Record, start: Record) -> dict[str, str]:
    training = (config.get("config") or {}).get("training") or {}
    git = config.get("git") or {}
    known = {
        KIND: "train",
        **(start.get("tags") or {}),
        "spectral.key": start.get("experiment_id") or folder.name,
        "spectral.run_dir": folder.absolute(),
        "spectral.seed": training.get("seed"),
        "spectral.config_hash": config.get("config_hash"),
        "spectral.dataset_sha256": (config.get("dataset") or {}).get("sha256"),
        "mlflow.source.git.commit": git.get("commit") or config.get("git_hash"),
    }
    return {name: str(value) for name, value in known.items() if value not in (None, "")}


def _params(config: Record) -> dict[str, str]:
    """Settings and facts by dotted name, as MLflow has them."""
    values = flatten(config.get("config") or {})
    for section, name in (fact.split(".") for fact in FACTS):
        if (value := (config.get(section) or {}).get(name)) is not None:
            values[f"{section}.{name}"] = value
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _latest(folder: Path) -> dict[str, float]:
    """The value of each metric at its highest step; of a step that was done again, the later one."""
    found: dict[str, tuple[int, float]] = {}
    for record in _lines(folder):
        for name, value in _numbers(record):
            if record["step"] >= found.get(name, (record["step"],))[0]:
                found[name] = (record["step"], float(value))
    return {name: value for name, (_, value) in found.items()}


def _points(folder: Path, run_id: str, keys: Sequence[str]) -> Iterator[Point]:
    wanted = set(keys)
    for record in _lines(folder):
        time = journal.milliseconds(record["timestamp"])
        for name, value in _numbers(record):
            if name in wanted:
                yield run_id, name, record["step"], time, float(value)


def _lines(folder: Path) -> Iterator[Record]:
    for record, _ in journal.read(folder / "logs" / "metrics.jsonl"):
        if isinstance(record.get("step"), int) and isinstance(record.get("timestamp"), str):
            yield record


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if name not in ("step", "timestamp") and isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, value


def _run_id(folder: Path) -> str:
    known = _json(folder / "stores" / "mlflow.json").get("run_id")
    return known if isinstance(known, str) and known else folder.name


def _time(event: Record) -> int | None:
    return journal.milliseconds(event["timestamp"]) if event.get("timestamp") else None


def _json(path: Path) -> Record:
    """The content of a file; nothing of one that is missing or damaged, which the run's other files outlive."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
