"""Which MLflow store is meant, for all who write or read one. Importing this costs nothing: MLflow stays out."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spectral_mlflow.config import home, without_password
from spectral_mlflow.errors import UserError

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE = re.compile(r"(?P<scheme>sqlite(\+\w+)?:///)(?P<path>[^?]+)(?P<query>.*)")
SERVERS = ("http", "https", "databricks")
ALLOWED = "sqlite:///FILE, postgresql://, mysql:// or mssql:// (also with +driver), http://, https://, databricks"


def check_tracking_uri(uri: str) -> None:
    """Refuse what no run can go to. An empty URI means the default store.

    Raises:
        UserError: an unsupported scheme, a database or server that is not named, or a folder of files,
            which MLflow 3.17 itself refuses to write to.
    """
    scheme = _scheme(uri)
    if not uri or uri == "databricks":
        return
    if scheme in ("", "file"):
        _check_folder(uri)
    elif scheme not in (*DATABASES, *SERVERS):
        raise UserError(f"tracking URI: given {without_password(uri)!r}; allowed: {ALLOWED}")
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif not re.match(r"[^:]+://[^/?#]", uri):
        raise UserError(f"tracking URI: given {uri!r}, which names no host; such as {scheme}://HOST")


def default_tracking_uri() -> str:
    """The store of a user who named none: MLFLOW_TRACKING_URI, else mlflow.db in SPECTRAL_HOME."""
    return absolute(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}")


def absolute(uri: str) -> str:
    """The same store for a process in another folder."""
    match = _SQLITE.fullmatch(uri)
    return uri if match is None else f"{match['scheme']}{Path(match['path']).absolute()}{match['query']}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite URI, None for other stores."""
    match = _SQLITE.fullmatch(uri)
    return Path(match["path"]) if match else None


def resolve(recorded: str | None, given: str | None) -> str:
    """The store of a run.

    Args:
        recorded: what the run wrote down, without its password.
        given: what the user asks for now, None for nothing.

    Raises:
        UserError: the URI is not allowed, or its password is needed and unknown.
    """
    uri = given or recorded or default_tracking_uri()
    if not given and recorded and ":***@" in recorded:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if without_password(uri) != recorded:
            raise UserError(
                f"the run went to {recorded}, whose password is not kept; set MLFLOW_TRACKING_URI to it in full"
            )
    check_tracking_uri(uri)
    return absolute(uri)


def _scheme(uri: str) -> str:
    """Scheme without its driver; empty for a plain path, drive letters included."""
    match = re.match(r"([A-Za-z][A-Za-z0-9.-]+)(\+\w+)?:", uri)
    return match.group(1).lower() if match else ""


def _check_folder(uri: str) -> None:
    # As MLflow 3.17: its file store is in maintenance mode and refuses to open without this variable.
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        return
    raise UserError(
        f"tracking URI: given {uri!r}, a folder of files, which MLflow no longer writes to "
        f"(MLFLOW_ALLOW_FILE_STORE=true overrides that, `mlflow migrate-filestore` moves it); allowed: {ALLOWED}"
    )


def _check_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    if path is None or str(path) == ":memory:":
        raise UserError(
            f"tracking URI: given {uri!r}; a sqlite store needs a file: sqlite:///FILE, or sqlite:////ABSOLUTE/FILE"
        )
    if path.is_dir():
        raise UserError(
            f"tracking URI: given {uri!r}, which is a folder; give a file in it: {uri.rstrip('/')}/mlflow.db"
        )
