"""A loop of somebody else is kept and watched like one of this package."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
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


def ended(run: OwnLoop) -> tuple[str, str | None]:
    """Status and reason of its end."""
    [end] = events(run, "end")
    return end["status"], end["reason"]


def test_a_loop_that_ends_with_its_data_has_no_step_more() -> None:
    """A step that was asked for and not worked on, as zip does, is none."""
    batches = range(6)
    with started() as run:
        for step, _ in zip(run.steps(), batches, strict=False):
            run.update(loss_of(run.state.model, step))
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5, 6]
    assert (run.state.step, run.tracker.checkpoints_step()) == (6, 6)


def test_a_loop_over_epochs_asks_for_its_steps_again() -> None:
    """The last step of each epoch is told of like the others."""
    with started() as run:
        for _ in range(3):
            for step in itertools.islice(run.steps(), 4):
                run.update(loss_of(run.state.model, step))
    assert [line["step"] for line in lines(run)] == list(range(1, 13))
    assert len(run.state.loss_history) == 12


@pytest.mark.parametrize("anomalies", [True, False])
def test_a_run_without_a_finite_loss_fails(anomalies: bool) -> None:
    """After ten such steps in a row it ends as a failure, and says why; also where nobody watches."""
    with started(100, monitoring={**QUIET, "anomalies": anomalies}) as run:
        for step in run.steps():
            run.update(loss_of(run.state.model, step) * float("nan"))
    assert ended(run) == ("FAILED", "10 steps in a row without a finite loss and gradient")
    assert run.status == "failed"
    assert events(run, "alert")[0]["kind"] == "non_finite"


def test_a_run_that_an_anomaly_stops_is_a_failure() -> None:
    """With on_anomaly=stop."""
    with started(100, on_anomaly="stop", schedule=lambda _: 0.05, scheduler=None) as run:
        for step in run.steps():
            if step == 60:
                run.state.optimizer.param_groups[0]["lr"] = 5.0
            run.update(loss_of(run.state.model, step))
    status, reason = ended(run)
    assert status == "FAILED"
    assert "stopped at step 6" in str(reason)


def test_after_a_rollback_the_scheduler_goes_on_where_it_was() -> None:
    """The learning rate is the scheduled one times what the rollback has left of it."""
    made = parts()
    made["scheduler"] = torch.optim.lr_scheduler.CosineAnnealingLR(made["optimizer"], 200)

    def schedule(step: int) -> float:
        return 0.05 * (1 + math.cos(math.pi * (step - 1) / 200)) / 2

    with track(
        "mine", steps=200, on_anomaly="rollback", monitoring={**QUIET, "checkpoint_interval": 20}, schedule=schedule,
        **made,
    ) as run:  # fmt: skip
        for step in run.steps():
            if step == 120:
                with torch.no_grad():
                    for parameter in run.state.model.parameters():
                        parameter.mul_(300.0)
            run.update(loss_of(run.state.model, step))
    assert run.status == "completed"
    assert run.state.rollbacks >= 1
    assert lines(run)[-1]["learning_rate"] == pytest.approx(schedule(200) * run.state.lr_scale)


def test_a_loop_that_takes_its_own_steps_cannot_be_rolled_back() -> None:
    """The lowered learning rate would not be obeyed, so that is refused at the first step."""
    run = started(on_anomaly="rollback")

    def own() -> None:
        with run:
            for step in run.steps():
                loss = loss_of(run.state.model, step)
                loss.backward()
                run.state.optimizer.step()
                run.log(loss=loss.item())

    with pytest.raises(UserError, match=r"run\.update"):
        own()


def test_a_scheduler_that_waits_for_the_validation_loss_gets_it() -> None:
    """ReduceLROnPlateau steps with each evaluation alone."""
    made = parts()
    made["scheduler"] = torch.optim.lr_scheduler.ReduceLROnPlateau(made["optimizer"], patience=0)
    with track("mine", steps=12, monitoring=QUIET, **made) as run:
        for step in run.steps():
            run.update(loss_of(run.state.model, step))
            if step % 4 == 0:
                run.log(val_loss=1.0)
    rates = [line["learning_rate"] for line in lines(run)]
    assert rates[:8] == [0.05] * 8
    assert rates[8:] == pytest.approx([0.005] * 4)


def test_a_loop_in_another_thread_is_kept_too() -> None:
    """It gets no signals there, which Python sends to the main thread."""
    done: list[OwnLoop] = []
    thread = threading.Thread(target=lambda: done.append(trained(started())))
    thread.start()
    thread.join()
    assert ended(done[0]) == ("FINISHED", None)


def test_how_far_an_update_goes_and_how_many_tokens_it_sees_is_measured() -> None:
    """The detectors of plateaus and of lost speed need both."""
    with started(25) as run:
        for step in run.steps():
            run.usage.add(tokens=16)
            run.update(loss_of(run.state.model, step))
    last = lines(run)[-1]
    assert 0 < last["update/ratio"] < 1
    assert last["tokens_per_sec"] > 0


def misused_closure() -> None:
    """An optimizer that computes the loss itself."""
    made = parts()
    made["optimizer"] = torch.optim.LBFGS(made["model"].parameters())
    with track("mine", steps=3, monitoring=QUIET, **{**made, "scheduler": None}) as run:
        for step in run.steps():
            run.update(loss_of(run.state.model, step))


def not_entered() -> None:
    """A run that is used without ``with``."""
    list(started().steps())


def entered_twice() -> None:
    """A run that has ended."""
    with trained(started()):
        pass


def another_optimizer() -> None:
    """A run that goes on with another kind."""
    trained(started(), until=5)
    made = parts()
    made["optimizer"] = torch.optim.AdamW(made["model"].parameters())
    with track("mine", steps=12, monitoring=QUIET, resume="latest", **{**made, "scheduler": made["scheduler"]}):
        pass


def settings_that_are_no_text() -> None:
    """A name that JSON cannot have."""
    started(settings={1: 2})


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (misused_closure, "LBFGS computes the loss itself"),
        (not_entered, "with track"),
        (entered_twice, "entered once"),
        (another_optimizer, "another optimizer"),
        (settings_that_are_no_text, "settings: given 1"),
    ],
    ids=["closure", "not entered", "twice", "optimizer", "settings"],
)
def test_misuse_is_told_in_a_line(misuse: Callable[[], None], said: str) -> None:
    """What was done, and what to do."""
    with pytest.raises(UserError, match=said):
        misuse()


def test_the_commands_for_runs_of_this_package_know_it(tmp_path: Path) -> None:
    """`train --config` and `resume` say that it goes on in its own program, instead of training something else."""
    run = trained(started(), until=5)
    for arguments in (["train", "--config", str(run.tracker.run_dir / "config.json")], ["resume", "latest"]):
        command = [sys.executable, "-m", "spectral_mlflow", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "track(..., resume=...)" in done.stderr
        assert "Traceback" not in done.stderr
