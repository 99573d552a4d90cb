"""Which store is meant, and which URIs are refused before any work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spectral_mlflow.errors import UserError
from spectral_mlflow.tracking_uri import absolute, check_tracking_uri, default_tracking_uri, resolve


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "sqlite:///mlflow.db",
        "sqlite:////somewhere/with space/mlflow.db",
        "sqlite+pysqlite:////somewhere/mlflow.db?timeout=5",
        "postgresql://user:secret@host:5432/db",
        "postgresql+psycopg2://host/db",
        "mysql+pymysql://host/db",
        "mssql+pyodbc://host/db",
        "http://localhost:5000",
        "https://user:secret@example.org/mlflow",
        "databricks",
        "databricks://profile",
    ],
)
def test_supported_stores_are_accepted(uri: str) -> None:
    """Every kind of store that MLflow can write to exactly once passes."""
    check_tracking_uri(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://user:secret@host/db", r"given 'ftp://user:\*\*\*@host/db'; allowed: sqlite"),
        ("uc:catalog", "allowed: sqlite"),
        ("htpp://localhost:5000", "allowed: sqlite"),
        ("./mlruns", "a folder of files, which MLflow no longer writes to"),
        ("file:///tmp/mlruns", "MLFLOW_ALLOW_FILE_STORE"),
        ("sqlite://mlflow.db", "needs a file: sqlite:///FILE"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("http://", "names no host"),
    ],
)
def test_others_are_refused_in_one_line(uri: str, message: str) -> None:
    """The message says what was given and what is allowed, without the password."""
    with pytest.raises(UserError, match=message) as refusal:
        check_tracking_uri(uri)
    assert "\n" not in str(refusal.value)


def test_folder_is_refused_as_a_database(tmp_path: Path) -> None:
    """A sqlite URI that names a folder is a mistake, and the message names a file in it."""
    with pytest.raises(UserError, match=r"is a folder; give a file in it: .*/mlflow\.db"):
        check_tracking_uri(f"sqlite:///{tmp_path}")


def test_folder_of_files_where_mlflow_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable with which MLflow opens its old file store opens it here too."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_tracking_uri("./mlruns")


def test_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the store, else it lies in SPECTRAL_HOME, always by an absolute path."""
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert default_tracking_uri() == "http://localhost:5000"


def test_store_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user asks for wins, then what the run wrote down; a password comes from the environment."""
    assert resolve("http://recorded", "http://given") == "http://given"
    assert resolve("http://recorded", None) == "http://recorded"
    assert resolve(None, None) == resolve("", None) == default_tracking_uri()
    with pytest.raises(UserError, match="password is not kept"):
        resolve("postgresql://me:***@host/db", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/db")
    assert resolve("postgresql://me:***@host/db", None) == "postgresql://me:secret@host/db"
    assert resolve("http://recorded", None) == "http://recorded"
    with pytest.raises(UserError, match="allowed"):
        resolve("ftp://host", None)


def test_absolute_keeps_driver_and_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the path of a sqlite URI changes."""
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite+pysqlite:///a.db?timeout=5") == f"sqlite+pysqlite:///{tmp_path}/a.db?timeout=5"
    assert absolute("postgresql://host/db") == "postgresql://host/db"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tracking_uri", ("mlflow", "torch")),
        ("stores.sync", ("mlflow", "torch")),
        ("stores.failures", ("mlflow", "torch")),
        ("stores.mlflow", ("torch",)),
        ("stores.companion", ("torch",)),
        ("stores.__main__", ("mlflow", "torch")),
    ],
)
def test_imports_stay_light(module: str, absent: tuple[str, ...]) -> None:
    """No module here loads torch, and what a command line needs at its start does not load MLflow."""
    code = f"import sys, spectral_mlflow.{module}; sys.exit(sum(n in sys.modules for n in {absent!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
