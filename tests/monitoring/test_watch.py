"""Watch: what a loop tells it of a step reaches the journal, the log, the terminal and the monitors."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, MonitoringConfig
from spectral_mlflow.monitoring.epoch_means import EpochMeans
from spectral_mlflow.monitoring.monitor import Alert, Findings, Monitor, StepRecord
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.monitoring.watch import Watch

STEPS = 40


class Bench:
    """A run to be watched, and what it leaves."""

    def __init__(self, home: Path) -> None:
        self.monitoring = MonitoringConfig(
            experiments_dir=str(home), stores=(), code_snapshot=False, system_interval=3600.0
        )
        self.shown = io.StringIO()
        self.tracker: ExperimentTracker | None = None

    def watch(self, monitors: Mapping[str, Monitor] | None = None, **further: Any) -> Watch:
        """Begin."""
        self.tracker = ExperimentTracker(ExperimentConfig(monitoring=self.monitoring))
        return Watch(self.tracker, Progress(STEPS, stream=self.shown), monitors=monitors, **further)

    def run(self, name: str) -> Path:
        """A file of the run directory."""
        assert self.tracker is not None
        return self.tracker.run_dir / name

    def lines(self) -> list[dict[str, Any]]:
        """The metrics."""
        return journal.records(self.run("logs/metrics.jsonl"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Those of a kind."""
        return [event for event in journal.records(self.run("logs/events.jsonl")) if event["event"] == kind]

    def close(self) -> None:
        """Let go of the run."""
        if self.tracker:
            self.tracker.end_experiment()
            self.tracker.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A run that ends with the test."""
    made = Bench(tmp_path)
    yield made
    made.close()


class Remembers:
    """A monitor that keeps what it was shown, and says what it was told to say."""

    def __init__(self, says: Mapping[int, Findings] | None = None) -> None:
        self.seen: list[StepRecord] = []
        self.says = says or {}

    def observe(self, record: StepRecord) -> Findings:
        """Keep it."""
        self.seen.append(record)
        return self.says.get(record.step, Findings())

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        """Nothing."""


class Fails(Remembers):
    """A monitor with a bug."""

    def observe(self, record: StepRecord) -> Findings:
        """Raise."""
        raise ZeroDivisionError(f"at {record.step}")


def test_every_step_is_shown_and_journaled(bench: Bench) -> None:
    """Monitors see the metrics of each step with the sample of the system, which rides on one line only."""
    monitor = Remembers()
    with bench.watch({"one": monitor}) as watch:
        for step in (1, 2, 3):
            watch.step(step, {"loss": 1 / step}, seconds=0.5, scheduled_lr=0.1, updated=step != 2)
    assert [(seen.step, seen.metrics["loss"], seen.seconds, seen.scheduled_lr, seen.updated)
            for seen in monitor.seen] == [(1, 1.0, 0.5, 0.1, True), (2, 0.5, 0.5, 0.1, False),
                                          (3, 1 / 3, 0.5, 0.1, True)]  # fmt: skip
    assert ["system/rss_mb" in seen.metrics for seen in monitor.seen] == [True, False, False]
    assert [("loss" in line, "system/rss_mb" in line) for line in bench.lines()] == [
        (True, True), (True, False), (True, False)
    ]  # fmt: skip


def test_lines_are_as_rare_as_asked_and_lose_no_sample(bench: Bench) -> None:
    """With an interval, lines are written at its multiples, at evaluations, where asked and at the end."""
    bench.monitoring = replace(bench.monitoring, log_interval=7)
    monitor = Remembers()
    with bench.watch({"one": monitor}) as watch:
        for step in range(1, STEPS + 1):
            evaluation = {"val_loss": 2.0, "best_val_loss": 2.0} if step == 10 else {}
            watch.step(step, {"loss": 1.0, **evaluation}, write=step == 12)
    lines = bench.lines()
    assert [line["step"] for line in lines] == [7, 10, 12, 14, 21, 28, 35, 40]
    assert "system/rss_mb" in lines[0]
    assert len(monitor.seen) == STEPS
    assert "step 10  validation loss 2.0000  (best so far)" in bench.shown.getvalue()


def test_findings_join_the_line_and_alerts_are_told(bench: Bench) -> None:
    """A metric of a monitor is on the line of its step; an alert is an event, an entry and, but for info, a note."""
    spike = Alert("loss_spike", "critical", "loss 9 is 8 deviations up", "a bad batch", "training.on_anomaly=skip", 2)
    news = Alert("plateau", "info", "nothing moves")
    monitor = Remembers({3: Findings({"anomaly/score": 8.0}, [spike, news])})
    with bench.watch({"one": monitor}) as watch:
        found = [watch.step(step, {"loss": 1.0}) for step in (1, 2, 3)][-1]
    assert list(found.alerts) == [spike, news]
    assert [line.get("anomaly/score") for line in bench.lines()] == [None, None, 8.0]
    event, _ = bench.events("alert")
    assert [event[name] for name in ("step", "kind", "severity", "cause", "since")] == [
        3, "loss_spike", "critical", "a bad batch", 2,
    ]  # fmt: skip
    log = bench.run("logs/training.log").read_text()
    assert re.search(
        r"\[CRITICAL\] \[loss_spike\] loss 9 is 8 deviations up\n  - Cause: a bad batch\n  - Advice: ", log
    )
    assert "critical: loss 9 is 8 deviations up (training.on_anomaly=skip)\n" in bench.shown.getvalue()
    assert "nothing moves" not in bench.shown.getvalue()


def test_a_monitor_that_raises_is_told_of_once(bench: Bench) -> None:
    """It is not asked again, the other goes on, and so does the run."""
    monitor = Remembers()
    with bench.watch({"broken": Fails(), "one": monitor}) as watch:
        for step in (1, 2, 3):
            watch.step(step, {"loss": 1.0})
    messages = [event["message"] for event in bench.events("alert")]
    assert messages == ["monitor broken failed, training goes on without it: ZeroDivisionError: at 1"]
    assert bench.shown.getvalue().count("ZeroDivisionError") == 1
    assert len(monitor.seen) == len(bench.lines()) == 3


def test_the_log_says_the_same_as_the_events(bench: Bench) -> None:
    """Each entry of the loop is an event with its parts; epochs have their mean losses."""
    with bench.watch(epochs=EpochMeans(8)) as watch:
        watch.describe(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)))
        for step in range(1, STEPS + 1):
            watch.usage.add(files=2, augmented=1)
            watch.step(step, {"loss": float(step)})
        watch.finish(STEPS, {"Best": "none"})
    told = bench.events("log")
    log = bench.run("logs/training.log").read_text()
    for event in told:
        entry = [f"[{event['level']}] [{event['module']}] {event['message']}",
                 *[f"  - {key}: {text}" for key, text in event["fields"].items()]]  # fmt: skip
        assert "\n".join(entry) in log
    modules = [event["module"] for event in told]
    assert modules.count("training") == 20
    assert (modules[0], modules[-2:]) == ("model", ["completion", "profiler"])
    epochs = [event for event in told if event["module"] == "epoch"]
    assert [(event["fields"]["Epoch"], event["fields"]["Mean losses"]) for event in epochs][:2] == [
        ("1/5", "{loss: 4.50}"), ("2/5", "{loss: 12.50}"),
    ]  # fmt: skip
    assert told[0]["fields"] == {"Parameters": "11 (11 trained)", "Size": "0.00MB", "Parts": "0 8, 1 3"}
    second = next(event for event in told if event["module"] == "training" and event["message"].endswith("step 4"))
    assert second["fields"]["Files processed"] == "8 (4 augmented)"
    assert second["fields"]["Epoch"] == "1/5, Batch: 4/8"


def test_the_profile_is_an_artifact(bench: Bench) -> None:
    """Sections of the loop and of tracking itself are in profile.json, whose share of tracking the results get."""
    with bench.watch() as watch:
        for step in (1, 2):
            with watch.section("forward"), watch.section("evaluation"):
                pass
            watch.step(step, {"loss": 1.0}, seconds=2.0)
        results = watch.finish(2)
    profile = json.loads(bench.run("artifacts/profile.json").read_text())
    calls = {row["name"]: row["calls"] for row in profile["sections"]}
    assert calls == {"forward": 2, "evaluation": 2, "logging": 2, "monitors": 2, "system": 1}
    assert profile["tracking_share"] == results["tracking_share"] > 0
    kept = [event["path"] for event in bench.events("artifact")]
    assert kept == ["artifacts/profile.json", "artifacts/profile.md"]


def test_a_run_that_takes_no_step_has_an_end_too(bench: Bench) -> None:
    """Without a step tracking has no share of it."""
    with bench.watch() as watch:
        assert watch.finish(0) == {"tracking_share": 0.0}


def test_a_profile_that_cannot_be_kept_stops_nothing(bench: Bench) -> None:
    """A disk that refuses it is told of, and the share is still known."""
    with bench.watch() as watch:
        bench.run("artifacts").write_text("in the way")
        watch.step(1, {"loss": 1.0}, seconds=1.0)
        assert watch.finish(1)["tracking_share"] > 0
    assert ["the profile is not kept" in event["message"] for event in bench.events("alert")] == [True]


def test_operators_are_traced_on_request(bench: Bench) -> None:
    """`monitoring.profile` leaves a trace of three steps after the first five, and a table of operators."""
    bench.monitoring = replace(bench.monitoring, profile=True)
    with bench.watch() as watch:
        for step in range(1, 15):
            torch.nn.functional.softmax(torch.ones(3), 0)
            watch.step(step, {"loss": 1.0})
    kept = [event["path"] for event in bench.events("artifact")]
    assert kept == ["artifacts/trace_step_8.json.gz", "artifacts/operators_step_8.txt"]
    assert "aten::softmax" in bench.run(kept[1]).read_text()


def test_a_run_that_is_too_short_for_a_trace_says_so(bench: Bench) -> None:
    """Who asked for a trace of operators and gets none finds out why."""
    bench.monitoring = replace(bench.monitoring, profile=True)
    with bench.watch() as watch:
        for step in range(1, 8):
            watch.step(step, {"loss": 1.0}, seconds=1.0)
        watch.finish(7)
    assert [event["message"] for event in bench.events("log") if "trace" in event["message"]] == [
        "no trace of operators: it takes 8 steps of one process"
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_memory_of_a_gpu_that_is_not_there_is_a_metric_like_any_other(bench: Bench) -> None:
    """A loop that logs it on every machine goes on; the log has no field for it."""
    with bench.watch() as watch:
        watch.step(2, {"loss": 1.0, "gpu_memory_mb": 0.0}, seconds=1.0)
    assert bench.lines()[0]["gpu_memory_mb"] == 0.0
    text = bench.run("logs/training.log").read_text()
    assert "Memory: RAM" in text
    assert "GPU" not in text


def test_a_machine_that_tells_nothing_costs_one_alert(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not know this process, the run is watched without its memory."""
    monkeypatch.setattr(psutil, "Process", gone)
    with bench.watch() as watch:
        with watch.section("forward"):
            watch.step(1, {"loss": 1.0}, seconds=1.0)
        watch.finish(1)
    assert [event["kind"] for event in bench.events("alert")] == ["system"]
    assert "growth of memory is not known: NoSuchProcess" in bench.run("artifacts/profile.md").read_text()


def gone() -> None:
    """What psutil says of this process where there is no /proc."""
    raise psutil.NoSuchProcess(1)


def test_a_tensor_is_a_number_and_time_is_measured(bench: Bench) -> None:
    """A loop may hand over what it has; seconds that it does not tell are those between two calls."""
    monitor = Remembers()
    with bench.watch({"one": monitor}) as watch:
        for step in (1, 2):
            with watch.section("sample"):
                watch.entry("test", "something else")
            watch.step(step, {"loss": torch.tensor(0.5)})
    assert [seen.metrics["loss"] for seen in monitor.seen] == [0.5, 0.5]
    assert all(0 < seen.seconds < 60 for seen in monitor.seen)
    assert [line["loss"] for line in bench.lines()] == [0.5, 0.5]
