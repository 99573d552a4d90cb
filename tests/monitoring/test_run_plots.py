"""The plots of a run, drawn by a process of their own."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from spectral_mlflow import journal
from spectral_mlflow.journal import Journal
from spectral_mlflow.monitoring import plot_process
from spectral_mlflow.monitoring.model_arrays import path_of
from spectral_mlflow.monitoring.observation import observe
from spectral_mlflow.monitoring.plot_worker import Requests
from spectral_mlflow.monitoring.run_events import RunEvents
from spectral_mlflow.monitoring.run_plots import RunPlots
from spectral_mlflow.monitoring.structured_log import StructuredLog

WAVES = ("frequencies", "frequency_evolution", "phases", "harmonics", "wave_packets", "interference")
TRAINING = ("loss_curve", "training_dynamics")


class Waves(nn.Module):
    """Something with waves."""

    def __init__(self) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.linspace(0, 1, 8).view(4, 2))
        self.phases = nn.Parameter(torch.linspace(0, 6, 8).view(4, 2))
        self.amplitudes = nn.Parameter(torch.ones(4, 2, 3))


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

    def show(self, step: int, model: nn.Module | None = None) -> None:
        """As a loop does."""
        self.plots.look(step, model or Waves())
        self.plots.draw(step)

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
        run.show(step)
    assert run.finish() == 0
    assert run.drawn(0) == {*WAVES, "parameters"}  # Before the first step there is no training.
    assert run.drawn(4) in (set(WAVES), {*WAVES, *TRAINING, "wave_course"})  # The newer ones show the same of it.
    assert run.drawn(8) == {*WAVES, *TRAINING, "wave_course"}
    plots = run.told("plot")
    assert sorted(event["path"] for event in plots) == sorted(
        f"visualizations/{path.name}" for path in run.folder.glob("visualizations/*.png")
    )
    assert sorted(run.plots.paths) == sorted(event["path"] for event in plots)
    keys = {Path(event["path"]).name: event["key"] for event in plots if event["step"] == 8}
    assert keys["frequencies_step_8.png"] == "wave/frequencies"
    assert keys["training_dynamics_step_8.png"] == "training/dynamics"
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


def test_input_that_ends_ends_the_work() -> None:
    """Nobody waits for it then: what is left stays for whoever continues the run."""
    waiting = Requests(['{"step": 1}\n'])
    until(lambda: waiting.abandoned)
    assert list(waiting) == []


def test_the_process_ends_with_the_training(tmp_path: Path) -> None:
    """After kill -9 of whoever asked, nobody draws any more; the next trainer has the rest drawn."""
    run = Run(tmp_path / "run")
    run.show(4)
    process = run.plots._process._process
    assert process is not None
    worker = psutil.Process(process.pid)
    worker.suspend()
    run.show(8)
    assert process.stdin is not None
    process.stdin.close()  # As when the trainer is gone.
    worker.resume()
    assert process.wait(120) == 0
    assert len(run.told("overview")) < 2
    run.close()
    run.open()
    run.plots.catch_up(8)
    assert run.finish() == 0
    assert run.drawn(4) >= set(WAVES)
    assert run.drawn(8) >= {*WAVES, *TRAINING}
    run.close()
    run.open()
    run.plots.catch_up(8)
    assert run.plots._process._process is None  # Nothing was left.
    run.close()


def test_later_steps_of_an_interrupted_run_come_again(run: Run) -> None:
    """Only what lies before the step that a run goes on from is caught up with."""
    for step in (4, 8):
        observe(Waves()).save(path_of(run.folder / "visualizations", step))
    run.plots.catch_up(6)
    assert run.finish() == 0
    assert run.drawn(4)
    assert not run.drawn(8)


def test_a_process_that_died_is_told_of_and_replaced(run: Run) -> None:
    """The next set brings what the one before has lost."""
    run.show(4)
    process = run.plots._process._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    until(lambda: bool(run.alerts()))
    assert run.alerts() == ["the process that draws plots ended: logs/plots.log says why"]
    run.show(8)
    assert run.finish() == 0
    assert run.drawn(4) >= set(WAVES)
    assert run.drawn(8) >= {*WAVES, *TRAINING}


def test_a_process_that_dies_at_the_end_is_replaced_once(run: Run) -> None:
    """Nothing is lost when it dies after the last set was asked for."""
    run.show(4)
    process = run.plots._process._process
    assert process is not None
    process.kill()
    until(lambda: bool(run.alerts()))
    assert run.finish() == 0
    assert run.drawn(4) >= {*WAVES, *TRAINING}


def test_a_process_that_stands_still_is_not_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends without the plots of a process that says nothing, and tells so."""
    monkeypatch.setattr(plot_process, "SILENT_SECONDS", 0.2)
    run.show(4)
    process = run.plots._process._process
    assert process is not None
    psutil.Process(process.pid).suspend()
    assert run.finish() == 1
    assert run.alerts() == ["the process that draws plots said nothing for 0 s"]


def test_a_model_that_cannot_be_looked_at_has_the_plots_of_its_training(run: Run) -> None:
    """Whatever it raises is told once, and stops nothing; parts that only have such names are no waves."""

    class Odd(nn.Module):
        frequencies = phases = amplitudes = torch.ones(8)

    class Worse(nn.Module):
        @property
        def frequencies(self) -> Any:
            raise RuntimeError("not yet")

    for step, model in ((2, Odd()), (4, Worse()), (8, Worse())):
        run.show(step, model)
    assert run.finish() == 0
    assert run.drawn(8) == {*TRAINING, "wave_course"}
    assert [message for message in run.alerts() if "not yet" in message] == run.alerts()
    assert len(run.alerts()) == 1


def test_a_wait_may_be_ended(run: Run) -> None:
    """Who does not want to wait is told how many steps are left, and the process is gone."""
    run.show(4)
    process = run.plots._process._process
    assert process is not None
    psutil.Process(process.pid).suspend()
    assert run.plots.finish(stop=lambda: True, tell=lambda _: None) == 1
    assert process.poll() is not None


def test_a_model_without_waves_has_training_plots_and_a_note(run: Run) -> None:
    """The note is in the log once, and no alert."""
    for step in (4, 8):
        run.show(step, nn.Linear(2, 2))
    assert run.finish() == 0
    assert run.drawn(8) == {*TRAINING, "wave_course"}
    notes = [e["message"] for e in journal.records(run.folder / "logs" / "events.jsonl") if e["event"] == "log"]
    assert notes == ["wave plots left out: no part of Linear has frequencies, phases and amplitudes"]
    assert run.alerts() == []


def test_a_run_without_any_metric_is_drawn(tmp_path: Path) -> None:
    """The pictures say that there is nothing yet."""
    run = Run(tmp_path / "run", steps=0)
    run.show(4)
    assert run.finish() == 0
    assert run.drawn(4) == {*WAVES, *TRAINING, "parameters"}
    run.close()


def test_a_folder_that_cannot_be_written_is_told_of_once(run: Run) -> None:
    """Nothing is drawn, nothing raised; once it can be written, plots come."""
    (run.folder / "visualizations").write_text("in the way")
    for step in (1, 2):
        run.show(step)
    assert len(run.alerts()) == 1
    assert run.alerts()[0].startswith("plots of step 1 are left out: ")
    (run.folder / "visualizations").unlink()
    run.show(4)
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
