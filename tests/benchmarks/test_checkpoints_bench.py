"""The program that measures what a checkpoint costs, at toy sizes."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks import checkpoints
from benchmarks.savers import SAVERS, State, Torch
from spectral_mlflow.monitoring import CheckpointManager

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(find_spec("zstandard") is None, reason="zstandard is not installed")
def test_every_way_to_save_has_a_row(tmp_path: Path) -> None:
    """Times, memory and sizes of all of them, judged by what is wanted."""
    model = torch.nn.Linear(40, 40)
    manager = CheckpointManager(str(tmp_path))
    path = manager.save_checkpoint(1, model, torch.optim.SGD(model.parameters()), [], {})
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.checkpoints", "--toy", "--rounds", "1", "--threads", "1",
         "--checkpoint", path, "--folder", str(tmp_path), "--json", str(found)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ratios, costs, smaller = json.loads(found.read_text())["tables"]
    assert [row[0] for row in costs["rows"]] == list(SAVERS)
    for row in costs["rows"]:
        assert all(math.isfinite(cell) and cell >= 0 for cell in row if not isinstance(cell, str))
    for _, value, wanted, reached in ratios["rows"]:
        assert reached == ("yes" if value <= float(wanted.removeprefix("at most ")) else "NO")
    assert [row[0] for row in smaller["rows"]][:2] == ["gzip, level 6", "ours: shuffled, zstd 1"]
    assert {item.name for item in tmp_path.iterdir()} == {"checkpoints", "found.json"}


def test_state_is_as_large_as_it_says(tmp_path: Path) -> None:
    """Parameters and both moments of AdamW, as plain torch saves them."""
    state = State(64, 2)
    Torch(state, tmp_path).save()
    saved = (tmp_path / "torch.pt").stat().st_size
    assert state.bytes == 3 * 4 * 2 * (64 * 64 + 64)
    assert state.bytes < saved < 1.2 * state.bytes


@pytest.mark.parametrize("option", ["--folder", "--checkpoint"])
def test_a_path_that_is_not_there_is_a_mistake(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line before any work, with exit code 2."""
    assert checkpoints.main([option, "no/such/place"]) == 2
    assert f"{option}: given 'no/such/place'" in capsys.readouterr().err
