"""``spectral checkpoints``."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spectral_mlflow.cli import main
from spectral_mlflow.monitoring import CheckpointManager


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with two checkpoints, the first one the best."""
    folder = tmp_path / "experiments" / "wave_20260131_120000_1a2b3c4d"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "events.jsonl").touch()
    (folder / "config.json").write_text("{}")
    manager = CheckpointManager(str(folder))
    model = torch.nn.Linear(30, 30)
    for step, loss in ((100, 1.25), (200, 1.5)):
        manager.save_checkpoint(
            step, model, torch.optim.SGD(model.parameters()), [], {}, metrics={"val_loss": loss}, best=step == 100
        )
    return folder


@pytest.mark.usefixtures("run")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Step, sequence, loss, marks and state of each, newest first."""
    assert main(["checkpoints", "wave"]) == 0
    _, newest, oldest, note = capsys.readouterr().out.splitlines()
    for line, words in ((newest, ("200", " 2 ", "1.5000", "latest", "sealed")), (oldest, ("100", "1.2500", "best"))):
        for word in words:
            assert word in line
    assert "--verify" in note


def test_verify_finds_damage(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole ones are called whole with exit code 0; a bit that changed is found with exit code 1."""
    assert main(["checkpoints", str(run), "--verify"]) == 0
    assert capsys.readouterr().out.count("whole") == 2
    path = run / "checkpoints" / "checkpoint_step_100.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert main(["checkpoints", str(run), "--verify"]) == 1
    shown = capsys.readouterr().out
    assert "damaged: does not agree with its digest" in shown
    assert "1 of 2 damaged; spectral resume takes the newest that is whole" in shown


def test_file_without_a_seal_is_damaged_at_a_glance(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was cut shows without --verify."""
    path = run / "checkpoints" / "checkpoint_step_200.pt"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["checkpoints", "latest"]) == 1
    assert "damaged: has no seal" in capsys.readouterr().out


def test_run_without_checkpoints(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so."""
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert main(["checkpoints", "latest", "--verify"]) == 0
    assert "no checkpoints in" in capsys.readouterr().out


@pytest.mark.usefixtures("run")
def test_unknown_run_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    assert main(["checkpoints", "nothing"]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err


def test_listing_needs_no_torch() -> None:
    """The modules behind the list and its verification leave torch alone."""
    code = (
        "import sys\n"
        "from spectral_mlflow.monitoring import checkpoint_list, compression, retention\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
