"""A loop of somebody else is kept and watched like one of this package."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectral_mlflow import journal, track
from spectral_mlflow.errors import UserError
from spectral_mlflow.training.own_loop import OwnLoop

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_loop.py"
QUIET = {"stores": [], "code_snapshot": False, "system_interval": 0, "checkpoint_interval": 4}


def parts(seed: int = 0) -> dict[str, Any]:
    """A model, its optimizer and its scheduler."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return {"model": model, "optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5)}


def loss_of(model: nn.Module, step: int) -> Tensor:
    """Squared error on the batch of a step."""
    inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
    return (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()


def started(steps: int = 12, *, monitoring: Mapping[str, Any] = QUIET, **further: Any) -> OwnLoop:
    """A run that is about to begin."""
    return track("mine", steps=steps, monitoring=monitoring, **{**parts(), **further})


def lines(run: OwnLoop) -> list[dict[str, Any]]:
    """Its journal of metrics."""
    return journal.records(run.tracker.run_dir / "logs" / "metrics.jsonl")


def events(run: OwnLoop, kind: str) -> list[dict[str, Any]]:
    """Its events of a kind."""
    told = journal.records(run.tracker.run_dir / "logs" / "events.jsonl")
    return [event for event in told if event["event"] == kind]


def trained(run: OwnLoop, *, until: int | None = None) -> OwnLoop:
    """The run, at its end or where it is left early."""
    with run:
        for step in run.steps():
            run.update(loss_of(run.state.model, step))
            if step % 6 == 0:
                run.log(val_loss=1 / step)
            if step == until:
                break
    return run


def test_the_example_runs_and_its_run_is_in_mlflow(tmp_path: Path) -> None:
    """The file in examples/, as it stands: run directory, profile, samples with their quality, and the store."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"SPECTRAL_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLE), "--steps", "100"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [run_dir] = (tmp_path / "experiments").iterdir()
    last = journal.records(run_dir / "logs" / "metrics.jsonl")[-1]
    assert {"loss", "val_loss", "grad/norm", "learning_rate", "data/tokens", "quality/distinct_2"} <= last.keys()
    results = json.loads((run_dir / "results.json").read_text())
    assert results["status"] == "completed"
    assert results["duration_seconds"] > 0
    profile = json.loads((run_dir / "artifacts" / "profile.json").read_text())
    assert {"data", "forward", "backward", "optimizer", "logging", "monitors"} <= {
        row["name"] for row in profile["sections"]
    }
    assert (run_dir / "samples" / "sample_step_100.txt").read_text()
    sync = [sys.executable, "-m", "spectral_mlflow", "sync"]  # Where the end did not wait long enough.
    subprocess.run(sync, env=environment, cwd=tmp_path, check=True, capture_output=True)
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [found] = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert found.info.status == "FINISHED"
    assert found.data.tags["spectral.kind"] == "own-loop"
    assert found.data.params["training.lr"] == "0.003"
    assert "train --config" not in found.data.tags["mlflow.note.content"]  # Which could not repeat it.
    assert len(client.get_metric_history(found.info.run_id, "loss")) == 100


def test_a_run_that_is_continued_is_the_same_run() -> None:
    """Losses, weights and learning rates of a run left early and continued are those of one never left."""
    whole = trained(started())
    left = trained(started(), until=7)
    again = trained(started(resume=left.tracker.experiment_id))
    assert [line["step"] for line in lines(again)] == list(range(1, 13))
    for name in ("loss", "grad/norm", "learning_rate"):
        assert [line[name] for line in lines(again)] == [line[name] for line in lines(whole)]
    ours, theirs = again.state.model.state_dict(), whole.state.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not events(again, "alert")


def test_what_was_best_is_kept() -> None:
    """The step with the lowest validation loss is the best checkpoint, and results.json has the newest metrics."""
    run = trained(started())
    results = json.loads((run.tracker.run_dir / "results.json").read_text())
    assert results["checkpoints"]["best"].endswith("checkpoint_step_12.pt")
    assert results["final_metrics"]["val_loss"] == pytest.approx(1 / 12)
    assert results["final_metrics"]["tracking_share"] > 0


def test_a_loss_that_is_not_finite_changes_no_weight() -> None:
    """It is caught before the optimizer steps, told of once, and the run goes on."""
    with started() as run:
        for step in run.steps():
            before = [parameter.clone() for parameter in run.state.model.parameters()]
            changed = run.update(loss_of(run.state.model, step) * (float("nan") if step == 5 else 1))
            assert changed == (step != 5)
            if step == 5:
                assert all(map(torch.equal, before, run.state.model.parameters()))
    assert [alert["kind"] for alert in events(run, "alert")] == ["non_finite"]
    assert run.state.skipped == 1


def test_a_loop_that_fails_is_told_as_failed() -> None:
    """The error is journaled, results.json says so, and the directory is let go of."""
    run = started()

    def fail() -> None:
        with run:
            for step in run.steps():
                run.update(loss_of(run.state.model, step))
                run.log(odd=1 / (step - 3))

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [event["status"] for event in events(run, "end")] == ["FAILED"]
    results = json.loads((run.tracker.run_dir / "results.json").read_text())
    assert (results["status"], results["error"]) == ("failed", "ZeroDivisionError: division by zero")


def test_a_signal_ends_the_run_whole() -> None:
    """The step is finished and saved, and the run goes on from there."""
    with started() as run:
        for step in run.steps():
            run.update(loss_of(run.state.model, step))
            if step == 6:
                os.kill(os.getpid(), signal.SIGTERM)
    assert [event["status"] for event in events(run, "end")] == ["KILLED"]
    assert run.tracker.checkpoints_step() == 6
    assert [line["step"] for line in lines(trained(started(resume="latest")))] == list(range(1, 13))


def test_an_anomaly_can_take_the_run_back() -> None:
    """With on_anomaly=rollback a learning rate that ruins the run is lowered from the last good checkpoint on."""
    with started(200, on_anomaly="rollback", monitoring={**QUIET, "checkpoint_interval": 20}) as run:
        for step in run.steps():
            if step == 120:
                with torch.no_grad():
                    for parameter in run.state.model.parameters():
                        parameter.mul_(300.0)
            run.update(loss_of(run.state.model, step))
    reactions = [alert["message"] for alert in events(run, "alert") if alert["kind"] == "reaction"]
    assert len(reactions) >= 1
    assert "back to the weights of step" in reactions[0]
    assert run.state.lr_scale < 1
    assert lines(run)[-1]["loss"] < 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "../up"}, "name: given '../up'"),
        ({"steps": 0}, "training.steps: given 0"),
        ({"on_anomaly": "panic"}, "training.on_anomaly: given 'panic'"),
        ({"monitoring": {"log_intervall": 3}}, "unknown setting monitoring.log_intervall"),
        ({"resume": "nothing-like-it"}, "nothing-like-it"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    """One line that names the setting, and no run directory."""
    with pytest.raises(UserError, match=said):
        track(**{"name": "mine", "steps": 3, **parts(), **given})
    assert not (tmp_path / "experiments").exists()


def test_a_run_without_a_whole_checkpoint_cannot_be_continued() -> None:
    """It says so in one line, and leaves the run as it is."""
    run = started()
    with pytest.raises(RuntimeError), run:
        raise RuntimeError
    with pytest.raises(UserError, match="no whole checkpoint"), started(resume="latest"):
        pass
    assert len(events(run, "resume")) == 0
