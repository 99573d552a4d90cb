"""A disk that is full, read-only or odd, under a real run: a small tmpfs, where this machine lets us mount one."""

import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hooked import spectral, tiny_arguments

from spectral_mlflow import journal
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.seal import Facts, SealingWriter

# From the end of one step to that of another there is not one free byte.
FILLED = """
import os
from pathlib import Path
from spectral_mlflow.training.learner import Learner
ballast = Path(os.environ["SPECTRAL_HOME"]) / "ballast"
def fill(learner):
    if learner.state.step == {first}:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
    elif learner.state.step == {last}:
        ballast.unlink()
hook(Learner, "step", fill, after=True)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no permission to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_run_outlives_a_full_disk(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full amid metrics, a checkpoint, plots and a sample: the run finishes, says so, and no line is missing."""
    monkeypatch.setenv("SPECTRAL_HOME", str(small_disk))
    intervals = {"monitoring.viz_interval": "40", "monitoring.checkpoint_interval": "20"}
    arguments = tiny_arguments(tmp_path / "corpus.txt", steps="80", **intervals)
    done = spectral("train", *arguments, hook=FILLED.format(first=5, last=77))
    assert done.returncode == 0, done.stderr
    (run,) = (small_disk / "experiments").iterdir()
    assert [line["step"] for line in journal.records(run / "logs" / "metrics.jsonl")] == list(range(1, 81))
    events = journal.records(run / "logs" / "events.jsonl")
    assert (events[-1]["event"], events[-1]["status"]) == ("end", "FINISHED")
    alerts = [event["message"] for event in events if event["event"] == "alert"]
    for subject in ("checkpoint of step 40 skipped", "the sample of step 40 is not kept"):
        assert any(subject in alert for alert in alerts), alerts
        assert subject in done.stdout
    assert "metrics.jsonl: [Errno 28] No space left on device; lines are kept in memory" in done.stderr
    text = (run / "logs" / "training.log").read_text()
    assert all(f"at step {step}\n" in text for step in range(4, 81, 4))
    assert not (run / "visualizations" / "loss_curve_step_40.png").exists()
    for name in ("results.json", "visualizations/loss_curve_step_80.png", "samples/sample_step_80.txt"):
        assert (run / name).stat().st_size, name
    checkpoint = CheckpointManager(str(run)).load_latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint["step"] == 80
    assert [path for path in run.rglob("*") if path.suffix == ".tmp"] == []


def test_a_disk_that_stays_full(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run finishes all the same, tells what is lost, and can be continued from what is whole."""
    monkeypatch.setenv("SPECTRAL_HOME", str(small_disk))
    arguments = tiny_arguments(tmp_path / "corpus.txt", steps="80")
    done = spectral("train", *arguments, hook=FILLED.format(first=5, last=-1))
    assert done.returncode == 0, done.stderr
    (run,) = (small_disk / "experiments").iterdir()
    steps = [line["step"] for line in journal.records(run / "logs" / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))
    assert 4 <= len(steps) < 80
    assert f"the last {80 - len(steps)} lines are lost" in done.stderr
    assert "results.json is not written" in done.stdout
    (small_disk / "ballast").unlink()
    done = spectral("resume", run.name)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in journal.records(run / "logs" / "metrics.jsonl")] == list(range(1, 81))


def test_a_disk_that_is_full_from_the_start(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any work the run is refused in one line that names its directory."""
    monkeypatch.setenv("SPECTRAL_HOME", str(small_disk))
    hook = (
        "import os\nfrom spectral_mlflow.monitoring.tracker import ExperimentTracker\n"
        "def fill(tracker):\n"
        "    try:\n"
        "        with open(os.environ['SPECTRAL_HOME'] + '/ballast', 'wb', buffering=0) as file:\n"
        "            while True: file.write(bytes(4096))\n"
        "    except OSError: pass\n"
        "hook(ExperimentTracker, '__init__', fill, after=True)\n"
    )
    done = spectral("train", *tiny_arguments(tmp_path / "corpus.txt"), hook=hook)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("spectral: ")]
    assert "cannot be written (No space left on device)" in line
    assert "Traceback" not in done.stderr


def test_a_directory_without_permission(small_disk: Path, trained: Path) -> None:
    """A run on a disk that became read-only is not continued, in one line."""
    run = small_disk / trained.name
    trained.rename(trained.with_name("moved"))
    subprocess.run(["cp", "-a", str(trained.with_name("moved")), str(run)], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = spectral("resume", str(run), "--steps", "12")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"run directory {run} cannot be written (Read-only file system)" in line


class Runs:
    """What must never be unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_checkpoint_that_would_run_code_is_refused(trained: Path, tmp_path: Path) -> None:
    """A bare pickle, and one with a digest that is right: `spectral resume` runs neither, and says so."""
    marker = tmp_path / "marker"
    folder = trained / "checkpoints"
    content = CheckpointManager(str(trained)).load_latest_checkpoint()
    assert content is not None
    for path in folder.iterdir():
        path.unlink()
    code = Runs(f"touch {marker}")
    (folder / "checkpoint_step_4.pt").write_bytes(pickle.dumps(content | {"config": code}))
    with (folder / "checkpoint_step_6.pt").open("wb") as file:
        writer = SealingWriter(file)
        torch.save(content | {"config": code}, writer)
        writer.finish(Facts(99, 6, journal.now()))
    done = spectral("resume", str(trained), "--steps", "12")
    assert done.returncode == 2, done.stderr
    assert "no whole checkpoint to continue from" in done.stderr
    assert "checkpoint_step_6.pt: holds code or unknown types, which are never loaded" in done.stderr
    assert not marker.exists()
