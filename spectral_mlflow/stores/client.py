"""Talking to MLflow: how a client is opened, and what its failures mean.

How long one call may take, whatever the patience of the caller: a server has 5 s to answer and is
asked twice; a sqlite file that another program holds for itself has `LOCKED_SECONDS` to be opened,
and MLflow's own 20 s for a call that writes.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import StoreError
from spectral_mlflow.tracking_uri import sqlite_path

# MLflow reads some of these when it is imported. Its own defaults wait minutes for a server that is
# down; whoever calls us tries again anyway.
TIMEOUT = ("MLFLOW_HTTP_REQUEST_TIMEOUT", 5)  # seconds
for _name, _value in {
    TIMEOUT[0]: str(TIMEOUT[1]),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # A lock file in the current folder is not what our models need.
}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402 - reads the environment above
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode  # noqa: E402

# Whatever goes wrong comes back as an exception, which is reported once; MLflow and its parts would
# add a traceback each time, and a line for each migration of a new database.
for _name in ("mlflow", "alembic", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

FIRST_USE_SECONDS = 120
LOCKED_SECONDS = 5.0
SLOWEST_STORING = 5e6  # bytes a second
LONGEST_STORING = 300.0  # seconds
LONGEST_MESSAGE = 500

_log = logging.getLogger(__name__)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever MLflow or a library below it raises into `StoreError`. A user's mistake stays one."""
    try:
        yield
    except (StoreError, UserError):
        raise
    except Exception as failure:  # Databases, HTTP and object stores each have exceptions of their own.
        _log.debug("store failure", exc_info=True)
        raise StoreError(one_line(failure)) from failure


def one_line(failure: BaseException) -> str:
    """What failed, short and without passwords."""
    text = without_password(str(failure).strip().split("\n", 1)[0])
    if call := re.match(r"API request to (\w+://[^/]+)\S* failed", text):
        causes = re.findall(r"\[Errno -?\d+\] [^\"')]+|[Tt]imed out|Max retries exceeded", text)
        return f"{call[1]} does not answer ({causes[-1] if causes else text})"[:LONGEST_MESSAGE]
    return f"{type(failure).__name__}: {text}"[:LONGEST_MESSAGE]


def open_client(uri: str) -> MlflowClient:
    """A client of a store, which answers.

    A database that several processes open for the first time at once is broken for good by their
    migrations; so the first use of a sqlite file happens under a lock beside it.
    """
    path = sqlite_path(uri)
    if path is None:
        return MlflowClient(tracking_uri=uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=FIRST_USE_SECONDS):
        _check_readable(path)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _check_readable(path: Path) -> None:
    """Fail soon where MLflow would try again for minutes, unheard."""
    if path.exists():
        with closing(sqlite3.connect(path, timeout=LOCKED_SECONDS)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()


def is_error(failure: MlflowException, code: int) -> bool:
    """Whether MLflow failed with this code."""
    return bool(failure.error_code == ErrorCode.Name(code))


def find_experiment(client: MlflowClient, name: str, uri: str) -> str:
    """Id of the experiment of this name, made if there is none.

    Raises:
        StoreError: somebody has deleted it.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location(uri, name)))
        except MlflowException as failure:  # Another run was faster.
            if not is_error(failure, RESOURCE_ALREADY_EXISTS):
                raise
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise StoreError(
            f"MLflow experiment {name!r} is deleted; restore it, or choose another: monitoring.mlflow_experiment"
        )
    return str(found.experiment_id)


def artifact_location(uri: str, name: str) -> str | None:
    """Where the files of an experiment go: beside a sqlite database, else as the server decides.

    MLflow itself would take ``mlruns`` in the current folder of whichever process comes first.
    """
    path = sqlite_path(uri)
    if path is None:
        return None
    return (path.absolute().parent / "mlruns" / re.sub(r"[^A-Za-z0-9_.-]", "_", name)).as_uri()


def run_exists(client: MlflowClient, run_id: str) -> bool:
    """Whether the store has this run, be it in its trash."""
    try:
        client.get_run(run_id)
    except MlflowException as failure:
        if is_error(failure, RESOURCE_DOES_NOT_EXIST):
            return False
        raise
    return True


def in_trash(client: MlflowClient, run_id: str) -> bool:
    """Whether a run that exists was deleted, and can still be restored."""
    return bool(client.get_run(run_id).info.lifecycle_stage != "active")


class _Allowance:
    """The usual time-out of a request, and what the calls that are under way need beyond it.

    MLflow reads it from the environment, which the threads of a process share.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._granted: list[int] = []
        self._usual = 0

    def grant(self, seconds: int) -> None:
        with self._lock:
            if not self._granted:
                self._usual = int(os.environ.get(*TIMEOUT))
            self._granted.append(seconds)
            self._set()

    def take_back(self, seconds: int) -> None:
        with self._lock:
            self._granted.remove(seconds)
            self._set()

    def _set(self) -> None:
        os.environ[TIMEOUT[0]] = str(self._usual + max(self._granted, default=0))


_allowance = _Allowance()


@contextmanager
def allowing(seconds: float) -> Iterator[None]:
    """Give the server this much more time to answer; the short time-out is meant for small calls."""
    whole = round(seconds)
    _allowance.grant(whole)
    try:
        yield
    finally:
        _allowance.take_back(whole)


def upload_seconds(size: int) -> float:
    """How long a server may take over a file after it has all of it; while it is sent the short time-out holds.

    Args:
        size: bytes.
    """
    return min(size / SLOWEST_STORING, LONGEST_STORING)
