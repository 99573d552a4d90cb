"""Models that cannot be, asked for on the command line: real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

MISTAKES = {
    "--model quantum": "model.type: given 'quantum'; allowed: 'wave' or 'standard'",
    "--model.embedding quantum": "model.embedding: given 'quantum'; allowed: 'wave' or 'standard'",
    "--model.attention quantum": "model.attention: given 'quantum'; allowed: 'wave' or 'standard'",
    "--model.feedforward quantum": "model.feedforward: given 'quantum'; allowed: 'wave' or 'standard'",
    "--training.optimizer quantum": "training.optimizer: given 'quantum'; allowed: 'AdamW' or 'RGD'",
    "--training.loss quantum": "training.loss: given 'quantum'; allowed: 'CE' or 'QFE'",
    "--model.num_waves 0": "model.num_waves: given '0'; allowed: greater than or equal to 1",
    "--model.num_harmonics 0": "model.num_harmonics: given '0'; allowed: greater than or equal to 1",
    "--model.num_heads 0": "model.num_heads: given '0'; allowed: greater than or equal to 1",
    "--model.d_model 10 --model.num_heads 4": "model.d_model: given 10, which num_heads=4 does not divide; allowed: a",
    "--model.d_model 2 --model.num_heads 4": "model.d_model: given 2, which num_heads=4 does not divide; allowed: a",
    "--device tpu": "runtime.device: given 'tpu'; allowed: 'auto', 'cpu', 'cuda' or 'mps'",
}
ABSENT = [name for name in ("cuda", "mps") if not getattr(torch, name).is_available()]


def assert_refused(tmp_path: Path, arguments: str, message: str) -> None:
    """One line on stderr that says what is wrong, exit code 2, and nothing made."""
    done = subprocess.run(
        [sys.executable, "-m", "spectral_mlflow", "train", "--dataset", "python-docs", *arguments.split()],
        capture_output=True, text=True, timeout=300, env={**os.environ, "SPECTRAL_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_model_that_cannot_be_is_refused(tmp_path: Path, arguments: str) -> None:
    """Unknown components, nothing of something, a head size that does not go in: one line, and nothing is made."""
    assert_refused(tmp_path, arguments, MISTAKES[arguments])


@pytest.mark.parametrize("device", ABSENT)
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    """The line names the device and those that are there."""
    assert_refused(tmp_path, f"--device {device}", f"runtime.device: given '{device}', which this machine")
