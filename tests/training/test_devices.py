"""Devices and precisions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig, RuntimeConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.training import devices, runner

CPU = torch.device("cpu")


def test_auto_takes_no_low_precision_on_a_cpu() -> None:
    """On a CPU precision auto is float32, whatever the CPU has, and nothing is to be warned of."""
    machine = devices.choose(RuntimeConfig(device="cpu"))
    assert (machine.device, machine.precision, machine.warning) == (CPU, torch.float32, None)
    with machine.autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
    assert not machine.scaler().is_enabled()


def test_bfloat16_is_obeyed_with_a_warning_where_it_is_slow() -> None:
    """Asked for on a CPU, matrix products are bfloat16; a CPU without the instructions is warned of."""
    machine = devices.choose(RuntimeConfig(device="cpu", precision="bfloat16"))
    with machine.autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
    assert (machine.warning is None) == devices.has_bfloat16(CPU)
    assert not machine.scaler().is_enabled()


def test_float16_is_refused_on_a_cpu(tiny: ExperimentConfig) -> None:
    """It is a mistake of one line, before any work."""
    with pytest.raises(UserError, match="runtime.precision: given 'float16' on device cpu"):
        runner.start(replace(tiny, runtime=replace(tiny.runtime, device="cpu", precision="float16")))


def test_a_run_says_what_it_used(tiny: ExperimentConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Device, precision and threads stand in config.json; a slow precision is an alert and a line on the console."""
    runtime = replace(tiny.runtime, device="cpu", precision="bfloat16", activation_checkpointing=True)
    run = runner.start(replace(tiny, runtime=runtime)).run_dir
    hardware = json.loads((run / "config.json").read_text())["hardware"]
    facts = {"device": "cpu", "precision": "bfloat16", "threads": 1, "float32_matmul_precision": "highest"}
    assert facts.items() <= hardware.items()
    alerts = [e for e in journal.records(run / "logs" / "events.jsonl") if e["event"] == "alert"]
    warned = [alert["message"] for alert in alerts if alert["kind"] == "precision"]
    assert len(warned) == (not devices.has_bfloat16(CPU))
    assert all(message in capsys.readouterr().err for message in warned)
    (run / "checkpoints" / "checkpoint_step_8.pt").unlink()
    runner.resume(run, {"runtime.precision": "float32"})
    alerts = [e["message"] for e in journal.records(run / "logs" / "events.jsonl") if e["event"] == "alert"]
    assert "the run used precision=bfloat16, now float32" in alerts
