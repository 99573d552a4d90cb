"""Finding run directories by whatever name a person has at hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.run_lock import is_running


def run_directories(base: Path) -> list[Path]:
    """All run directories below a folder, oldest start first."""
    found = [path for path in base.glob("[!.]*") if is_run(path)]  # A dot: on its way in or out.
    return sorted(found, key=lambda path: (_started(path), path.name))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory, as far as it can be read; that of a model has a config.json too."""
    try:
        return (folder / "config.json").is_file() and (folder / "logs" / "events.jsonl").is_file()
    except OSError:
        return False


def _started(run_dir: Path) -> str:
    first = next(journal.read(run_dir / "logs" / "events.jsonl"), None)
    return str(first[0].get("timestamp", "")) if first else ""


def find_run(name: str, base: Path) -> Path:
    """The run directory that a name means.

    Args:
        name: a folder, an experiment id or a unique beginning of one, an MLflow run id, or ``latest``.
        base: the folder of run directories.

    Raises:
        UserError: no run, or several, of that name.
    """
    if not name:
        raise UserError("RUN: given nothing; allowed: a run directory, an experiment id, an MLflow run id, or latest")
    if is_run(Path(name)):
        return Path(name).resolve()
    known = run_directories(base)
    if name == "latest" and known:
        return known[-1]
    for matches in (
        [path for path in known if path.name == name],
        [path for path in known if path.name.startswith(name)],
        [path for path in known if name in _store_run_ids(path)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(path.name for path in matches[:3])
            raise UserError(f"run {name!r} is the beginning of {len(matches)} runs ({some} ...); give more of the name")
    raise UserError(
        f"no run {name!r} in {base}; allowed: a run directory, an experiment id or its beginning, "
        "an MLflow run id, or latest (spectral list shows them)"
    )


def _store_run_ids(run_dir: Path) -> Iterator[str]:
    for path in (run_dir / "stores").glob("*.json"):
        try:
            yield json.loads(path.read_text(encoding="utf-8"))["run_id"]
        except (OSError, ValueError, KeyError):
            continue


def is_finished(run_dir: Path) -> bool:
    """Whether a run has come to its end, not only to a stop."""
    events = journal.records(run_dir / "logs" / "events.jsonl")
    turns = [event for event in events if event.get("event") in ("resume", "end")]
    return bool(turns) and turns[-1].get("status") == "FINISHED"


def changed_settings(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings that continuations of a run have changed, by dotted name.

    Args:
        events: the records of its events.jsonl.
    """
    changed: dict[str, Any] = {}
    for event in events:
        if event.get("event") == "resume":
            changed |= event.get("settings", {})
    return changed


def summary(run_dir: Path) -> dict[str, Any]:
    """What a list of runs says of one: model, status, step and losses."""
    config = _config(run_dir)
    events = journal.records(run_dir / "logs" / "events.jsonl")
    lines = journal.records(run_dir / "logs" / "metrics.jsonl")
    turns = [event.get("status", "KILLED") for event in events if event.get("event") in ("start", "resume", "end")]
    best = [line["best_val_loss"] for line in lines if "best_val_loss" in line]
    return {
        "run": run_dir.name,
        "model": config.get("model", {}).get("type", "(config.json is damaged)"),
        "status": "RUNNING" if is_running(run_dir) else (turns[-1] if turns else "KILLED"),
        "step": lines[-1]["step"] if lines else 0,
        "steps": changed_settings(events).get("training.steps", config.get("training", {}).get("steps")),
        "best_val_loss": best[-1] if best else None,
        "started": events[0]["timestamp"] if events else None,
    }


def _config(run_dir: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run_dir / "config.json").read_text(encoding="utf-8")))
    except ValueError:  # One damaged run must not hide the others.
        return {}
