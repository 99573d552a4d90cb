"""Runs and their metric histories as pandas frames, read from an MLflow store.

Reading never makes a store: MLflow would create an empty database where there is none, and a
reader would then report that there are no runs instead of a wrong address.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spectral_mlflow import config
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import all_settings
from spectral_mlflow.tracking_uri import absolute, check_tracking_uri, default_tracking_uri, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow cannot store an infinity and keeps the largest double in its place.
LARGEST = 1.79e308

# Parameters that are facts of a run rather than settings.
FACT_TYPES = {"dataset.num_tokens": "integer", "model.vocab_size": "integer", "model.num_parameters": "integer"}

HISTORY_COLUMNS = ("run_id", "key", "step", "timestamp", "value")
PAGE = 1000


def load_runs(tracking_uri: str, *, kind: str | None = "train", experiment: str | None = None) -> pd.DataFrame:
    """One row a run, oldest first.

    Args:
        tracking_uri: an MLflow database or server; empty: the store that runs go to by default.
        kind: keep the runs with this tag ``spectral.kind``, which leaves out wrapper and paper runs; None: every run.
        experiment: name of the one MLflow experiment to read; None: all of them.

    Returns:
        run_id, name, status, experiment, start_time and end_time (UTC), then ``tags.*`` (strings),
        ``params.*`` (numbers and booleans where the setting is one) and ``metrics.*`` (last value, float).

    Raises:
        UserError: the store is of an unsupported kind, is not there or does not answer, or has no such experiment.
    """
    with _reading(tracking_uri) as client:
        names = {found.experiment_id: found.name for found in client.search_experiments()}
        if experiment is not None:
            names = {key: name for key, name in names.items() if name == experiment}
            if not names:
                raise UserError(
                    f"there is no MLflow experiment {experiment!r} in {config.without_password(tracking_uri)}"
                )
        where = "" if kind is None else f"tags.`spectral.kind` = '{kind}'"
        rows = [_row(run, names[run.info.experiment_id]) for run in _search(client, list(names), where)]
    return _frame(rows)


def load_histories(tracking_uri: str, run_ids: Iterable[str], keys: Sequence[str]) -> pd.DataFrame:
    """Every value of some metrics of some runs, one row a step.

    A step that was recorded twice (a resumed run computes some steps again) counts once, with its
    latest timestamp.

    Returns:
        run_id, key, step, timestamp (UTC) and value, sorted by run, key and step.

    Raises:
        UserError: the store is of an unsupported kind, is not there or does not answer.
    """
    with _reading(tracking_uri) as client:
        rows = [
            (run_id, key, point.step, point.timestamp, _value(point.value))
            for run_id in run_ids
            for key in keys
            for point in client.get_metric_history(run_id, key)
        ]
    frame = pd.DataFrame(rows, columns=list(HISTORY_COLUMNS)).astype({"step": "int64", "value": "float64"})
    frame["timestamp"] = pd.to_datetime(frame["timestamp"].astype("int64"), unit="ms", utc=True)
    frame = frame.sort_values(["run_id", "key", "step", "timestamp"], kind="stable")
    return frame.drop_duplicates(["run_id", "key", "step"], keep="last", ignore_index=True)


def _search(client: MlflowClient, experiments: list[str], where: str) -> Iterator[Run]:
    token: str | None = None
    while experiments:
        page = client.search_runs(
            experiments, where, max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _row(run: Run, experiment: str) -> dict[str, Any]:
    info = run.info
    row = {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "experiment": experiment,
        "start_time": info.start_time,
        "end_time": info.end_time,
    }
    row |= {f"tags.{name}": value for name, value in sorted(run.data.tags.items())}
    row |= {f"params.{name}": value for name, value in sorted(run.data.params.items())}
    return row | {f"metrics.{name}": _value(value) for name, value in sorted(run.data.metrics.items())}


def _value(value: float) -> float:
    if abs(value) >= LARGEST:
        return float("inf") if value > 0 else float("-inf")
    return float(value)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    first = ["run_id", "name", "status", "experiment", "start_time", "end_time"]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=first)
    for column in ("start_time", "end_time"):
        frame[column] = pd.to_datetime(frame[column], unit="ms", utc=True)
    types = {setting.name: setting.allowed for setting in all_settings()} | FACT_TYPES
    for column in frame.columns[frame.columns.str.startswith("params.")]:
        frame[column] = _typed(frame[column], types.get(column.removeprefix("params."), "string"))
    rest = sorted(set(frame.columns) - set(first), key=_order)
    return frame[[*first, *rest]]


def _order(column: str) -> tuple[int, str]:
    return ("tags", "params", "metrics").index(column.split(".", 1)[0]), column


def _typed(texts: pd.Series[Any], kind: str) -> pd.Series[Any]:
    """Parameters, which MLflow keeps as strings, as the type of their setting."""
    texts = texts.where(texts.notna() & ~texts.isin(("None", "null")), None)
    if kind == "boolean":
        return texts.map({"True": True, "true": True, "False": False, "false": False}).astype("boolean")
    if kind == "integer":
        return pd.to_numeric(texts, errors="coerce").astype("Float64").round().astype("Int64")
    if kind == "number":
        return pd.to_numeric(texts, errors="coerce").astype("Float64")
    return texts.astype("string")


@contextmanager
def _reading(tracking_uri: str) -> Iterator[MlflowClient]:
    """A client of a store that is known to exist; what goes wrong inside is told in one line."""
    check_tracking_uri(tracking_uri)
    uri = absolute(tracking_uri) or default_tracking_uri()
    address = config.without_password(uri)
    if file := sqlite_path(uri):
        _check_database(file, address)
    from mlflow import MlflowClient  # Takes seconds, which `--help` and a wrong address need not wait for.
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    with _short_waits():
        try:
            yield MlflowClient(tracking_uri=uri)
        except (MlflowException, SQLAlchemyError, ImportError) as failure:
            reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
            raise UserError(
                f"the MLflow store {address} cannot be read: {config.without_password(reason)}"
            ) from failure


def _check_database(file: Path, address: str) -> None:
    advice = "make runs with `mlflow run . -P model=wave --env-manager local`, or give another --tracking-uri"
    if not file.is_file():
        raise UserError(f"there is no MLflow store at {file} (tracking URI {address}); {advice}")
    try:
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error as failure:
        raise UserError(f"{file} cannot be read as an MLflow store ({failure}); {advice}") from failure
    if not {"experiments", "runs", "metrics"} <= tables:
        raise UserError(f"{file} is a database without MLflow's tables; {advice}")


@contextmanager
def _short_waits() -> Iterator[None]:
    """MLflow's default retries block for minutes on a dead server; a reader can be told and ask again."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
