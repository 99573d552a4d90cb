"""Where runs are read from: an MLflow store, by SQL where that is known to be safe, else through MLflow.

Reading never makes a store: MLflow would create an empty database where there is none, and a
reader would then report that there are no runs instead of a wrong address.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from spectral_mlflow import config
from spectral_mlflow.errors import UserError
from spectral_mlflow.tracking_uri import absolute, check_tracking_uri, default_tracking_uri, sqlite_path

KIND = "spectral.kind"

# MLflow cannot store an infinity and keeps the largest double in its place.
LARGEST = 1.79e308

DAY = 86_400_000  # Milliseconds. Sums of times within a day fit into any integer.

Row: TypeAlias = dict[str, Any]
Point: TypeAlias = tuple[str, str, int, int, float]
Summary: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Selection:
    """Which runs are meant.

    Attributes:
        kind: value of the tag ``spectral.kind``; None: any.
        experiment: name of the one MLflow experiment; None: any.
        tags: tags that a run must have, with their values.
        run_ids: the runs that may be it; None: any.
    """

    kind: str | None = "train"
    experiment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    run_ids: Sequence[str] | None = None

    @property
    def wanted(self) -> dict[str, str]:
        """All tags that a run must have."""
        return ({} if self.kind is None else {KIND: self.kind}) | dict(self.tags)


class Source(Protocol):
    """Rows of a store; runs and experiments in MLflow's trash are not there."""

    def experiments(self) -> dict[str, str]:
        """Id of each experiment to its name."""

    def runs(self, experiments: Mapping[str, str], tags: Mapping[str, str], run_ids: Sequence[str] | None) -> list[Row]:
        """The runs of some experiments that have these tags, of these ids if there are any, oldest first.

        Each with run_id, name, status, experiment, start_time and end_time (milliseconds since the epoch),
        ``tags.*`` and ``params.*`` (strings) and ``metrics.*`` (latest value).
        """

    def histories(self, run_ids: Sequence[str], keys: Sequence[str]) -> list[Point]:
        """Every point of some metrics: run, key, step, timestamp (milliseconds) and value.

        Points of one run, key, step and timestamp come in the order of their values.
        """

    def summaries(self, run_ids: Sequence[str], keys: Sequence[str]) -> list[Summary]:
        """What changes when a history does, for each run and key that has one; starting with the two."""


def select(source: Source, selection: Selection, address: str) -> list[Row]:
    """The runs that are meant.

    Raises:
        UserError: there is no such experiment.
    """
    names = source.experiments()
    if selection.experiment is not None:
        names = {key: name for key, name in names.items() if name == selection.experiment}
        if not names:
            raise UserError(f"there is no MLflow experiment {selection.experiment!r} in {address}")
    if not names or (selection.run_ids is not None and not selection.run_ids):
        return []  # MLflow takes no empty list.
    return source.runs(names, selection.wanted, selection.run_ids)


@contextmanager
def reading(tracking_uri: str) -> Iterator[tuple[Source, str]]:
    """A store that is known to exist, and its address without a password.

    What goes wrong inside is told in one line.

    Args:
        tracking_uri: an MLflow database or server; empty: the store that runs go to by default.

    Raises:
        UserError: the store is of an unsupported kind, is not there or does not answer.
    """
    check_tracking_uri(tracking_uri)
    uri = absolute(tracking_uri) or default_tracking_uri()
    address = config.without_password(uri)
    if file := sqlite_path(uri):
        _check_database(file, address)
    from sqlalchemy.exc import SQLAlchemyError  # Half a second, which a wrong address need not wait for.

    from spectral_mlflow.analysis import sql

    try:
        with sql.opened(uri) as source:
            if source is not None:
                yield source, address
                return
        with _api(uri) as slower:
            yield slower, address
    except (SQLAlchemyError, ImportError) as failure:
        raise unreadable(address, failure) from failure


def unreadable(address: str, failure: Exception) -> UserError:
    """What a user is told of a store that fails."""
    reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    return UserError(f"the MLflow store {address} cannot be read: {config.without_password(reason)}")


@contextmanager
def _api(uri: str) -> Iterator[Source]:
    from mlflow.exceptions import MlflowException  # Two seconds, which SQL does without.

    from spectral_mlflow.analysis.api import ApiSource

    try:
        with _short_waits():
            yield ApiSource(uri)
    except MlflowException as failure:
        raise unreadable(config.without_password(uri), failure) from failure


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
