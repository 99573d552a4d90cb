"""The best model of a run as an MLflow LoggedModel, once for each content."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric

from spectral_mlflow import journal, model_folder
from spectral_mlflow.errors import UserError
from spectral_mlflow.model_folder import ModelFacts
from spectral_mlflow.sampling import Sampling
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.client import allowing, upload_seconds

NAME = "best"
DIGEST = "spectral.digest"
LONGEST_EXAMPLE = 20

# As MLflow names the types of the fields of Sampling; stop is a list.
TYPES = {"max_tokens": "long", "temperature": "double", "top_k": "long", "top_p": "double", "seed": "long"}
REQUIREMENTS = ("spectral-mlflow", "mlflow", "torch", "safetensors", "tokenizers", "numpy")

_log = logging.getLogger(__name__)


def log_best(client: MlflowClient, run_id: str, run: RunView) -> LoggedModel | None:
    """Log the model that a run has exported, unless the store has it already.

    Args:
        client: of the store.
        run_id: the run in MLflow, whose status stays as it is.
        run: the run directory.

    Returns:
        The model in the store; None where nothing is exported, or what is there is damaged.
    """
    folder = run.directory / model_folder.FOLDER
    if not (folder / model_folder.CONFIG).is_file():
        return None
    try:
        facts = model_folder.read(folder)
    except UserError as damage:
        _log.warning("%s", damage)
        return None
    # The companion and `spectral register` may come at the same time.
    with FileLock(run.state_path.with_name("model.lock")):
        model = _find(client, run_id, folder) or _create(client, run_id, folder, facts)
        if model.status != LoggedModelStatus.READY:
            _fill(client, run_id, model, run, facts)
    return model


def _find(client: MlflowClient, run_id: str, folder: Path) -> LoggedModel | None:
    """The model of this content, whether or not an earlier attempt has finished it."""
    found = client.search_logged_models(
        [client.get_run(run_id).info.experiment_id],
        f"source_run_id = '{run_id}' AND tags.`{DIGEST}` = '{model_folder.digest(folder)}'",
        max_results=1,
    )
    return found[0] if found else None


def _create(client: MlflowClient, run_id: str, folder: Path, facts: ModelFacts) -> LoggedModel:
    known = {f"model.{name}": value for name, value in facts.model.items() if value is not None}
    return client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=NAME,
        source_run_id=run_id,
        params={name: json.dumps(value) if not isinstance(value, str) else value for name, value in known.items()},
        tags={DIGEST: model_folder.digest(folder), "spectral.key": facts.run, "spectral.commit": facts.commit},
        model_type="text generation",
    )


def _fill(client: MlflowClient, run_id: str, model: LoggedModel, run: RunView, facts: ModelFacts) -> None:
    """Send the files, link the model to its run, and call it ready."""
    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary) / "model"
        _pack(packed, model.model_id, run_id, run)
        size = sum(path.stat().st_size for path in packed.rglob("*") if path.is_file())
        with allowing(upload_seconds(size)):
            client.log_model_artifacts(model.model_id, str(packed))
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, facts.step)])
    client.log_batch(run_id, metrics=list(_metrics(run, model.model_id, facts)))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _metrics(run: RunView, model_id: str, facts: ModelFacts) -> Iterator[Metric]:
    """The validation loss as the run's own point, which the store therefore does not count twice."""
    for line in journal.records(run.metrics_path):
        if line.get("step") == facts.step and "val_loss" in line and facts.val_loss is not None:
            time = journal.milliseconds(line["timestamp"])
            yield Metric("val_loss", line["val_loss"], time, facts.step, model_id=model_id)


def _pack(packed: Path, model_id: str, run_id: str, run: RunView) -> None:
    """Write a model as MLflow wants it, from code and data files alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported.
        import mlflow.pyfunc
        from mlflow.models import Model
    description = Model(
        model_id=model_id,
        run_id=run_id,
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "json_object",
            "params": "true",
        },
    )
    mlflow.pyfunc.save_model(
        packed,
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"model": str(run.directory / model_folder.FOLDER)},
        pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS],
        mlflow_model=description,
    )
    # MLflow takes the types of texts from the code, and those of params only from an example that it runs.
    description.signature.params = _params()
    description.save(str(packed / "MLmodel"))
    example = json.dumps({"inputs": [_prompt(run)], "params": {"max_tokens": 50, "temperature": 0.8}})
    for name in ("input_example.json", "serving_input_example.json"):
        (packed / name).write_text(example, encoding="utf-8")


def _prompt(run: RunView) -> str:
    """The beginning of a text that the model has written, and so knows."""
    samples = run.events("sample")
    return str(samples[-1]["text"])[:LONGEST_EXAMPLE] if samples else "\n"


def _params() -> Any:
    from mlflow.types import ParamSchema, ParamSpec

    defaults = dataclasses.asdict(Sampling())
    scalars = [ParamSpec(name, kind, defaults[name]) for name, kind in TYPES.items()]
    return ParamSchema([*scalars, ParamSpec("stop", "string", [], shape=(-1,))])
