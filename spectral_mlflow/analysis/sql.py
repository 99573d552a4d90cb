"""Runs of a sqlite or PostgreSQL store by SQL, read-only and in one transaction, without MLflow's seconds of import.

Only the tables of the schemas below are known. Any other schema, and a store whose experiments are
divided into workspaces, is read through MLflow.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    NullPool,
    Numeric,
    Select,
    TableClause,
    case,
    cast,
    column,
    create_engine,
    exists,
    func,
    inspect,
    make_url,
    select,
    table,
)

from spectral_mlflow.analysis.source import DAY, LARGEST, Point, Row, Source, Summary
from spectral_mlflow.config import without_password
from spectral_mlflow.tracking_uri import sqlite_path

SCHEMAS = frozenset({"dc11669786a5"})  # Alembic's head of MLflow 3.17.
AT_ONCE = 10_000  # Run ids in one query: databases take 32,766 values and more.
SECONDS = "20"  # A server that is silent for longer is down.

_log = logging.getLogger(__name__)

_VERSION = table("alembic_version", column("version_num"))
_EXPERIMENTS = table(
    "experiments", column("experiment_id"), column("name"), column("lifecycle_stage"), column("workspace")
)
_RUNS = table(
    "runs", column("run_uuid"), column("name"), column("status"), column("start_time"), column("end_time"),
    column("experiment_id"), column("lifecycle_stage"),
)  # fmt: skip
_TAGS, _PARAMS = (table(name, column("run_uuid"), column("key"), column("value")) for name in ("tags", "params"))
_LATEST, _METRICS = (
    table(name, *map(column, ("run_uuid", "key", "step", "timestamp", "value", "is_nan")))
    for name in ("latest_metrics", "metrics")
)


@contextmanager
def opened(uri: str) -> Iterator[Source | None]:
    """The store of a URI; None where MLflow has to read it."""
    engine = _engine(uri)
    if engine is None:
        yield None
        return
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # All queries see the same runs; Python would begin at a write alone.
        if reason := _unknown(connection):
            _log.warning("%s has %s: it is read through MLflow, which takes longer", without_password(uri), reason)
        yield None if reason else SqlSource(connection)


def _engine(uri: str) -> Engine | None:
    if file := sqlite_path(uri):
        return create_engine("sqlite://", creator=lambda: _read_only(file), poolclass=NullPool)
    url = make_url(uri) if uri.startswith("postgresql") else None
    if url is None:
        return None
    if "connect_timeout" not in url.query and url.get_driver_name().startswith("psycopg"):
        url = url.update_query_dict({"connect_timeout": SECONDS})
    engine = create_engine(url, poolclass=NullPool)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)


def _unknown(connection: Connection) -> str | None:
    """What of a store is not known here."""
    if not inspect(connection).has_table("alembic_version"):
        return "no version of its schema"
    versions = set(connection.scalars(select(_VERSION.c.version_num)))
    if not versions <= SCHEMAS:
        return f"schema {', '.join(sorted(versions))}"
    divided = select(exists().where(_EXPERIMENTS.c.workspace != "default"))
    if connection.scalar(divided) or os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in ("true", "1"):
        return "workspaces"
    return None


class SqlSource:
    """What `Source` asks for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def experiments(self) -> dict[str, str]:
        """Id of each experiment to its name."""
        columns = _EXPERIMENTS.c
        found = select(columns.experiment_id, columns.name).where(columns.lifecycle_stage == "active")
        return {str(key): name for key, name in self._connection.execute(found)}

    def runs(self, experiments: Mapping[str, str], tags: Mapping[str, str], run_ids: Sequence[str] | None) -> list[Row]:
        """The runs of some experiments that have these tags, of these ids if there are any, oldest first."""
        chosen = _chosen(experiments, tags)
        if run_ids is not None:
            chosen = chosen.where(_RUNS.c.run_uuid.in_(run_ids))
        columns = _RUNS.c
        query = select(columns.run_uuid, columns.name, columns.status, columns.experiment_id,
                       columns.start_time, columns.end_time).where(columns.run_uuid.in_(chosen))  # fmt: skip
        rows: dict[str, Row] = {
            run_id: {
                "run_id": run_id, "name": name, "status": status, "experiment": experiments[str(experiment)],
                "start_time": start, "end_time": end,
            }
            for run_id, name, status, experiment, start, end in self._connection.execute(query)
        }  # fmt: skip
        for prefix, source in (("tags", _TAGS), ("params", _PARAMS)):
            for run_id, key, value in self._connection.execute(_of(source, chosen)):
                rows[run_id][f"{prefix}.{key}"] = value
        for run_id, key, value, is_nan in self._connection.execute(_of(_LATEST, chosen, _LATEST.c.is_nan)):
            rows[run_id][f"metrics.{key}"] = math.nan if is_nan else value
        for row in rows.values():
            row["name"] = row["name"] or row.get("tags.mlflow.runName")
        return sorted(rows.values(), key=lambda row: (row["start_time"] is None, row["start_time"], row["run_id"]))

    def histories(self, run_ids: Sequence[str], keys: Sequence[str]) -> list[Point]:
        """Every point of some metrics."""
        columns = _METRICS.c
        return [
            (run_id, key, step, timestamp, math.nan if is_nan else value)
            for some in _parts(run_ids)
            for run_id, key, step, timestamp, value, is_nan in self._connection.execute(
                select(columns.run_uuid, columns.key, columns.step, columns.timestamp, columns.value, columns.is_nan)
                .where(columns.run_uuid.in_(some), columns.key.in_(keys))
                .order_by(columns.run_uuid, columns.key, columns.step, columns.timestamp, columns.value)
            )
        ]

    def summaries(self, run_ids: Sequence[str], keys: Sequence[str]) -> list[Summary]:
        """What changes when a history does, for each run and key that has one."""
        columns = _METRICS.c
        finite = case((func.abs(columns.value) < LARGEST, columns.value), else_=0.0)
        nan, infinite = (case((which, 1), else_=0) for which in (columns.is_nan, columns.value >= LARGEST))
        value = cast(finite, Numeric(asdecimal=False))  # PostgreSQL adds floats up in another order each time.
        told = (
            func.count(), func.sum(nan), func.sum(infinite), func.sum(value), func.sum(value * value),
            func.sum(value * columns.step), func.max(columns.step), func.max(columns.timestamp),
            func.sum(columns.timestamp % DAY),
        )  # fmt: skip
        return [
            tuple(row)
            for some in _parts(run_ids)
            for row in self._connection.execute(
                select(columns.run_uuid, columns.key, *told)
                .where(columns.run_uuid.in_(some), columns.key.in_(keys))
                .group_by(columns.run_uuid, columns.key)
                .order_by(columns.run_uuid, columns.key)
            )
        ]


def _chosen(experiments: Mapping[str, str], tags: Mapping[str, str]) -> Select[Any]:
    """Ids of the runs that are meant."""
    conditions = [
        exists().where(_TAGS.c.run_uuid == _RUNS.c.run_uuid, _TAGS.c.key == key, _TAGS.c.value == value)
        for key, value in tags.items()
    ]
    inside = _RUNS.c.experiment_id.in_([int(key) for key in experiments])
    return select(_RUNS.c.run_uuid).where(_RUNS.c.lifecycle_stage == "active", inside, *conditions)


def _of(source: TableClause, chosen: Select[Any], *more: Any) -> Select[Any]:
    return select(source.c.run_uuid, source.c.key, source.c.value, *more).where(source.c.run_uuid.in_(chosen))


def _parts(run_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (run_ids[first : first + AT_ONCE] for first in range(0, len(run_ids), AT_ONCE))
