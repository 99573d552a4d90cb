"""The command line as a person meets it: real processes, exit codes, and one line for each mistake."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spectral_mlflow.cli import main

ROOT = Path(__file__).parent.parent
SMALL = (
    "--model.d_model 16 --model.num_layers 1 --model.num_heads 2 --model.block_size 16 --batch_size 4 --steps 6 "
    "--monitoring.eval_interval 3 --monitoring.sample_tokens 8 --runtime.threads 1 --training.warmup_steps 2"
).split()
PLAIN = [*SMALL, "--monitoring.viz_interval", "0"]


def spectral(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the test's own home."""
    return subprocess.run(
        [sys.executable, "-m", "spectral_mlflow", *arguments],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=300,
    )  # fmt: skip


def losses(run: Path) -> list[float]:
    """The loss of every step of a run."""
    return [json.loads(line)["loss"] for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text of the user's."""
    path = tmp_path / "corpus.txt"
    path.write_text("the wave and the phase and the beat " * 60)
    return path


def mistakes(tmp_path: Path) -> Iterator[tuple[list[str], str]]:
    """What a user may get wrong, and what the line must name."""
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("a few words")
    (tmp_path / "file").write_text("")
    text = ["--dataset", "text", "--dataset.path"]
    yield ["--stepz", "3"], "unknown setting stepz; did you mean steps?"
    yield ["--steps", "abc"], "training.steps: given 'abc'; allowed: integer"
    yield ["--model.d_model", "130"], "model.d_model: given 130, which num_heads=4 does not divide"
    yield [*text, str(tmp_path / "none.txt")], "none.txt"
    yield [*text, str(tmp_path / "empty.txt")], "empty"
    yield [*text, str(tmp_path / "short.txt")], "block_size"
    yield ["--dataset", "python-docs", "--monitoring.experiments_dir", str(tmp_path / "file" / "x")], "file/x"
    yield ["--model", "quantum"], "model.type: given 'quantum'; allowed: 'wave' or 'standard'"
    yield ["--monitoring.tracking_uri", "ftp://host/x"], "ftp"
    yield ["--config", str(tmp_path / "none.json")], "none.json cannot be read"
    yield ["--resume", "nothing-of-that-name"], "no run 'nothing-of-that-name'"
    yield ["steps=3"], "--setting value"
    yield ["--steps"], "steps"
    yield [*text, "two\nlines"], "two lines"
    yield ["--resume", "latest", "--dry-run"], "--resume: given with --config or --dry-run"
    yield ["--dry-run", "perhaps"], "--dry-run: given 'perhaps'; allowed: true or false"


@pytest.mark.parametrize("number", range(16))
def test_a_mistake_costs_nothing(tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, exit code 2, and no run directory."""
    arguments, message = list(mistakes(tmp_path))[number]
    assert main(["train", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("spectral: ")
    assert message in line
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize("command", ["", "train", "resume", "list", "sync", "sample", "register", "paper"])
def test_help_explains(command: str) -> None:
    """Every command has a help that ends with exit code 0."""
    done = spectral(*command.split(), "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout
    assert len(done.stdout) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "many"], "invalid int value: 'many'"),
        (["--temperature", "-1"], "temperature: given -1.0"),
        (["--top-k", "0"], "top_k: given 0"),
        (["--top-p", "2"], "top_p: given 2.0"),
        (["--stop", ""], "stop: given an empty text"),
        (["--seed", "-1"], "seed: given -1"),
        (["--length", "3"], "which this command does not take"),
    ],
    ids=str,
)
def test_a_mistake_in_sampling_comes_before_any_work(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told in one line, whether or not there is a run."""
    assert main(["sample", "latest", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_no_command_is_a_mistake_of_one_line() -> None:
    """The line points to the help."""
    done = spectral()
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["spectral: the following arguments are required: COMMAND (see spectral --help)"]


def test_train_list_sample_resume_and_again(tmp_path: Path, corpus: Path) -> None:
    """The way of a run, from training it to repeating it from its config.json."""
    done = spectral("train", *PLAIN, "--dataset", "text", "--dataset.path", str(corpus), "--monitoring.stores", "none")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "experiments").iterdir()
    for shown in ("validation loss", str(run), "completed"):
        assert shown in done.stdout
    listed = spectral("list").stdout
    assert run.name in listed
    assert "FINISHED" in listed
    assert {path.name for path in (run / "model").iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    sampled = spectral("sample", "latest", "--prompt", "the ", "--tokens", "40").stdout
    assert sampled.startswith("the ")
    assert len(sampled) == 45
    cut = spectral("sample", "latest", "--prompt", "the ", "--tokens", "40", "--stop", "~", "--stop", sampled[9:11])
    assert cut.stdout == sampled[: sampled.index(sampled[9:11], 4)] + "\n"
    assert "already done" in spectral("resume", run.name[:10]).stderr
    assert spectral("resume", run.name, "--steps", "8", "--profile").returncode == 0
    assert "no trace of operators" in (run / "logs" / "training.log").read_text()
    again = spectral("train", "--config", str(run / "config.json"))
    assert again.returncode == 0, again.stderr
    other = next(path for path in (tmp_path / "experiments").iterdir() if path != run)
    assert losses(run)[:6] == losses(other)


def test_ctrl_c_leaves_things_whole(tmp_path: Path, corpus: Path) -> None:
    """SIGINT finishes the step, saves, ends as KILLED with exit code 130 and says how to go on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spectral_mlflow", "train", *PLAIN, "--steps", "100000", "--dataset", "text",
         "--dataset.path", str(corpus), "--monitoring.stores", "none"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    journal: list[Path] = []
    while not journal or not journal[0].stat().st_size:
        assert process.poll() is None, process.communicate()
        journal = list((tmp_path / "experiments").glob("*/logs/metrics.jsonl"))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    run = journal[0].parent.parent
    assert f"spectral resume {run.name}" in output
    end = json.loads((run / "logs" / "events.jsonl").read_text().splitlines()[-1])
    assert (end["event"], end["status"], end["reason"]) == ("end", "KILLED", "SIGINT")
    last = json.loads(journal[0].read_text().splitlines()[-1])["step"]
    assert (run / "checkpoints" / f"checkpoint_step_{last}.pt").is_file()


# mlflow run


def mlflow_run(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    """`mlflow run` of this project into a store of the test, and a client of that store."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mlflow"), "run", str(ROOT), "--env-manager", "local", *arguments],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    return done, MlflowClient(uri)


def test_the_main_job(tmp_path: Path, corpus: Path) -> None:
    """`mlflow run . -P model=standard -P key=value` is one FINISHED run with metrics, params and artifacts."""
    settings = zip(SMALL[::2], SMALL[1::2], strict=True)
    given = [part for name, value in settings for part in ("-P", f"{name.removeprefix('--')}={value}")]
    done, client = mlflow_run(
        tmp_path, "-P", "model=standard", *given, "-P", "dataset=text", "-P", f"dataset.path={corpus}"
    )
    assert done.returncode == 0, done.stderr
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["spectral.kind"] == "train"
    assert run.data.params["training.steps"] == "6"
    (directory,) = (tmp_path / "experiments").iterdir()
    assert run.info.run_name == directory.name
    for line in (directory / "logs" / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "loss")}
        assert history[record["step"]] == record["loss"]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"config.json", "results.json", "checkpoints", "visualizations", "samples", "logs"} <= artifacts
    assert run.inputs.dataset_inputs[0].dataset.name == "text"
    (model,) = client.search_logged_models(["0"])
    assert (str(model.status), model.source_run_id) == ("READY", run.info.run_id)


def test_a_mistake_under_mlflow_run_is_a_failed_run_with_a_reason(tmp_path: Path) -> None:
    """The run exists by then: it ends FAILED, and a tag says why."""
    done, client = mlflow_run(tmp_path, "-P", "steps=abc")
    assert done.returncode != 0
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FAILED"
    assert "training.steps: given 'abc'" in run.data.tags["spectral.error"]
    assert not (tmp_path / "experiments").exists()


def test_a_run_goes_on_under_mlflow_run(tmp_path: Path, corpus: Path) -> None:
    """By its entry point and by `-P resume=` the run in MLflow goes on, each step once; those around are wrappers."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = spectral("train", *PLAIN, "--dataset", "text", "--dataset.path", str(corpus), MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "experiments").iterdir()
    done, client = mlflow_run(tmp_path, "-e", "resume", "-P", f"run={directory.name}", "-P", "training.steps=8")
    assert done.returncode == 0, done.stderr
    done, client = mlflow_run(tmp_path, "-P", f"resume={directory.name}", "-P", "training.steps=10")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "experiments").iterdir()) == [directory]
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    kinds = {run.info.run_id: run.data.tags["spectral.kind"] for run in runs}
    assert sorted(kinds.values()) == ["train", "wrapper", "wrapper"]
    (run,) = [run for run in runs if kinds[run.info.run_id] == "train"]
    pause, deadline = threading.Event(), time.monotonic() + 120
    while client.get_run(run.info.run_id).info.status != "FINISHED":  # A busy machine keeps the companion waiting.
        assert time.monotonic() < deadline
        pause.wait(0.2)
    for name in ("loss", "learning_rate"):
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted(point.step for point in history) == list(range(1, 11))
