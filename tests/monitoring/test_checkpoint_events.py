"""What journal, log and results of a run tell of its checkpoints."""

from pathlib import Path
from typing import Any

import pytest
from checkpointing import trained

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, MonitoringConfig
from spectral_mlflow.monitoring import ExperimentTracker


def tracker(run_dir: Path | None = None, **monitoring: Any) -> ExperimentTracker:
    """One that writes a run without a companion."""
    config = ExperimentConfig(monitoring=MonitoringConfig(stores=(), code_snapshot=False, **monitoring))
    made = ExperimentTracker(config, run_dir=run_dir)
    made.start_experiment()
    return made


def end(run: ExperimentTracker) -> None:
    """Let go of the run directory."""
    run.end_experiment()
    run.close()


def save(run: ExperimentTracker, step: int, loss: float, *, wait: bool = True) -> str:
    """A checkpoint in the argument order of the tracker."""
    model, optimizer = trained(step)
    return run.save_checkpoint(model, optimizer, None, step, {"val_loss": loss}, wait=wait)


def told(run: ExperimentTracker) -> list[tuple[str, str]]:
    """Events of checkpoints, each with the name of its file."""
    events = journal.records(run.run_dir / "logs" / "events.jsonl")
    return [(event["event"], Path(event["path"]).stem) for event in events if event["event"].startswith("checkpoint")]


def test_events_tell_what_was_saved_and_what_was_removed() -> None:
    """In order, with size, sequence, digest and metrics; the settings of retention take effect."""
    run = tracker(keep_last_n=1, keep_best=1, keep_every=4)
    for step, loss in enumerate((2.0, 1.0, 3.0, 4.0, 5.0, 6.0), 1):
        save(run, step, loss)
    end(run)
    assert [(event, name.removeprefix("checkpoint_step_")) for event, name in told(run)] == [
        ("checkpoint", "1"), ("checkpoint", "2"), ("checkpoint_removed", "1"), ("checkpoint", "3"), ("checkpoint", "4"),
        ("checkpoint_removed", "3"), ("checkpoint", "5"), ("checkpoint", "6"), ("checkpoint_removed", "5"),
    ]  # fmt: skip
    newest = [e for e in journal.records(run.run_dir / "logs" / "events.jsonl") if e["event"] == "checkpoint"][-1]
    known = run.checkpoints.list_checkpoints()[0]
    assert newest["path"] == "checkpoints/checkpoint_step_6.pt"
    assert (newest["step"], newest["bytes"], newest["sequence"]) == (6, known.path.stat().st_size, 6)
    assert newest["digest"] == f"{known.algorithm}:{known.digest}"
    assert (newest["metrics"], newest["best"]) == ({"val_loss": 6.0}, False)


def test_end_waits_for_the_last_save() -> None:
    """A save that was only accepted is in the journal before the end is."""
    run = tracker()
    save(run, 1, 2.0, wait=False)
    end(run)
    events = [event["event"] for event in journal.records(run.run_dir / "logs" / "events.jsonl")]
    assert [event for event in events if event != "artifact"][-2:] == ["checkpoint", "end"]
    assert run.saved_step() == 1


def test_refused_checkpoint_is_an_alert() -> None:
    """It has no path and no event; the alert says which step and why."""
    run = tracker()
    assert run.saved_step() == -1
    run.checkpoints.directory.rmdir()
    run.checkpoints.directory.write_text("in the way")
    assert save(run, 3, 1.0) == ""
    assert run.saved_step() == -1
    alerts = [e for e in journal.records(run.run_dir / "logs" / "events.jsonl") if e["event"] == "alert"]
    assert [alert["message"] for alert in alerts] == ["checkpoint of step 3 skipped: Not a directory"]
    assert "checkpoint of step 3 skipped" in (run.run_dir / "logs" / "training.log").read_text()
    assert told(run) == []
    end(run)


def test_continued_run_tells_what_the_dead_one_could_not() -> None:
    """Files that were saved, and removed, without their events get them at the next start, once."""
    run = tracker(keep_last_n=9)
    for step in (1, 2, 3):
        save(run, step, 1.0)
    end(run)
    events = run.run_dir / "logs" / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(line for line in lines if b"checkpoint_step_3" not in line and b'"end"' not in line))
    (run.checkpoints.directory / "checkpoint_step_1.pt").unlink()
    before = len(told(run))
    run = tracker(run.run_dir, keep_last_n=9)
    assert told(run)[before:] == [("checkpoint_removed", "checkpoint_step_1"), ("checkpoint", "checkpoint_step_3")]
    end(run)
    before = len(told(run))
    end(tracker(run.run_dir, keep_last_n=9))
    assert len(told(run)) == before


@pytest.mark.parametrize("wait", [True, False])
def test_wait_is_in_the_log(wait: bool) -> None:
    """A save that had to wait for the one before is an entry of training.log, for people."""
    run = tracker()
    if not wait:
        run._checkpoint_events.waited(7, 1.25)
    for step in (1, 2):
        save(run, step, 1.0, wait=True)
    end(run)
    log = (run.run_dir / "logs" / "training.log").read_text()
    assert ("step 7 waited 1.2 s: the checkpoint before was still being written" in log) is not wait
