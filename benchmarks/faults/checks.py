"""What must hold after a fault. Each check raises AssertionError, whose text says what did not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.home import Home, events, lines, query
from spectral_mlflow import journal
from spectral_mlflow.monitoring.checkpoints import CheckpointManager

DETERMINISTIC = ("loss", "objective", "coherence_loss", "val_loss", "learning_rate", "grad/norm", "wave_ratio")


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run came to.

    Attributes:
        columns: for each deterministic column the value at each step.
        checkpoint: the last one.
        seconds: that it took.
    """

    columns: dict[str, dict[int, float]]
    checkpoint: dict[str, Any]
    seconds: float


def require(true: object, otherwise: str) -> None:
    """Hold, or fail with this sentence.

    Raises:
        AssertionError: it is not true.
    """
    if not true:
        raise AssertionError(otherwise)


def columns(run_dir: Path) -> dict[str, dict[int, float]]:
    """The deterministic columns of a journal, in which each step must stand once."""
    found: dict[str, dict[int, float]] = {name: {} for name in DETERMINISTIC}
    for line in lines(run_dir):
        for name in DETERMINISTIC:
            if name in line:
                require(line["step"] not in found[name], f"step {line['step']} has {name} twice in the journal")
                found[name][line["step"]] = line[name]
    return {name: values for name, values in found.items() if values}


def same_journal(run_dir: Path, reference: Reference) -> None:
    """The deterministic columns equal those of the reference, bit for bit, each step once."""
    found = columns(run_dir)
    require(found.keys() == reference.columns.keys(), f"columns {sorted(found)} instead of {sorted(reference.columns)}")
    for name, values in reference.columns.items():
        different = sorted(step for step in {**values, **found[name]} if values.get(step) != found[name].get(step))
        require(not different, f"{name} differs from the uninterrupted run's at steps {different[:5]}")


def last_checkpoint(run_dir: Path) -> dict[str, Any]:
    """The newest checkpoint that is whole."""
    content = CheckpointManager(str(run_dir)).load_latest_checkpoint()
    if content is None:
        raise AssertionError(f"{run_dir.name} has no whole checkpoint")
    return content


def same_parameters(run_dir: Path, reference: Reference) -> None:
    """Step, parameters and optimizer state of the last checkpoint equal those of the reference, bit for bit."""
    found = last_checkpoint(run_dir)
    for name in ("step", "model_state_dict", "optimizer_state_dict", "loss_history"):
        place = _difference(found[name], reference.checkpoint[name], name)
        require(place is None, f"last checkpoint: {place} differs from the uninterrupted run's")


def _difference(one: Any, other: Any, place: str) -> str | None:
    """Where two values differ; None if nowhere."""
    if isinstance(one, torch.Tensor):
        return None if torch.equal(one, other) else place
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return place
        pairs = [(one[key], other[key], f"{place}.{key}") for key in one]
    elif isinstance(one, list):
        if len(one) != len(other):
            return place
        pairs = [(a, b, f"{place}[{index}]") for index, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else place
    return next((found for pair in pairs if (found := _difference(*pair))), None)


# The store


def store_run(home: Home, run_dir: Path) -> str:
    """The one MLflow run of a run directory."""
    found = query(home.store, "SELECT run_uuid FROM tags WHERE key = 'spectral.key' AND value = ?", run_dir.name)
    require(len(found) == 1, f"{run_dir.name} has {len(found)} runs in MLflow")
    return str(found[0][0])


def same_store(home: Home, run_dir: Path) -> None:
    """Every line of the journal is in MLflow exactly once, and nothing else is."""
    run_id = store_run(home, run_dir)
    rows = query(home.store, "SELECT key, step, timestamp, value FROM metrics WHERE run_uuid = ?", run_id)
    sent = Counter((str(key), int(step), int(time), float(value)) for key, step, time, value in rows)
    written = Counter(point for line in lines(run_dir) for point in _points(line))
    missing, extra = written - sent, sent - written
    require(
        not missing, f"{missing.total()} of {written.total()} points not in MLflow, such as {min(missing, default='')}"
    )
    require(
        not extra, f"{extra.total()} points in MLflow that the journal does not have, such as {min(extra, default='')}"
    )
    twice = [place for place, count in Counter((key, step) for key, step, _, _ in sent).items() if count > 1]
    require(not twice, f"{len(twice)} points twice in MLflow, such as {twice[:1]}")


def _points(line: dict[str, Any]) -> list[tuple[str, int, int, float]]:
    time = journal.milliseconds(line["timestamp"])
    return [
        (name, line["step"], time, float(value))
        for name, value in line.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def same_history(home: Home, run_dir: Path, reference: Reference) -> None:
    """MLflow's history of the deterministic columns equals the reference, each step once."""
    run_id = store_run(home, run_dir)
    for name, values in reference.columns.items():
        rows = query(home.store, "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ?", run_id, name)
        require(sorted(rows) == sorted(values.items()), f"MLflow's history of {name} is not the uninterrupted run's")


def status_is(home: Home, run_dir: Path, *allowed: str) -> None:
    """The run has ended in MLflow as it has ended in truth."""
    run_id = store_run(home, run_dir)
    (status,) = query(home.store, "SELECT status FROM runs WHERE run_uuid = ?", run_id)[0]
    require(status in allowed, f"{run_dir.name} is {status} in MLflow, which should be {' or '.join(allowed)}")


def no_surprise(run_dir: Path) -> None:
    """No recomputed step differed from its journal line."""
    alerts = [event["message"] for event in events(run_dir, "alert") if event["kind"] == "resume"]
    require(not alerts, f"alert: {alerts[:1]}")
