"""Signals at every moment of a run, in real processes."""

import json
import os
import signal
from pathlib import Path

import pytest
from hooked import spectral, tiny_arguments

from spectral_mlflow import journal
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.training.signals import StopSignals

HOOKS = {
    "before the first step": "from spectral_mlflow.monitoring.tracker import ExperimentTracker\n"
    "hook(ExperimentTracker, 'start_experiment', lambda tracker: signal.raise_signal(signal.SIGINT))",
    "in a step": "from spectral_mlflow.training.learner import Learner\n"
    "hook(Learner, 'step', lambda it: signal.raise_signal(signal.SIGTERM) if it.state.step == 4 else None, after=True)",
    "twice in a step": "from spectral_mlflow.training.learner import Learner\n"
    "def twice(learner):\n"
    "    if learner.state.step == 5:\n"
    "        signal.raise_signal(signal.SIGINT)\n"
    "        signal.raise_signal(signal.SIGINT)\n"
    "hook(Learner, 'step', twice)",
    "after the last step": "from spectral_mlflow.training.loop import Trainer\n"
    "hook(Trainer, 'results', lambda trainer: signal.raise_signal(signal.SIGTERM))",
    "in the drain": "from spectral_mlflow.monitoring.companion_process import CompanionProcess\n"
    "hook(CompanionProcess, 'wait', lambda companion: signal.raise_signal(signal.SIGINT))",
}  # fmt: skip

EXPECTED = {  # Exit code, status, reason, last step, newest checkpoint.
    "before the first step": (130, "KILLED", "SIGINT", 0, 0),
    "in a step": (143, "KILLED", "SIGTERM", 4, 4),
    "twice in a step": (130, "KILLED", "SIGINT, at once", 5, 4),
    "after the last step": (0, "FINISHED", None, 8, 8),
    "in the drain": (0, "FINISHED", None, 8, 8),
}  # fmt: skip


@pytest.mark.parametrize("moment", HOOKS)
def test_a_signal_leaves_things_whole(tmp_path: Path, moment: str) -> None:
    """The run ends truthfully, with its lines and a checkpoint, and says how to go on where there is more to do."""
    further = {"monitoring.stores": "mlflow", "monitoring.tracking_uri": "http://127.0.0.1:9"}
    arguments = tiny_arguments(tmp_path / "corpus.txt", **(further if moment == "in the drain" else {}))
    done = spectral("train", *arguments, hook=HOOKS[moment])
    code, status, reason, step, saved = EXPECTED[moment]
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (run,) = (tmp_path / "experiments").iterdir()
    end = journal.records(run / "logs" / "events.jsonl")[-1]
    assert (end["event"], end["status"], end["reason"], end["step"]) == ("end", status, reason, step)
    checkpoint = CheckpointManager(str(run)).load_latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint["step"] == saved
    lines = journal.records(run / "logs" / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, step + 1))
    goes_on = f"spectral resume {run.name}" in done.stdout + done.stderr
    assert goes_on == (status == "KILLED")
    if moment == "in the drain":
        assert "the store is behind" in done.stdout


def test_a_run_that_was_stopped_goes_on_by_itself(tmp_path: Path) -> None:
    """`--resume auto` starts a run, goes on with it while it is unfinished, and then starts another; each step once."""
    arguments = [*tiny_arguments(tmp_path / "corpus.txt"), "--resume", "auto"]
    first = spectral("train", *arguments, hook=HOOKS["before the first step"])
    assert "no unfinished run of these settings; starting a new one" in first.stderr
    (run,) = (tmp_path / "experiments").iterdir()
    second = spectral("train", *arguments, hook=HOOKS["in a step"])
    assert second.returncode == 143, second.stderr
    assert f"continuing {run.name}" in second.stderr
    third = spectral("train", *arguments)
    assert third.returncode == 0, third.stderr
    assert list((tmp_path / "experiments").iterdir()) == [run]
    assert [line["step"] for line in journal.records(run / "logs" / "metrics.jsonl")] == list(range(1, 9))
    turns = [e for e in journal.records(run / "logs" / "events.jsonl") if e["event"] in ("start", "resume", "end")]
    assert [e.get("status", e["event"]) for e in turns] == ["start", "KILLED", "resume", "KILLED", "resume", "FINISHED"]
    assert json.loads((run / "results.json").read_text())["status"] == "completed"


def test_a_run_that_was_stopped_shows_how_far_it_came(tmp_path: Path) -> None:
    """The plots of its last step are drawn, whatever the interval."""
    arguments = tiny_arguments(tmp_path / "corpus.txt", **{"monitoring.viz_interval": "100"})
    done = spectral("train", *arguments, hook=HOOKS["in a step"])
    assert done.returncode == EXPECTED["in a step"][0], done.stderr
    (run,) = (tmp_path / "experiments").iterdir()
    assert (run / "visualizations" / "training_dynamics_step_4.png").exists()


def test_only_a_second_sigint_stops_at_once() -> None:
    """The first signal of any kind is noted, and so is every SIGTERM; the handlers before come back."""
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert (signals.received, signals.exit_code, signals.count) == (signal.SIGTERM, 143, 2)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        signals.patient = True
        signal.raise_signal(signal.SIGINT)
        assert signals.count == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_killed_after_its_last_step_is_finished(tmp_path: Path) -> None:
    """With no step left to take, continuing draws what was not drawn and writes the results and the end."""
    killed = (
        "import os\nfrom spectral_mlflow.training.gallery import Gallery\n"
        "def kill(gallery):\n"
        "    if gallery._state.step:\n"
        "        gallery._tracker.checkpoints.wait()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "hook(Gallery, 'draw', kill)"
    )
    arguments = tiny_arguments(tmp_path / "corpus.txt", **{"monitoring.viz_interval": "8"})
    assert spectral("train", *arguments, hook=killed).returncode == -signal.SIGKILL
    (run,) = (tmp_path / "experiments").iterdir()
    assert not (run / "results.json").exists()
    done = spectral("resume", run.name)
    assert done.returncode == 0, done.stderr
    assert (run / "visualizations" / "loss_curve_step_8.png").exists()
    assert (run / "samples" / "sample_step_8.txt").exists()
    assert json.loads((run / "results.json").read_text())["final_metrics"]["final_step"] == 8
    assert [line["step"] for line in journal.records(run / "logs" / "metrics.jsonl")] == list(range(1, 9))
    assert spectral("resume", run.name).returncode == 2
