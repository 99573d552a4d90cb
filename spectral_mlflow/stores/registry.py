"""The best model of a run in MLflow's model registry, by a name and an alias."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_mlflow import model_folder
from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.model_folder import ModelFacts
from spectral_mlflow.stores.base import NO_MODELS, RunView, StoreError
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.stores.sync import sync_to_mlflow
from spectral_mlflow.tracking_uri import resolve

if TYPE_CHECKING:  # Two seconds, which no user's mistake needs to wait for.
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LONGEST_ALIAS, LONGEST_NAME = 255, 250


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes:
        name: of the registered model.
        version: its number.
        alias: the name that was given to the version; None for none.
        tracking_uri: the store, without a password.
    """

    name: str
    version: int
    alias: str | None
    tracking_uri: str

    @property
    def uri(self) -> str:
        """What MLflow calls it."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"


def check_names(name: str | None, alias: str | None) -> None:
    """Refuse what MLflow would refuse, before any work.

    Raises:
        UserError: the name of a model or an alias that is not allowed.
    """
    if name is not None and not re.fullmatch(rf"\w[\w .-]{{0,{LONGEST_NAME - 1}}}", name):
        raise UserError(f"--name: given {name!r}; allowed: letters, digits, '_', '.' and '-', such as spectral-wave")
    if alias is None:
        return
    reserved = alias.lower() == "latest" or re.fullmatch(r"v\d+", alias, re.IGNORECASE)
    if reserved or not re.fullmatch(rf"[\w-]{{1,{LONGEST_ALIAS}}}", alias, re.ASCII):
        raise UserError(
            f"--alias: given {alias!r}; allowed: letters, digits, '_' and '-', but not latest or v1, such as champion"
        )


def register(run_dir: Path, *, tracking_uri: str | None, name: str | None, alias: str | None) -> Registered:
    """Make the exported model of a run a version of a registered model; one that is a version already stays that one.

    Args:
        run_dir: the run, whose model folder is there.
        tracking_uri: the store; None: where the run was going.
        name: of the registered model; None: spectral-wave or spectral-standard, by the type of the model.
        alias: moved to this version; None: no alias is touched.

    Raises:
        UserError: a name, an alias or a store that is not allowed, or a damaged model.
        StoreError: the store does not answer, or refuses.
    """
    check_names(name, alias)
    run = RunView(run_dir)
    facts = model_folder.read(run_dir / model_folder.FOLDER)
    uri = resolve((run.start() or {}).get("tracking_uri"), tracking_uri)
    run_id = _run_id(run, uri)
    from spectral_mlflow.stores.client import open_client, store_errors

    name = name or f"spectral-{facts.model['type']}"
    try:
        with store_errors():
            client = open_client(uri)
            version = _version(client, run, run_id, name, facts)
            if alias:
                client.set_registered_model_alias(name, alias, version.version)
    except StoreError as failure:
        raise _explained(failure, uri) from failure.__cause__
    return Registered(name, int(version.version), alias, without_password(uri))


def _run_id(run: RunView, uri: str) -> str:
    """The run in the store, sent there if it is not there yet.

    Raises:
        StoreError: it cannot be sent.
        UserError: it is being sent to another store.
    """
    result = sync_to_mlflow(run.directory, uri)
    state = StoreState.load(run.state_path)
    if not result.complete or state.run_id is None:
        raise StoreError(result.message)
    if state.tracking_uri != without_password(uri):
        raise UserError(
            f"{run.directory.name} is being sent to {state.tracking_uri}; wait for its end, or register there"
        )
    return state.run_id


def _version(client: MlflowClient, run: RunView, run_id: str, name: str, facts: ModelFacts) -> ModelVersion:
    """The version of the run's model: the one that is there, or a new one."""
    from spectral_mlflow.stores.models import log_best

    model = log_best(client, run_id, run)
    if model is None:
        raise StoreError(f"{run.directory / model_folder.FOLDER} was changed at this moment")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == model.artifact_location:
            return version
    loss = "" if facts.val_loss is None else f", validation loss {facts.val_loss:.4f} nats a token"
    return client.create_model_version(
        name,
        model.artifact_location,  # MLflow looks up models:/ID in a store of its own choice.
        run_id,
        description=f"Best model of {facts.run}: step {facts.step}{loss}",
        model_id=model.model_id,
    )


def _explained(failure: StoreError, uri: str) -> UserError | StoreError:
    """A store that will never take models is the user's to change; any other failure may pass."""
    code = getattr(failure.__cause__, "error_code", None)
    if code not in NO_MODELS:
        return failure
    reason = str(failure).partition(". ")[0].removeprefix("MlflowException: ")
    return UserError(
        f"{without_password(uri)} takes no registered models ({reason}); "
        "name another store: --tracking-uri, MLFLOW_REGISTRY_URI"
    )
