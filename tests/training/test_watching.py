"""The loop and what watches it: lines, log, results, reactions, and a count that goes on exactly."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.anomalies.detector import Sign
from spectral_mlflow.monitoring.monitor import Alert, Findings, Request, StepRecord
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.training import runner
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.gallery import Gallery
from spectral_mlflow.training.learner import Learner
from spectral_mlflow.training.loop import Outcome, Trainer
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.speed import Speed
from spectral_mlflow.training.watching import attach

MACHINE = Machine(torch.device("cpu"))


def lines(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of a run."""
    return journal.records(run_dir / "logs" / "metrics.jsonl")


def events(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [event for event in journal.records(run_dir / "logs" / "events.jsonl") if event["event"] == kind]


def changed(config: ExperimentConfig, training: Mapping[str, Any], **monitoring: Any) -> ExperimentConfig:
    """The same configuration with other settings of training and monitoring."""
    return replace(
        config, training=replace(config.training, **training), monitoring=replace(config.monitoring, **monitoring)
    )


class Asks:
    """A monitor that asks for something at one step."""

    def __init__(self, step: int, request: Request) -> None:
        self.step, self.request = step, request
        self.seen: list[StepRecord] = []

    def observe(self, record: StepRecord) -> Findings:
        """Ask."""
        self.seen.append(record)
        asks = record.step == self.step
        return Findings(alerts=[Alert("test", "critical", "it is bad", request=self.request)] if asks else [])

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        """Nothing."""


def run(config: ExperimentConfig, monitor: Asks | None = None, *, skip_at: int = 0) -> tuple[Outcome, Trainer]:
    """A run that is watched by one monitor more, and skips a step."""
    dataset = datasets.prepare(config.dataset, config.model.block_size)
    state = runner.new_state(config, dataset, MACHINE)
    watching = attach(config, dataset, state, MACHINE)
    if monitor:
        watching.monitors["asks"] = monitor
    tracker = ExperimentTracker(config)
    tracker.start_experiment(state.model)
    with Progress(config.training.steps) as progress, watching.watch(tracker, progress) as watch:
        learner = Learner(config, dataset, state, MACHINE, Speed(1, 1.0), would_skip=lambda *_: state.step == skip_at)
        trainer = Trainer(config, learner, watch, Gallery(config, dataset, state, watch, None))
        outcome = trainer.run(StopSignals())
    tracker.end_experiment()
    tracker.close()
    return outcome, trainer


def test_the_quality_of_a_sample_is_on_the_line_of_its_step(tiny: ExperimentConfig) -> None:
    """Samples are written and measured before the line, which the log names too; other lines have none."""
    finished = runner.start(changed(tiny, {}, viz_interval=8, sample_tokens=40))
    with_quality = [line["step"] for line in lines(finished.run_dir) if "quality/distinct_1" in line]
    assert with_quality == [8]
    log = (finished.run_dir / "logs" / "training.log").read_text()
    assert "  - Samples saved: samples/sample_step_8.txt\n" in log


def test_data_and_epochs_are_counted_on_exactly(tiny: ExperimentConfig) -> None:
    """A run that was cut and continued has seen what the whole one has, and the same means of its epochs."""
    config = changed(tiny, {"steps": 48})
    runs = [runner.start(config).run_dir for _ in range(2)]
    for path in runs[1].glob("checkpoints/checkpoint_step_*.pt"):
        if path.stem != "checkpoint_step_40":
            path.unlink()
    logs = runs[1] / "logs" / "metrics.jsonl"
    logs.write_bytes(b"".join(logs.read_bytes().splitlines(keepends=True)[:41]))
    runner.resume(runs[1], {})
    whole, cut = ({n: v for n, v in lines(path)[-1].items() if n.startswith("data/")} for path in runs)
    assert whole == cut
    assert whole["data/tokens"] == 48 * 4 * 16
    assert whole["data/files"] == 1
    told = [{e["message"]: e["fields"] for e in events(path, "log") if e["module"] == "epoch"} for path in runs]
    assert told[0]
    assert told[0] == told[1]


def test_the_log_and_the_results_tell_of_the_whole_run(tiny: ExperimentConfig) -> None:
    """Machine, model, evaluations, summary and profile are entries and events; the share of tracking is a result."""
    finished = runner.start(tiny)
    modules = [event["module"] for event in events(finished.run_dir, "log")]
    assert modules[:2] == ["machine", "model"]
    assert modules.count("evaluation") == 2
    assert modules[-2:] == ["completion", "profiler"]
    results = json.loads((finished.run_dir / "results.json").read_text())
    assert results["final_metrics"]["tracking_share"] > 0
    profile = json.loads((finished.run_dir / "artifacts" / "profile.json").read_text())
    assert {"data", "forward", "backward", "optimizer", "evaluation", "checkpoint", "logging", "monitors", "usage"} <= {
        row["name"] for row in profile["sections"]
    }


def test_what_is_not_yet_done_has_a_first_guess(tiny: ExperimentConfig) -> None:
    """Before there was a sample its time is a guess, for which no random number is drawn; plots cost none."""
    for tokens in (40, 0):
        config = changed(tiny, {}, viz_interval=8, sample_tokens=tokens)
        dataset = datasets.prepare(config.dataset, config.model.block_size)
        state = runner.new_state(config, dataset, MACHINE)
        before = torch.get_rng_state()
        pauses = attach(config, dataset, state, MACHINE).pauses
        assert torch.equal(before, torch.get_rng_state())
        assert (pauses["plots"].interval, pauses["plots"].seconds, pauses["plots"].after) == (8, 0, True)
        assert (pauses["sample"].interval, pauses["sample"].seconds > 0) == ((8, True) if tokens else (0, False))
        assert state.model.training


def test_the_update_is_measured_now_and_then(tiny: ExperimentConfig) -> None:
    """Every 25th step says how large its update is beside the parameters, and monitors see it."""
    monitor = Asks(0, "stop")
    _, trainer = run(changed(tiny, {"steps": 50}), monitor)
    found = {line["step"]: line["update/ratio"] for line in lines(trainer.tracker.run_dir) if "update/ratio" in line}
    assert found.keys() == {25, 50}
    assert all(0 < ratio < 1 for ratio in found.values())
    assert [seen.step for seen in monitor.seen if "update/ratio" in seen.metrics] == [25, 50]


def test_monitors_see_the_schedule_and_what_the_optimizer_has(tiny: ExperimentConfig) -> None:
    """Both are the learning rate of the step; a step that was skipped is not an update, and is counted."""
    monitor = Asks(0, "stop")
    _, trainer = run(tiny, monitor, skip_at=3)
    assert [seen.metrics["learning_rate"] for seen in monitor.seen] == [seen.scheduled_lr for seen in monitor.seen]
    assert [seen.step for seen in monitor.seen if not seen.updated] == [3]
    assert trainer.state.skipped == 1


@pytest.mark.parametrize("allowed", ["stop", "none"])
def test_a_stop_is_done_where_it_is_allowed(tiny: ExperimentConfig, allowed: str) -> None:
    """The run then ends as failed at that step, with a checkpoint; else the alert is all there is."""
    outcome, trainer = run(changed(tiny, {"on_anomaly": allowed}), Asks(5, "stop"))
    if allowed == "none":
        assert (outcome.status, trainer.state.step) == ("completed", 8)
        return
    assert (outcome.status, outcome.exit_code, trainer.state.step) == ("failed", 1, 5)
    assert "it is bad" in str(outcome.reason)
    assert trainer.tracker.saved_step() == 5


def test_a_rollback_takes_the_weights_of_the_last_good_step(tiny: ExperimentConfig) -> None:
    """The run goes on at a lower rate, with a checkpoint of the step at once, and says what was done."""
    config = changed(tiny, {"on_anomaly": "rollback", "steps": 12})
    outcome, trainer = run(config, Asks(6, "rollback"))
    assert outcome.status == "completed"
    assert (trainer.state.rollbacks, trainer.state.lr_scale) == (1, 0.5)
    run_dir = trainer.tracker.run_dir
    rates = {line["step"]: line["learning_rate"] for line in lines(run_dir)}
    assert rates[7] < 0.6 * rates[6]
    assert [event["step"] for event in events(run_dir, "checkpoint")] == [4, 6, 8, 12]
    assert [event["kind"] for event in events(run_dir, "alert")] == ["test", "reaction"]


class Raises(Anomalies):
    """Breaks at its third step."""

    def _alert(self, sign: Sign, step: int) -> Alert | None:
        if step == 3:
            raise RuntimeError("broken")
        return super()._alert(sign, step)


def test_a_monitor_that_broke_is_asked_nothing_more() -> None:
    """Neither whether to skip a batch."""
    anomalies = Raises(100)
    told = [StepRecord(step, {"loss": math.nan}, 0.1) for step in (1, 2, 3)]
    for record in told[:2]:
        anomalies.observe(record)
    assert anomalies.would_skip(math.nan, 1.0)
    with pytest.raises(RuntimeError):
        anomalies.observe(told[2])
    assert not anomalies.works
    assert not anomalies.would_skip(math.nan, 1.0)


@pytest.mark.parametrize("works", [True, False])
def test_a_step_that_is_not_finite_is_told_of_by_someone(tiny: ExperimentConfig, *, works: bool) -> None:
    """By the monitor of anomalies, with the cause; where it is off, by the loop."""
    config = changed(tiny, {"lr": 1e30, "grad_clip": 0.0, "warmup_steps": 0, "max_skipped": 3}, anomalies=works)
    told = {event["kind"] for event in events(runner.start(config).run_dir, "alert")}
    assert ("non_finite" in told, "non-finite" in told) == (works, not works)


def test_what_is_found_again_is_not_told_again(tiny: ExperimentConfig) -> None:
    """A run that was killed after an alert and before a checkpoint comes to the same step once more."""
    config = changed(tiny, {"lr": 1e30, "grad_clip": 0.0, "warmup_steps": 0, "max_skipped": 7},
                     checkpoint_interval=2, keep_last_n=9)  # fmt: skip
    run_dir = runner.start(config).run_dir
    before = events(run_dir, "alert")
    for path in run_dir.glob("checkpoints/checkpoint_step_*.pt"):
        if path.stem != "checkpoint_step_2":
            path.unlink()
    runner.resume(run_dir, {})
    assert [event for event in events(run_dir, "alert") if event["kind"] != "resume"] == before
    assert len({event["step"] for event in before}) > 1
