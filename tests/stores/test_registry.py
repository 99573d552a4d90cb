"""The best model of a run in MLflow: logged once, registered once, and never as a pickle."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException

from spectral_mlflow import journal, model_folder
from spectral_mlflow.cli import main
from spectral_mlflow.monitoring import CheckpointManager
from spectral_mlflow.sampling import Sampling
from spectral_mlflow.stores import sync
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.companion import Companion, Pace
from spectral_mlflow.stores.mlflow import MlflowStore
from spectral_mlflow.stores.state import StoreState
from spectral_mlflow.text_model import TextModel

CODE_OR_PICKLE = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt"}


def mirrored(run_dir: Path, store: str, pace: Pace) -> StoreState:
    """What the companion has done with a run."""
    return Companion(RunView(run_dir), MlflowStore(store), pace=pace).catch_up()


def logged(store: str) -> list[LoggedModel]:
    """All models in a store."""
    client = MlflowClient(tracking_uri=store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_logged_models(experiments))


def files(model: LoggedModel) -> Path:
    """The folder of a model in a local store."""
    return Path(model.artifact_location.removeprefix("file://"))


def versions(store: str, name: str = "spectral-wave") -> list[Any]:
    """Versions of a registered model."""
    return list(MlflowClient(tracking_uri=store).search_model_versions(f"name = '{name}'"))


def refuse_models(*_: Any, **__: Any) -> None:
    """What MLflow's client raises where the server has no such address, being of a version before LoggedModels."""
    raise MlflowException("API request to endpoint failed with error code 404", error_code=1001)


def improve(run_dir: Path) -> None:
    """Another best model, as a continued run would export it."""
    text_model = TextModel.load(run_dir / "model")
    text_model.model.head.weight.data.mul_(2)
    facts = model_folder.read(run_dir / "model")
    text_model.save(run_dir / "model", model_folder.ModelFacts(**{**vars(facts), "step": 30}))


def test_the_companion_logs_the_best_model(trained: Path, store: str, fast: Pace) -> None:
    """At the end of a run its model is in the store, ready, linked to the run, whose status and metrics it keeps."""
    state = mirrored(trained, store, fast)
    assert state.error is None
    (model,) = logged(store)
    facts = model_folder.read(trained / "model")
    assert (model.name, str(model.status), model.source_run_id) == ("best", "READY", state.run_id)
    assert model.params["model.d_model"] == "16"
    assert [(metric.key, metric.value, metric.step) for metric in model.metrics] == [
        ("val_loss", facts.val_loss, facts.step)
    ]
    client = MlflowClient(tracking_uri=store)
    run = client.get_run(str(state.run_id))
    assert run.info.status == "FINISHED"
    assert [(output.model_id, output.step) for output in run.outputs.model_outputs] == [(model.model_id, facts.step)]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_loss")] == [10, 20]


def test_an_older_server_has_the_run_without_its_model(
    trained: Path, store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the store takes no models nothing of the run is behind, and registering says what is missing."""
    monkeypatch.setattr(MlflowClient, "search_logged_models", refuse_models)
    state = mirrored(trained, store, fast)
    assert (state.error, state.closed) == (None, True)
    assert MlflowClient(tracking_uri=store).get_run(str(state.run_id)).info.status == "FINISHED"
    assert main(["register", str(trained), "--tracking-uri", store]) == 2
    assert "takes no registered models" in capsys.readouterr().err


def test_what_is_logged_is_code_and_data(
    trained: Path, store: str, fast: Pace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights in safetensors, tokenizer and config beside, a script; nothing pickled, nothing of the current folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("uv.lock", "pyproject.toml", ".python-version"):
        (elsewhere / name).write_text("")
    monkeypatch.chdir(elsewhere)
    mirrored(trained, store, fast)
    folder = files(logged(store)[0])
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "MLmodel", "served_model.py", "requirements.txt", "conda.yaml", "python_env.yaml", "input_example.json",
        "serving_input_example.json", "artifacts/model/model.safetensors", "artifacts/model/config.json",
        "artifacts/model/tokenizer.json",
    }  # fmt: skip
    assert not {Path(name).suffix for name in names} & CODE_OR_PICKLE
    assert {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()} == {
        "spectral-mlflow", "mlflow", "torch", "safetensors", "tokenizers", "numpy",
    }  # fmt: skip
    assert {path.name for path in elsewhere.iterdir()} == {"uv.lock", "pyproject.toml", ".python-version"}


def test_mlflow_loads_what_was_logged(trained: Path, store: str, fast: Pace) -> None:
    """Through MLflow the model writes what it writes without, each prompt for itself, and refuses what it refuses."""
    mirrored(trained, store, fast)
    folder = files(logged(store)[0])
    served = mlflow.pyfunc.load_model(str(folder))
    text_model = TextModel.load(trained / "model")
    params = {"max_tokens": 20, "temperature": 1.2, "top_k": 4, "top_p": 0.9, "seed": 3, "stop": ["wave", "\n"]}
    options = Sampling(20, 1.2, 4, 0.9, ("wave", "\n"), 3)
    prompts = ["the ", "and the"]
    assert served.predict(prompts, params=params) == [text_model.complete(prompt, options) for prompt in prompts]
    assert served.predict(["the "]) == [text_model.complete("the ", Sampling())]
    example = json.loads((folder / "serving_input_example.json").read_text())
    assert served.predict(example["inputs"], params=example["params"])[0].startswith(example["inputs"][0])
    assert served.metadata.load_input_example(str(folder)) == example["inputs"]
    for params, words in (
        ({"temperature": -1.0}, "temperature: given -1.0; allowed: 0"),
        ({"stop": [""]}, "stop: given an empty text"),
        ({"max_tokens": "many"}, "max_tokens"),
    ):
        with pytest.raises(MlflowException, match=words) as refused:
            served.predict(["the "], params=params)
        assert refused.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="does not know: 'é'"):
        served.predict(["é"])


def test_a_model_is_logged_once(trained: Path, store: str, fast: Pace) -> None:
    """However often a run is sent, and by whom, its model is there once; a better one is another model."""
    mirrored(trained, store, fast)
    (trained / "stores" / "mlflow.json").unlink()
    mirrored(trained, store, fast)
    (model,) = logged(store)
    improve(trained)
    (trained / "stores" / "mlflow.json").unlink()
    mirrored(trained, store, fast)
    assert {other.model_id for other in logged(store)} > {model.model_id}
    assert len(logged(store)) == 2


def test_a_model_that_cannot_be_sent_holds_up_nothing_else(
    trained: Path, store: str, fast: Pace, tmp_path: Path
) -> None:
    """The run is closed with its status; the next sync completes the same model."""
    obstacle = tmp_path / "store" / "mlruns" / "spectral" / "models"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file where the folder of models should be")
    state = mirrored(trained, store, fast)
    assert state.error is not None
    client = MlflowClient(tracking_uri=store)
    assert client.get_run(str(state.run_id)).info.status == "FINISHED"
    assert [str(model.status) for model in logged(store)] == ["PENDING"]
    obstacle.unlink()
    (result,) = sync.sync([trained], store)
    assert result.complete
    (model,) = logged(store)
    assert str(model.status) == "READY"
    assert len(client.get_run(str(state.run_id)).outputs.model_outputs) == 1


def test_a_damaged_model_is_left_out(trained: Path, store: str, fast: Pace, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and the run is sent all the same."""
    (trained / "model" / "model.safetensors").write_bytes(b"")
    state = mirrored(trained, store, fast)
    assert (state.error, state.closed) == (None, True)
    assert logged(store) == []
    assert "model.safetensors changed since it was written" in caplog.text


def test_registering(trained: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A model becomes version 1 and stays that however often it is registered; a better one becomes version 2."""
    command = ["register", trained.name, "--tracking-uri", store]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "spectral-wave version 1\n" in out
    assert "mlflow models serve -m models:/spectral-wave/1 --env-manager local" in out
    assert main([*command, "--alias", "champion"]) == 0
    assert "mlflow models serve -m models:/spectral-wave@champion --env-manager local" in capsys.readouterr().out
    assert len(versions(store)) == len(logged(store)) == 1
    client = MlflowClient(tracking_uri=store)
    assert client.get_model_version_by_alias("spectral-wave", "champion").run_id == logged(store)[0].source_run_id
    assert main([*command, "--name", "mine", "--alias", "best"]) == 0
    assert [version.version for version in versions(store, "mine")] == [1]
    assert client.get_run(logged(store)[0].source_run_id).info.status == "FINISHED"


def test_the_alias_follows_the_better_model(trained: Path, store: str) -> None:
    """When the best checkpoint is another one, registering exports it, makes version 2 and moves the alias."""
    command = ["register", trained.name, "--tracking-uri", store, "--alias", "champion"]
    assert main(command) == 0
    checkpoints = CheckpointManager(str(trained))
    checkpoints.mark_best(str(trained / "checkpoints" / "checkpoint_step_10.pt"))
    assert main(command) == 0
    client = MlflowClient(tracking_uri=store)
    assert int(client.get_model_version_by_alias("spectral-wave", "champion").version) == 2
    assert model_folder.read(trained / "model").step == 10
    checkpoints.mark_best(str(trained / "checkpoints" / "checkpoint_step_20.pt"))
    assert main(command) == 0
    assert int(client.get_model_version_by_alias("spectral-wave", "champion").version) == 1
    assert len(versions(store)) == 2


def test_a_killed_run_is_registered_too(trained: Path, store: str) -> None:
    """What its trainer did not export any more is exported now; the run stays KILLED in MLflow."""
    for path in (trained / "model").iterdir():
        path.unlink()
    events = trained / "logs" / "events.jsonl"
    told = [event for event in journal.records(events) if event["event"] not in ("model", "end")]
    events.write_bytes(b"".join(map(journal.encode, told)))
    assert main(["register", trained.name, "--tracking-uri", store]) == 0
    (version,) = versions(store)
    assert MlflowClient(tracking_uri=store).get_run(version.run_id).info.status == "KILLED"


def closed_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_store_that_is_down_is_a_failure(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a bounded time the exit code is 1, and the line says what does not answer."""
    started = time.monotonic()
    assert main(["register", trained.name, "--tracking-uri", f"http://127.0.0.1:{closed_port()}"]) == 1
    assert time.monotonic() - started < 60
    assert "is not registered" in capsys.readouterr().err
    assert (trained / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--alias", "latest"], "--alias: given 'latest'"),
        (["--alias", "V2"], "--alias: given 'V2'"),
        (["--alias", ""], "--alias: given ''"),
        (["--alias", "the best"], "--alias: given 'the best'"),
        (["--name", "a/b"], "--name: given 'a/b'"),
        (["--name", "it's"], "--name: given"),
        (["--tracking-uri", "ftp://host"], "tracking URI: given 'ftp://host'"),
        (["--version", "3"], "which this command does not take"),
    ],
    ids=str,
)
def test_a_mistake_is_told_before_any_work(
    trained: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, and nothing is written."""
    before = sorted(path for path in trained.rglob("*"))
    assert main(["register", trained.name, *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert sorted(path for path in trained.rglob("*")) == before


def test_what_has_no_model_cannot_be_registered(
    trained: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such run, no whole checkpoint, no registry in the store: one line each, exit code 2."""
    assert main(["register", "nobody"]) == 2
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "ftp://host")
    assert main(["register", trained.name, "--tracking-uri", store]) == 2
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    for path in (trained / "checkpoints").iterdir():
        path.unlink()
    assert main(["register", trained.name, "--tracking-uri", store]) == 2
    lines = capsys.readouterr().err.splitlines()
    for line, words in zip(lines, ("no run 'nobody'", "no registered models", "no whole checkpoint"), strict=True):
        assert words in line
