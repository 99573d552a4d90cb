"""Runs and their metric histories as pandas frames, read from an MLflow store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from spectral_mlflow.analysis.source import LARGEST, Point, Row, Selection, reading, select
from spectral_mlflow.settings import all_settings

# Parameters that are facts of a run rather than settings.
FACT_TYPES = {"dataset.num_tokens": "integer", "model.vocab_size": "integer", "model.num_parameters": "integer"}

HISTORY_COLUMNS = ("run_id", "key", "step", "timestamp", "value")
FIRST = ("run_id", "name", "status", "experiment", "start_time", "end_time")


def load_runs(
    tracking_uri: str,
    *,
    kind: str | None = "train",
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
    run_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row a run, oldest first.

    Args:
        tracking_uri: an MLflow database or server; empty: the store that runs go to by default.
        kind: keep the runs with this tag ``spectral.kind``, which leaves out wrapper and paper runs; None: every run.
        experiment: name of the one MLflow experiment to read; None: all of them.
        tags: keep the runs that have these tags with these values, such as ``{"spectral.study": "components"}``.
        run_ids: keep these runs; None: all of them.

    Returns:
        run_id, name, status, experiment, start_time and end_time (UTC), then ``tags.*`` (strings),
        ``params.*`` (numbers and booleans where the setting is one) and ``metrics.*`` (last value, float).

    Raises:
        UserError: the store is of an unsupported kind, is not there or does not answer, or has no such experiment.
    """
    with reading(tracking_uri) as (source, address):
        rows = select(source, Selection(kind, experiment, tags or {}, run_ids), address)
    return runs_frame(rows)


def load_histories(tracking_uri: str, run_ids: Iterable[str], keys: Sequence[str]) -> pd.DataFrame:
    """Every value of some metrics of some runs, one row a step.

    A step that was recorded twice (a resumed run computes some steps again) counts once, with its
    latest timestamp.

    Returns:
        run_id, key, step, timestamp (UTC) and value, sorted by run, key and step.

    Raises:
        UserError: the store is of an unsupported kind, is not there or does not answer.
    """
    with reading(tracking_uri) as (source, _):
        points = source.histories(list(dict.fromkeys(run_ids)), list(dict.fromkeys(keys)))
    return histories_frame(points)


def histories_frame(points: Sequence[Point]) -> pd.DataFrame:
    """The frame of `load_histories`.

    Args:
        points: run, key, step, timestamp (milliseconds since the epoch) and value, in any order but for those of one
            run, key, step and timestamp, the last of which counts.
    """
    frame = pd.DataFrame(points, columns=list(HISTORY_COLUMNS)).astype({"step": "int64", "value": "float64"})
    frame["value"] = _whole(frame["value"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"].astype("int64"), unit="ms", utc=True)
    frame = frame.sort_values(["run_id", "key", "step", "timestamp"], kind="stable")
    return frame.drop_duplicates(["run_id", "key", "step"], keep="last", ignore_index=True)


def runs_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The frame of `load_runs`.

    Args:
        rows: as a `Source` has them.
    """
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(FIRST))
    for column in ("start_time", "end_time"):
        frame[column] = pd.to_datetime(frame[column], unit="ms", utc=True)
    types = {setting.name: setting.allowed for setting in all_settings()} | FACT_TYPES
    for column in frame.columns[frame.columns.str.startswith("params.")]:
        frame[column] = _typed(frame[column], types.get(column.removeprefix("params."), "string"))
    for column in frame.columns[frame.columns.str.startswith("metrics.")]:
        frame[column] = _whole(frame[column].astype("float64"))
    return frame[[*FIRST, *sorted(set(frame.columns) - set(FIRST), key=_order)]]


def _whole(values: pd.Series[Any]) -> pd.Series[Any]:
    """Values as they were logged, infinities included."""
    return values.mask(values >= LARGEST, math.inf).mask(values <= -LARGEST, -math.inf)


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
