"""A run from its settings to its results, and again from the middle."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.errors import UserError
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.repeats import REPEATABLE
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.sampling import Sampling
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.evaluation import perplexity, validation_loss
from spectral_mlflow.training.sampling import best


def lines(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of a run."""
    return journal.records(run_dir / "logs" / "metrics.jsonl")


def columns(run_dir: Path) -> list[dict[str, Any]]:
    """What must repeat to the last bit."""
    return [{name: line[name] for name in ("step", *REPEATABLE) if name in line} for line in lines(run_dir)]


def longer(config: ExperimentConfig, **changes: Any) -> ExperimentConfig:
    """The same configuration with other training settings."""
    return replace(config, training=replace(config.training, **changes))


def drawn(config: ExperimentConfig) -> ExperimentConfig:
    """The same configuration, with plots and a sample at the end."""
    return replace(config, monitoring=replace(config.monitoring, viz_interval=100))


def test_a_run_writes_its_directory(tiny: ExperimentConfig) -> None:
    """Journal, checkpoints, plots, sample, configuration and results are where the layout says."""
    finished = runner.start(drawn(tiny))
    run = finished.run_dir
    assert finished.outcome.status == "completed"
    assert [line["step"] for line in lines(run)] == list(range(1, 9))
    assert {path.name for path in (run / "checkpoints").iterdir()} >= {
        "checkpoint_step_4.pt", "checkpoint_step_8.pt", "checkpoint_latest.pt", "checkpoint_best.pt",
    }  # fmt: skip
    assert {path.name for path in (run / "visualizations").iterdir()} >= {
        "loss_curve_step_8.png", "training_dynamics_step_8.png", "frequencies_step_8.png", "phases_step_8.png",
        "harmonics_step_8.png",
    }  # fmt: skip
    assert (run / "samples" / "sample_step_8.txt").read_text() == finished.sample
    results = json.loads((run / "results.json").read_text())
    assert results["final_metrics"]["val_loss"] == lines(run)[-1]["val_loss"]
    assert results["dataset"]["sha256"] == json.loads((run / "config.json").read_text())["dataset"]["sha256"]
    events = [event["event"] for event in journal.records(run / "logs" / "events.jsonl")]
    assert (events[0], events[-1]) == ("start", "end")
    assert "Training started" in (run / "logs" / "training.log").read_text()


def test_plots_change_no_training(tiny: ExperimentConfig) -> None:
    """With dropout too, every loss is to the last bit that of a run of which nothing is shown."""
    shown = replace(tiny, model=replace(tiny.model, dropout=0.2))
    watched = replace(shown, monitoring=replace(shown.monitoring, viz_interval=3))
    assert columns(runner.start(watched).run_dir) == columns(runner.start(shown).run_dir)


def test_each_line_has_what_the_model_has(tiny: ExperimentConfig) -> None:
    """A wave model reports its ratio, QFE its coherence; evaluations ride on the line of their step."""
    line = lines(runner.start(longer(tiny, loss="QFE", optimizer="RGD")).run_dir)[-1]
    assert {"loss", "objective", "coherence_loss", "perplexity", "learning_rate", "wave_ratio", "grad/norm",
            "tokens_per_sec", "epoch", "data/tokens", "val_loss", "best_val_loss"} <= line.keys()  # fmt: skip
    assert line["objective"] == pytest.approx(line["loss"] + tiny.training.qfe_lambda * line["coherence_loss"])
    standard = lines(runner.start(replace(tiny, model=tiny.model.of_type("standard"))).run_dir)[-1]
    assert "wave_ratio" not in standard
    assert "coherence_loss" not in standard


def test_the_longest_name_can_run_dry() -> None:
    """What a dry run adds to the name leaves it within what is allowed."""
    assert runner.dry(build({"name": "a" * 80})).name == "a" * 76 + "-dry"


def test_the_same_seed_is_the_same_run(tiny: ExperimentConfig) -> None:
    """Twice the same settings give the same losses to the last bit; another seed does not."""
    first, second = (columns(runner.start(tiny).run_dir) for _ in range(2))
    assert first == second
    assert columns(runner.start(longer(tiny, seed=1)).run_dir) != first


@pytest.mark.parametrize("optimizer", ["AdamW", "RGD"])
def test_a_continued_run_is_the_same_run(tiny: ExperimentConfig, optimizer: str) -> None:
    """Continuing from a checkpoint repeats the uninterrupted run to the last bit, each step once."""
    config = longer(tiny, optimizer=optimizer, loss="QFE")
    config = replace(config, model=replace(config.model, dropout=0.1))
    whole = runner.start(config)
    cut = runner.start(config)
    (cut.run_dir / "checkpoints" / "checkpoint_step_8.pt").unlink()
    logs = cut.run_dir / "logs" / "metrics.jsonl"
    logs.write_bytes(b"".join(logs.read_bytes().splitlines(keepends=True)[:6]))
    runner.resume(cut.run_dir, {})
    assert columns(cut.run_dir) == columns(whole.run_dir)
    events = journal.records(cut.run_dir / "logs" / "events.jsonl")
    assert not [event for event in events if event["event"] == "alert"]
    ends = [CheckpointManager(str(run.run_dir)).load_latest_checkpoint() for run in (whole, cut)]
    one, other = (end["model_state_dict"] for end in ends if end)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_that_comes_out_differently_is_reported(tiny: ExperimentConfig) -> None:
    """When a recomputed step is not what the journal says, an alert names the columns."""
    run = runner.start(tiny).run_dir
    (run / "checkpoints" / "checkpoint_step_8.pt").unlink()
    logs = run / "logs" / "metrics.jsonl"
    changed = [line | ({"loss": 9.0} if line["step"] == 6 else {}) for line in lines(run)]
    logs.write_bytes(b"".join(map(journal.encode, changed)))
    runner.resume(run, {})
    alerts = [event for event in journal.records(run / "logs" / "events.jsonl") if event["event"] == "alert"]
    assert [alert["message"] for alert in alerts] == ["step 6 computed again differs in loss"]
    assert len(lines(run)) == 8


def test_resume_refuses_what_would_be_another_run(tiny: ExperimentConfig, tmp_path: Path) -> None:
    """Other settings, another corpus, nothing left to do or nothing to start from: one line each."""
    run = runner.start(drawn(tiny)).run_dir
    with pytest.raises(UserError, match=r"training.lr \(was 0.002, given 0.1\)"):
        runner.resume(run, {"training.lr": "0.1"})
    with pytest.raises(UserError, match="already done its 8 steps"):
        runner.resume(run, {"lr": "2e-3", "monitoring.stores": "none"})
    before = json.loads((run / "results.json").read_text())
    runner.resume(run, {"training.steps": "10"})
    assert [line["step"] for line in lines(run)] == list(range(1, 11))
    after = json.loads((run / "results.json").read_text())
    assert set(before["plots"]) < set(after["plots"])
    assert after["generation_samples"][:1] == before["generation_samples"]
    assert after["config_hash"] == before["config_hash"]
    for path in (run / "checkpoints").glob("*.pt"):
        path.unlink()
    with pytest.raises(UserError, match="no whole checkpoint"):
        runner.resume(run, {"training.steps": "12"})
    (tmp_path / "corpus.txt").write_text("another text " * 200)
    with pytest.raises(UserError, match="not what the run was trained on"):
        runner.resume(run, {"training.steps": "12"})


def test_what_a_continuation_changed_holds_for_the_next(tiny: ExperimentConfig) -> None:
    """A run that was made longer and then cut is continued to its new length."""
    run = runner.start(tiny).run_dir
    runner.resume(run, {"steps": "16"})
    for step in (12, 16):
        (run / "checkpoints" / f"checkpoint_step_{step}.pt").unlink()
    runner.resume(run, {})
    assert lines(run)[-1]["step"] == 16


def test_what_was_changed_back_is_back(tiny: ExperimentConfig) -> None:
    """The last continuation says how long a run is to be, also where that is what it was at first."""
    run = runner.start(longer(tiny, steps=12)).run_dir
    runner.resume(run, {"steps": "16"})
    for step in (12, 16):
        (run / "checkpoints" / f"checkpoint_step_{step}.pt").unlink()
    runner.resume(run, {"steps": "12"})
    assert changed_settings(journal.records(run / "logs" / "events.jsonl")) == {"training.steps": 12}


def test_a_continuation_adds_what_the_journal_lacks(tiny: ExperimentConfig) -> None:
    """Evaluations that a continued run makes on steps it computes again are journaled, without false alarms."""
    config = replace(tiny, monitoring=replace(tiny.monitoring, eval_interval=8))
    run = runner.start(config).run_dir
    (run / "checkpoints" / "checkpoint_step_8.pt").unlink()
    runner.resume(run, {"monitoring.eval_interval": "2"})
    assert sorted(line["step"] for line in lines(run) if "val_loss" in line) == [6, 8]
    values = [(line["step"], name) for line in lines(run) for name in line if name not in ("step", "timestamp")]
    assert len(values) == len(set(values))
    assert not [e for e in journal.records(run / "logs" / "events.jsonl") if e["event"] == "alert"]


def test_no_password_reaches_the_run_directory(tiny: ExperimentConfig) -> None:
    """Neither journals nor checkpoints hold the password of a store."""
    uri = "http://user:S3cr3tPw@127.0.0.1:9"
    run = runner.start(replace(tiny, monitoring=replace(tiny.monitoring, tracking_uri=uri)), tracking_uri=uri).run_dir
    holders = [path for path in run.rglob("*") if path.is_file() and b"S3cr3tPw" in path.read_bytes()]
    assert holders == []


def test_a_step_without_a_finite_gradient_is_skipped(tiny: ExperimentConfig) -> None:
    """The weights stay as they were, the run says so, and after N in a row it ends as failed."""
    config = longer(tiny, lr=1e30, grad_clip=0.0, warmup_steps=0, max_skipped=3)
    finished = runner.start(config)
    assert (finished.outcome.status, finished.outcome.exit_code) == ("failed", 1)
    assert "3 steps in a row" in str(finished.outcome.reason)
    assert finished.results["skipped_steps"] == 3
    checkpoint = CheckpointManager(str(finished.run_dir)).load_latest_checkpoint()
    assert checkpoint is not None
    assert all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint["model_state_dict"].values())


def test_a_run_without_finite_gradients_can_be_continued(tiny: ExperimentConfig) -> None:
    """It is given as many steps as before to find one."""
    failed = runner.start(longer(tiny, lr=1e30, grad_clip=0.0, warmup_steps=0, max_skipped=3))
    again = runner.resume(failed.run_dir, {})
    assert (again.outcome.status, again.results["skipped_steps"]) == ("failed", 6)


def test_early_stopping(tiny: ExperimentConfig) -> None:
    """A run that gets no better stops before its last step, completed."""
    config = longer(tiny, steps=400, lr=1e-12, early_stopping=2)
    finished = runner.start(config)
    assert finished.outcome.status == "completed"
    assert finished.results["final_step"] < 400
    assert "early stopping" in str(finished.outcome.reason)


def test_a_run_killed_as_it_stopped_early_takes_no_further_step(tiny: ExperimentConfig) -> None:
    """Where only its end was not written, continuing writes that; a finished one goes on when it is asked to."""
    finished = runner.start(longer(tiny, steps=400, lr=1e-12, early_stopping=2))
    run, step = finished.run_dir, finished.results["final_step"]
    events = run / "logs" / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))
    again = runner.resume(run, {})
    assert (again.outcome.status, again.results["final_step"]) == ("completed", step)
    assert [line["step"] for line in lines(run)] == list(range(1, step + 1))
    assert runner.resume(run, {}).results["final_step"] > step


def test_validation_loss_is_the_mean_over_every_target(tiny: ExperimentConfig) -> None:
    """The batched evaluation equals one window after the other, and leaves the model's mode alone."""
    data = datasets.prepare(tiny.dataset, tiny.model.block_size)
    model = gpt.build(replace(tiny.model, dropout=0.5), data.tokenizer.vocab_size, 0).train()
    fast = validation_loss(model, data.val, batch_size=7, machine=Machine(torch.device("cpu")))
    assert model.training
    model.eval()
    total, block = 0.0, tiny.model.block_size
    with torch.no_grad():
        for start in range(0, len(data.val) - 1, block):
            window = data.val[start : start + block + 1]
            logits = model(window[None, :-1])[0]
            total += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
    assert fast == pytest.approx(total / (len(data.val) - 1), abs=1e-5)


def test_perplexity_never_overflows() -> None:
    """A hopeless loss is an infinite perplexity, not an exception."""
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_sampling_from_a_run(tiny: ExperimentConfig) -> None:
    """The same seed writes the same text behind the prompt; unknown characters are a mistake."""
    run = runner.start(tiny).run_dir
    options = Sampling(max_tokens=12, seed=3)
    text = best(run).complete("wave ", options)
    assert text.startswith("wave ")
    assert len(text) == 17
    assert text == best(run).complete("wave ", options)
    with pytest.raises(UserError, match="é"):
        best(run).complete("é", options)
    with pytest.raises(UserError, match="at least one character"):
        best(run).complete("", options)


def test_a_device_that_is_not_there(tiny: ExperimentConfig) -> None:
    """It is refused by name before any work."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="runtime.device: given 'cuda'"):
        runner.start(replace(tiny, runtime=replace(tiny.runtime, device="cuda")))
