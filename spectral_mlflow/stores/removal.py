"""Taking a run out of its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from spectral_mlflow.errors import UserError
from spectral_mlflow.stores.base import NO_MODELS, RunView, StoreError
from spectral_mlflow.stores.companion import companion_lock
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.tracking_uri import resolve

if TYPE_CHECKING:  # Two seconds, which no user's mistake needs to wait for.
    from mlflow import MlflowClient


@contextmanager
def undisturbed(run_dir: Path) -> Iterator[None]:
    """Keep companions away from a run while it is removed.

    Raises:
        UserError: one is at work.
    """
    try:
        with ExitStack() as locks:
            for store in {"mlflow", *RunView(run_dir).stores()}:
                locks.enter_context(companion_lock(run_dir, store=store))
            yield
    except Timeout:
        raise UserError(f"run {run_dir.name} is being sent to its store; try again when that is done") from None


def delete(run_dir: Path) -> str | None:
    """Delete a run in MLflow, which keeps it in its trash until ``mlflow gc``.

    Args:
        run_dir: the run; its store is the one that it went to.

    Returns:
        Its id there; None where it was never sent, is gone, or is in the trash already.

    Raises:
        UserError: a registered model was made of it.
        StoreError: the store does not answer.
    """
    state = StoreState.load(RunView(run_dir).state_path)
    return None if state.run_id is None else _delete(run_dir.name, state.run_id, resolve(state.tracking_uri, None))


def _delete(name: str, run_id: str, uri: str) -> str | None:
    from spectral_mlflow.stores import client as clients

    with clients.store_errors():
        client = clients.open_client(uri)
        if not clients.run_exists(client, run_id) or client.get_run(run_id).info.lifecycle_stage == "deleted":
            return None
    versions = _registered_versions(client, run_id)
    if versions:
        raise UserError(
            f"run {name} is {', '.join(versions)} in the model registry; delete that version first, or keep the run"
        )
    with clients.store_errors():
        client.delete_run(run_id)
    return run_id


def _registered_versions(client: MlflowClient, run_id: str) -> list[str]:
    from spectral_mlflow.stores import client as clients

    try:
        with clients.store_errors():
            found = client.search_model_versions(f"run_id = '{run_id}'")
    except StoreError as failure:
        if getattr(failure.__cause__, "error_code", None) in NO_MODELS:
            return []
        raise
    return [f"{version.name} version {version.version}" for version in found]
