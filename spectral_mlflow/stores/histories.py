"""Lines of the journal as an MLflow run has them: by its metric histories and the tags that name infinite values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlflow import MlflowClient

from spectral_mlflow import journal
from spectral_mlflow.journal import Journal, Record
from spectral_mlflow.stores.client import allowing
from spectral_mlflow.stores.facts import valid_name
from spectral_mlflow.stores.points import MARK, mark_name, unmarked
from spectral_mlflow.stores.reader import NOT_METRICS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HISTORY_SECONDS = 30  # More than a small call needs: a page has 25,000 points.

# (milliseconds since the epoch, step) of a line to its metrics.
Lines = Mapping[tuple[int, int], Mapping[str, float]]


def fetch(client: MlflowClient, run_id: str) -> Lines:
    """All that the store knows of the lines of a run. Values come back as they were sent."""
    data = client.get_run(run_id).data
    lines: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for name in data.metrics:
        with allowing(HISTORY_SECONDS):
            points = client.get_metric_history(run_id, name)
        for point in points:
            lines[point.timestamp, point.step][name] = point.value
    for step, timestamp, name, value in unmarked(data.tags):
        lines[journal.milliseconds(timestamp), step][name] = value
    return lines


def missing(stored: Lines, journaled: Iterable[Record]) -> list[Record]:
    """Records that give a journal what only the store has, oldest first.

    A metric has the name that the journal knows it by, which may be another one than MLflow takes.

    Args:
        stored: what `fetch` gave.
        journaled: the records of metrics.jsonl.
    """
    there: dict[tuple[int, int], set[str]] = defaultdict(set)
    whole: dict[str, bool] = {}
    own: dict[str, str] = {}
    for record in journaled:
        key = (journal.milliseconds(record["timestamp"]), record["step"])
        there[key] |= {valid_name(name) for name in record}
        whole |= {name: isinstance(value, int) for name, value in record.items() if name not in NOT_METRICS}
    for name in whole:
        own |= dict.fromkeys((valid_name(name), mark_name(name).removeprefix(MARK)), name)
    order = {name: place for place, name in enumerate(whole)}
    found = []
    for key in sorted(stored):
        line = {own.get(name, name): value for name, value in stored[key].items()}
        names = [name for name in line if valid_name(name) not in there[key]]
        if names:
            names.sort(key=lambda name: (order.get(name, len(order)), name))
            values = {name: _typed(line[name], whole=whole.get(name, False)) for name in names}
            found.append({"step": key[1], "timestamp": written(key[0]), **values})
    return found


def _typed(value: float, *, whole: bool) -> float:
    """The integer that a metric of integers was before the store made a float of it."""
    return int(value) if whole and value.is_integer() else value


def written(milliseconds: int) -> str:
    """The timestamp of the journal."""
    time = EPOCH + timedelta(milliseconds=milliseconds)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a journal, durably."""
    file = Journal(path)
    for record in records:
        file.append(record)
    file.sync()
    file.close()
