"""The plots of a run, drawn by a process of their own."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from spectral_mlflow import journal
from spectral_mlflow.journal import Journal
from spectral_mlflow.monitoring.model_arrays import ModelArrays, WaveArrays, path_of
from spectral_mlflow.monitoring.plot_worker import Requests
from spectral_mlflow.monitoring.run_events import RunEvents
from spectral_mlflow.monitoring.run_plots import RunPlots
from spectral_mlflow.monitoring.structured_log import StructuredLog

WAVES = ("frequencies", "frequency_evolution", "phases", "harmonics", "wave_packets", "interference")
TRAINING = ("loss_curve", "training_dynamics")


def arrays(kind: str = "Tiny", tokens: int = 4) -> ModelArrays:
    """Of a model with waves, or without any for no tokens."""
    draw = np.random.default_rng(0)
    waves = WaveArrays(
        draw.random((tokens, 2)),
        draw.random((tokens, 2)),
        draw.random((tokens, 2, 3)),
        draw.random(2),
        [1, 0],
        ["a", "b"],
    )
    return ModelArrays(kind, {"part": 3}, {"embedding": waves} if tokens else {})


class Run:
    """A run directory with a journal of metrics, and what is drawn of it."""

    def __init__(self, folder: Path, steps: int = 8) -> None:
        self.folder = folder
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        metrics = Journal(folder / "logs" / "metrics.jsonl")
        for step in range(1, steps + 1):
            metrics.append({"step": step, "timestamp": journal.now(), "loss": 3 / step, "wave_ratio": 0.5})
        metrics.close()
        self.open()

    def open(self) -> None:
        """As a trainer does, a new one or the next one."""
        told = journal.records(self.folder / "logs" / "events.jsonl")
        self.log = StructuredLog(self.folder / "logs" / "training.log")
        self.events = RunEvents(self.folder, self.log)
        self.plots = RunPlots(self.folder, self.events, told)

    def finish(self) -> int:
        """Wait for all; how many steps are left."""
        return self.plots.finish(stop=lambda: False, tell=lambda _: None)

    def close(self) -> None:
        """Let go of all."""
        self.plots.close()
        self.events.close()
        self.log.close()

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of artifacts of a kind."""
        events = journal.records(self.folder / "logs" / "events.jsonl")
        return [event for event in events if event.get("kind") == kind]

    def alerts(self) -> list[str]:
        """Messages of alerts."""
        events = journal.records(self.folder / "logs" / "events.jsonl")
        return [event["message"] for event in events if event["event"] == "alert"]

    def drawn(self, step: int) -> set[str]:
        """The plots of a step."""
        return {path.name.rpartition("_step_")[0] for path in self.folder.glob(f"visualizations/*_step_{step}.png")}


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """One whose process ends with the test."""
    made = Run(tmp_path / "run")
    yield made
    made.close()


def test_every_set_is_drawn_and_told(run: Run) -> None:
    """All plots of every step that was asked for are there at the end, each told with its step and its name."""
    for step in (0, 4, 8):
        run.plots.save(step, arrays())
    assert run.finish() == 0
    assert run.drawn(0) - {"parameters"} == set(WAVES)  # Before the first step there is no training.
    for step in (4, 8):
        assert run.drawn(step) - {"parameters"} == {*WAVES, *TRAINING, "wave_course"}
    assert len(list(run.folder.glob("visualizations/parameters_step_*.png"))) == 1
    plots = run.told("plot")
    assert sorted(event["path"] for event in plots) == sorted(
        f"visualizations/{path.name}" for path in run.folder.glob("visualizations/*.png")
    )
    assert sorted(run.plots.paths) == sorted(event["path"] for event in plots)
    keys = {Path(event["path"]).name: event["key"] for event in plots if event["step"] == 4}
    assert keys["frequencies_step_4.png"] == "wave/frequencies"
    assert keys["training_dynamics_step_4.png"] == "training/dynamics"
    assert {event["step"] for event in run.told("plot_data")} == {0, 4, 8}
    assert {event["step"] for event in run.told("overview")} == {0, 4, 8}
    assert (run.folder / "overview.html").exists()
    assert run.alerts() == []


def test_the_newest_step_comes_first_and_none_twice() -> None:
    """Steps that are late wait as numbers; when no more will come, the rest follows."""
    received, sent = os.pipe()
    with os.fdopen(received) as lines, os.fdopen(sent, "w", buffering=1) as requests:
        waiting = Requests(lines)
        print('{"step": 250}', file=requests)
        steps = iter(waiting)
        assert next(steps) == 250
        for step in (500, 750, 500):
            print(f'{{"step": {step}}}', file=requests)
        print('{"finish": true}', file=requests)
        until(lambda: waiting._finishing)
        assert list(steps) == [750, 500]
        assert not waiting.abandoned


def test_input_that_ends_without_a_word_ends_the_work() -> None:
    """The training is gone then: what waits stays for whoever continues it."""
    waiting = Requests(['{"step": 1}\n'])
    until(lambda: waiting.abandoned)
    assert list(waiting) == []


def test_the_process_ends_with_the_training(tmp_path: Path) -> None:
    """After kill -9 of whoever asked, nobody draws any more; the next trainer has the rest drawn."""
    run = Run(tmp_path / "run")
    run.plots.save(4, arrays())
    process = run.plots._process._process
    assert process is not None
    worker = psutil.Process(process.pid)
    worker.suspend()
    run.plots.save(8, arrays())
    assert process.stdin is not None
    process.stdin.close()  # As when the trainer is gone.
    worker.resume()
    assert process.wait(120) == 0
    assert len(run.told("overview")) < 2
    run.close()
    run.open()
    run.plots.catch_up(8)
    assert run.finish() == 0
    assert run.drawn(4) >= {*WAVES, *TRAINING}
    assert run.drawn(8) >= {*WAVES, *TRAINING}
    run.close()
    run.open()
    run.plots.catch_up(8)
    assert run.plots._process._process is None  # Nothing was left.
    run.close()


def test_later_steps_of_an_interrupted_run_come_again(run: Run) -> None:
    """Only what lies before the step that a run goes on from is caught up with."""
    for step in (4, 8):
        arrays().save(path_of(run.folder / "visualizations", step))
    run.plots.catch_up(6)
    assert run.finish() == 0
    assert run.drawn(4)
    assert not run.drawn(8)


def test_a_process_that_died_is_told_of_and_replaced(run: Run) -> None:
    """The next set brings what the one before has lost."""
    run.plots.save(4, arrays())
    process = run.plots._process._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    until(lambda: bool(run.alerts()))
    assert run.alerts() == ["the process that draws plots ended: logs/plots.log says why"]
    run.plots.save(8, arrays())
    assert run.finish() == 0
    for step in (4, 8):
        assert run.drawn(step) - {"parameters"} == {*WAVES, *TRAINING, "wave_course"}


def test_a_wait_may_be_ended(run: Run) -> None:
    """Who does not want to wait is told how many steps are left, and the process is gone."""
    run.plots.save(4, arrays())
    process = run.plots._process._process
    assert process is not None
    psutil.Process(process.pid).suspend()
    assert run.plots.finish(stop=lambda: True, tell=lambda _: None) == 1
    assert process.poll() is not None


def test_a_model_without_waves_has_training_plots_and_a_note(run: Run) -> None:
    """The note is in the log once, and no alert."""
    for step in (4, 8):
        run.plots.save(step, arrays("Linear", tokens=0))
    assert run.finish() == 0
    assert run.drawn(4) == run.drawn(8) == {*TRAINING, "wave_course"}
    notes = [e["message"] for e in journal.records(run.folder / "logs" / "events.jsonl") if e["event"] == "log"]
    assert notes == ["wave plots left out: no part of Linear has frequencies, phases and amplitudes"]
    assert run.alerts() == []


def test_a_run_without_any_metric_is_drawn(tmp_path: Path) -> None:
    """The pictures say that there is nothing yet."""
    run = Run(tmp_path / "run", steps=0)
    run.plots.save(4, arrays())
    assert run.finish() == 0
    assert run.drawn(4) == {*WAVES, *TRAINING, "parameters"}
    run.close()


def test_a_folder_that_cannot_be_written_is_told_of_once(run: Run) -> None:
    """Nothing is drawn, nothing raised; once it can be written, plots come."""
    (run.folder / "visualizations").write_text("in the way")
    for step in (1, 2):
        run.plots.save(step, arrays())
    assert len(run.alerts()) == 1
    assert run.alerts()[0].startswith("the plots of step 1 are left out: ")
    (run.folder / "visualizations").unlink()
    run.plots.save(4, arrays())
    assert run.finish() == 0
    assert run.drawn(4) >= set(TRAINING)


def test_damaged_arrays_leave_the_plots_of_the_training(run: Run) -> None:
    """An alert names the file."""
    path = path_of(run.folder / "visualizations", 4)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not an archive")
    run.plots.catch_up(4)
    assert run.finish() == 0
    assert run.drawn(4) == {*TRAINING, "wave_course"}
    assert len(run.alerts()) == 1
    assert "model_step_4.npz is damaged" in run.alerts()[0]
